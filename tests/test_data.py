"""Labelled sets as they come: meta.json beside MVTec layout, masks that do not fit, paths that lead out, folders of the wrong kind."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import EdgeAgentError
from trainer.data.examples import Skipped, good_pictures, read_examples, readable


def picture(path: Path, side: int = 40, value: int = 120) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side, 3), value, np.uint8))


def meta(folder: Path, **entry: object) -> Path:
    rows = [
        {"img_path": "a/0.png", "mask_path": "", "specie_name": "good", "anomaly": 0},
        {"img_path": "a/1.png", "mask_path": "m/1.png", "specie_name": "dent", "anomaly": 1, **entry},
    ]
    (folder / "meta.json").write_text(json.dumps({"train": {}, "test": {"nut": rows}}))
    return folder


def test_a_meta_file_is_read_as_it_says(tmp_path):
    picture(tmp_path / "a/0.png")
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "m/1.png", value=255)
    good, bad = read_examples(meta(tmp_path))
    assert (good.category, good.kind, good.masks) == ("nut", "good", ())
    assert (bad.kind, bad.masks) == ("dent", (tmp_path / "m/1.png",))
    skipped: list[Skipped] = []
    (_, _, none), (_, pixels, whole) = readable([good, bad], skipped)
    assert none is not None
    assert whole is not None
    assert not none.any()
    assert whole.shape == pixels.shape[:2]
    assert whole.all()
    assert skipped == []


def test_a_meta_file_may_not_lead_out_of_its_folder(tmp_path):
    with pytest.raises(EdgeAgentError, match="leads out of"):
        read_examples(meta(tmp_path, img_path="../secret.png"))
    with pytest.raises(EdgeAgentError, match="anomaly"):
        read_examples(meta(tmp_path, anomaly=7))


def test_a_mask_that_does_not_fit_or_is_empty_leaves_its_picture_out(tmp_path):
    for number, (side, value) in enumerate([(20, 255), (40, 0)]):
        picture(tmp_path / f"test/dent/{number}.png")
        picture(tmp_path / f"ground_truth/dent/{number}_mask.png", side, value)
    skipped: list[Skipped] = []
    assert list(readable(read_examples(tmp_path), skipped)) == []
    assert ["20 x 20" in skipped[0].reason, "is empty" in skipped[1].reason] == [True, True]


def test_some_masks_without_the_others_are_an_error(tmp_path):
    for number in range(2):
        picture(tmp_path / f"test/dent/{number}.png")
    picture(tmp_path / "ground_truth/dent/0_mask.png", value=255)
    with pytest.raises(EdgeAgentError, match=r"1 defective pictures .* have no mask though others have one"):
        read_examples(tmp_path)


def test_folders_of_the_wrong_kind_are_told_what_is_wanted(tmp_path):
    picture(tmp_path / "plain/0.png")
    with pytest.raises(EdgeAgentError, match="--good"):
        read_examples(tmp_path / "plain")
    picture(tmp_path / "set/test/good/0.png")
    with pytest.raises(EdgeAgentError, match="looks like a labelled set"):
        good_pictures(tmp_path / "set")
    with pytest.raises(EdgeAgentError, match="no such folder"):
        good_pictures(tmp_path / "nowhere")
    assert [path.name for path in good_pictures(tmp_path / "plain")] == ["0.png"]


def test_a_meta_file_written_on_windows_is_read(tmp_path):
    picture(tmp_path / "a/0.png")
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "m/1.png", value=255)
    meta(tmp_path, img_path="a\\1.png", mask_path="m\\1.png")
    written = tmp_path / "meta.json"
    written.write_bytes(b"\xef\xbb\xbf" + written.read_bytes())
    _, bad = read_examples(tmp_path)
    assert (bad.picture, bad.masks) == (tmp_path / "a/1.png", (tmp_path / "m/1.png",))
    for outside in ("..\\secret.png", "C:\\secret.png"):
        with pytest.raises(EdgeAgentError, match="leads out of"):
            read_examples(meta(tmp_path, img_path=outside))
