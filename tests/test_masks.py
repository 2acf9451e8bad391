"""Masks as people and tools save them: which pixels mark the defect, which picture a mask belongs to, what is left over."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_agent.errors import EdgeAgentError, PictureError
from trainer.data.doubts import of_copies, of_examples
from trainer.data.examples import read_examples, read_mask
from trainer.data.masks import decode_mask, is_doubtful

DEFECT = np.zeros((40, 40), bool)
DEFECT[10:20, 5:30] = True
GRAY = DEFECT * np.uint8(255)


def layered(colour: tuple[int, int, int], below: tuple[int, int, int], alpha: np.ndarray) -> Image.Image:
    """A defect of one colour on another, with alpha (40, 40) uint8."""
    rgb = np.where(DEFECT[..., None], np.uint8(colour), np.uint8(below))
    return Image.fromarray(np.dstack([rgb, alpha]))


def with_palette(indices: np.ndarray, palette: list[int]) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), "L").convert("P")
    picture.putdata(list(indices.astype(np.uint8).ravel()))
    picture.putpalette(palette)
    return picture


def ringed() -> np.ndarray:
    """Class 15 with the ring of 255 around it, as Pascal VOC has."""
    ring = cv2.dilate(DEFECT.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(DEFECT, 15, np.where(ring, 255, 0))


EVEN = np.full((40, 40), 255, np.uint8)
VOC = [0, 0, 0, *[128, 0, 0] * 254, 224, 224, 192]
MASKS = {
    "white on black": Image.fromarray(GRAY),
    "1 on 0": Image.fromarray(DEFECT.view(np.uint8)),
    "one bit": Image.fromarray(GRAY).convert("1"),
    "white on transparent white": layered((255, 255, 255), (255, 255, 255), GRAY),
    "white on transparent black": layered((255, 255, 255), (0, 0, 0), GRAY),
    "black on transparent": layered((0, 0, 0), (255, 255, 255), GRAY),
    "half opaque red": layered((255, 0, 0), (0, 0, 0), GRAY // 2),
    "a part cut out of its background": layered(
        (255, 255, 255), (0, 0, 0), EVEN - np.eye(40, dtype=np.uint8) * EVEN | GRAY
    ),
    "even alpha": layered((255, 255, 255), (0, 0, 0), EVEN),
    "alpha of zeros": layered((255, 255, 255), (0, 0, 0), EVEN * np.uint8(0)),
    "a palette with a white background": with_palette(DEFECT * 1, [255, 255, 255, 0, 0, 0]),
    "a palette of black and white": with_palette(DEFECT * 255, [0, 0, 0] * 255 + [255, 255, 255]),
    "a palette of classes with a ring": with_palette(ringed(), VOC),
    "a palette of grays": with_palette(DEFECT * 255, [one for gray in range(256) for one in (gray,) * 3]),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_defect_is_what_the_mask_marks(tmp_path, name):
    MASKS[name].save(tmp_path / "mask.png")
    assert np.array_equal(decode_mask(tmp_path / "mask.png"), DEFECT)


@pytest.mark.parametrize("kind", ["float32", "int32", "uint16", "uint8"])
def test_masks_as_tiff_are_read_in_every_width(tmp_path, kind):
    Image.fromarray(DEFECT.astype(kind)).save(tmp_path / "mask.tif")
    assert np.array_equal(decode_mask(tmp_path / "mask.tif"), DEFECT)


def test_a_mask_that_is_no_picture_or_cut_off_is_refused_by_name(tmp_path):
    for name in ("white on black", "white on transparent white", "a palette of classes with a ring"):
        MASKS[name].save(tmp_path / "mask.png")
        whole = (tmp_path / "mask.png").read_bytes()
        (tmp_path / "mask.png").write_bytes(whole[: len(whole) - 20])
        with pytest.raises(PictureError, match=r"mask\.png: .*cut off"):
            decode_mask(tmp_path / "mask.png")
    Image.fromarray(np.where(DEFECT, np.float32("nan"), np.float32(0))).save(tmp_path / "mask.tif")
    with pytest.raises(PictureError, match=r"mask\.tif: .*infinite"):
        decode_mask(tmp_path / "mask.tif")


def test_an_inverted_mask_is_doubtful_and_a_usual_one_is_not():
    assert not is_doubtful(DEFECT)
    assert is_doubtful(~DEFECT)
    large = np.zeros((40, 40), bool)
    large[1:-1, 1:-1] = True
    assert is_doubtful(large)


def save(path: Path, pixels: np.ndarray = GRAY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def plate(folder: Path, kinds: tuple[str, ...] = ("good", "cut")) -> Path:
    """A category of different pictures, two of each kind, without masks."""
    for number, (kind, stem) in enumerate((kind, stem) for kind in kinds for stem in ("000", "001")):
        save(folder / f"plate/test/{kind}/{stem}.png", np.full((40, 40, 3), 100 + number, np.uint8))
    return folder


@pytest.mark.parametrize("end", ["_mask", "", "_GT", "_gt", "-mask", "_label", "_Ground_Truth", "_seg"])
def test_masks_are_found_under_their_usual_names(tmp_path, end):
    plate(tmp_path)
    for stem in ("000", "001"):
        save(tmp_path / f"plate/ground_truth/cut/{stem}{end}.png")
    leftover: list[Path] = []
    bad = [one for one in read_examples(tmp_path, leftover=leftover) if one.defective]
    assert [[path.name for path in one.masks] for one in bad] == [[f"000{end}.png"], [f"001{end}.png"]]
    assert leftover == []


def test_several_masks_in_a_folder_named_after_the_picture_add_up_as_in_mvtec_loco(tmp_path):
    plate(tmp_path)
    left = GRAY.copy()
    left[:, 15:] = 0
    for stem in ("000", "001"):
        save(tmp_path / f"plate/ground_truth/cut/{stem}/000.png", left)
        save(tmp_path / f"plate/ground_truth/cut/{stem}/001.png", GRAY - left)
    leftover: list[Path] = []
    first = next(one for one in read_examples(tmp_path, leftover=leftover) if one.defective)
    assert [path.name for path in first.masks] == ["000.png", "001.png"]
    assert np.array_equal(read_mask(first, 40), DEFECT)
    assert leftover == []


def test_masks_of_no_picture_are_named_and_refused_where_no_other_is_there(tmp_path):
    plate(tmp_path)
    other = save(tmp_path / "plate/ground_truth/cut/defect-of-0.png")
    with pytest.raises(EdgeAgentError, match=r"defect-of-0\.png: one of 1 files .* none belongs to a picture"):
        read_examples(tmp_path)
    for stem in ("000", "001"):
        save(tmp_path / f"plate/ground_truth/cut/{stem}_mask.png")
    leftover: list[Path] = []
    examples = read_examples(tmp_path, leftover=leftover)
    assert leftover == [other]
    assert "1 file among the masks belongs to no picture" in next(of_examples(examples, leftover))


def test_a_mask_beside_its_picture_is_not_taken_for_a_defective_part(tmp_path):
    save(plate(tmp_path) / "plate/test/cut/000_mask.png")
    with pytest.raises(EdgeAgentError, match=r"000_mask\.png: lies beside the picture 000 and seems to be its mask"):
        read_examples(tmp_path)


@pytest.mark.parametrize("name", ["OK", "Good", "GOOD", "normal", "i.O."])
def test_good_pictures_in_a_folder_of_another_name_are_not_taken_for_defective_ones(tmp_path, name):
    plate(tmp_path, (name, "cut"))
    with pytest.raises(EdgeAgentError, match=r"seems to hold good pictures.* rename it to good"):
        read_examples(tmp_path)


def test_inverted_masks_and_copies_are_told(tmp_path):
    plate(tmp_path)
    for stem in ("000", "001"):
        save(tmp_path / f"plate/ground_truth/cut/{stem}_mask.png", 255 - GRAY)
    for number in range(6):
        save(tmp_path / f"plate/test/good/copy{number}.png", np.full((40, 40, 3), 7, np.uint8))
    inverted, copies = of_examples(read_examples(tmp_path), [])
    assert "the masks of 2 of 2 defective pictures cover most" in inverted
    assert "5 pictures are copies of others" in copies


def test_a_picture_called_good_and_defective_at_once_is_told():
    _, contradiction = of_copies([["good/0.png", "cut/7.png"]], 1)
    assert "good and defective at once" in contradiction
