"""What the agent has drawn itself is not inspected: known by its name, and by a mark that stays in a copy of another name."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.core import Evaluation, Frame
from edge_agent.errors import PictureError
from edge_agent.evidence.contact_sheet import ContactSheet
from edge_agent.evidence.store import EvidenceStore, Format
from edge_agent.io.drawings import is_drawing, is_marked
from edge_agent.io.pictures import decode
from edge_agent.replay.sheet import save_sheet
from edge_agent.sources.names import Names
from edge_agent.sources.stored import StoredSource
from tests.line import inspected
from tests.made import gradient, png


def evidence(folder: Path, fmt: Format = "jpg", pixels: np.ndarray | None = None) -> tuple[Path, Path]:
    """The original and the overlay that are kept of an inspection."""
    store = EvidenceStore(folder, originals="all", overlays="all", fmt=fmt)
    store.save(inspected(evaluation=Evaluation.NOT_OK, pixels=gradient(60, 80) if pixels is None else pixels))
    (overlay,) = folder.rglob(f"*_overlay.{fmt}")
    (original,) = set(folder.rglob("*.png")) - {overlay}
    return original, overlay


def frames(path: Path) -> list[Frame]:
    return list(StoredSource("cam1", [path]).frames(threading.Event()))


@pytest.mark.parametrize("fmt", ["jpg", "png", "webp"])
def test_an_overlay_is_known_by_its_name_and_its_original_is_a_picture(tmp_path: Path, fmt: Format) -> None:
    original, overlay = evidence(tmp_path, fmt)
    assert is_drawing(str(overlay))
    assert not is_drawing(str(original))
    assert not is_marked(original.read_bytes())
    assert decode(overlay).shape[1] >= 400, "the mark does not keep it from being shown"
    assert Names().match(str(original), str(tmp_path))
    assert not Names().match(str(overlay), str(tmp_path))
    assert not Names(("*.*",)).match(str(overlay), str(tmp_path))


@pytest.mark.parametrize("fmt", ["jpg", "png"])
def test_a_copy_of_an_overlay_under_another_name_is_not_decidable(tmp_path: Path, fmt: Format) -> None:
    _, overlay = evidence(tmp_path / "evidence", fmt)
    copy = tmp_path / f"part1.{fmt}"
    shutil.copy(overlay, copy)
    (frame,) = frames(copy)
    assert frame.fault == (
        f"{copy}: drawn by edge-agent, an overlay or a contact sheet: give the pictures that it was made of"
    )
    with pytest.raises(PictureError, match="drawn by edge-agent"):
        decode(copy, refuse_drawings=True)


def test_a_replay_leaves_out_what_earlier_ones_have_drawn_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "part1.png").write_bytes(png(gradient(40, 50)))
    original, _ = evidence(tmp_path / "out")
    sheet = ContactSheet()
    save_sheet(sheet, tmp_path / "out" / "contact_sheet.jpg")
    assert is_marked((tmp_path / "out" / "contact_sheet.jpg").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert {frame.origin for frame in frames(tmp_path)} == {str(tmp_path / "part1.png"), str(original)}
    assert [record.getMessage() for record in caplog.records] == [
        "station cam1: not looked at: 2 drawn by edge-agent (overlays and contact sheets: they show no part as it is)"
    ]


def test_a_picture_that_is_merely_called_an_overlay_is_inspected(tmp_path: Path) -> None:
    for name in ("part_overlay.png", "overlay.png", "part_0123_overlay.png"):
        (tmp_path / name).write_bytes(png(gradient(40, 50)))
    assert len(frames(tmp_path)) == 3
