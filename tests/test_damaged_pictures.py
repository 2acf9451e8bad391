"""What a decoder would have to invent is refused, and intact pictures are read, however unusual they are.

The corpus is a small part of that of benchmarks/faults/damage.py.
"""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.damage import FORMATS, SAMPLES, UNUSUAL, damaged, read
from edge_agent.errors import PictureError
from edge_agent.io.pictures import decode, decode_bytes
from edge_agent.io.zeros import first_hole

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

COMPRESSED = [name for name in FORMATS if name not in ("bmp", "tiff")]
PLACES = 3


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Two shipped pictures, smaller, as decoding a corpus takes time."""
    return [
        Image.open(SAMPLES / name).convert("RGB").resize((240, 200))
        for name in ("37_stator_dent.jpg", "58_solar-cell_good.jpg")
    ]


@pytest.fixture(scope="module")
def dark() -> Image.Image:
    """A dark part before black: half of it zeros, with an edge that curves."""
    y, x = np.mgrid[:160, :200]
    lit = (x - 100) ** 2 + (y - 80) ** 2 < 60**2
    gray = np.random.default_rng(3).normal(30, 4, (160, 200)).clip(0, 255) * lit
    return Image.fromarray(np.dstack([gray.astype(np.uint8)] * 3))


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (200, 150), colour)


@pytest.mark.parametrize("name", [*FORMATS, *UNUSUAL])
def test_intact_pictures_are_read_in_every_format(name: str, pictures: list[Image.Image], dark: Image.Image) -> None:
    encode = {**FORMATS, **UNUSUAL}[name]
    for picture in (*pictures, dark, plain((0, 0, 0)), plain((255, 255, 255)), plain((0, 135, 0))):
        pixels = decode_bytes(encode(picture), "picture")
        gray = name == "jpeg_gray"
        expected = np.asarray(picture.convert("L").convert("RGB") if gray else picture).astype(int)
        assert np.abs(pixels - expected).mean() < 12


@pytest.mark.parametrize("name", COMPRESSED)
def test_no_picture_is_read_of_which_a_part_never_came(name: str, pictures: list[Image.Image]) -> None:
    chance = random.Random(name)
    for picture in pictures:
        for kind, broken in damaged(FORMATS[name](picture), PLACES, chance):
            if kind.startswith(("cut", "zero_tail")):
                assert read(broken) is None, kind


@pytest.mark.parametrize("name", ["bmp", "tiff"])
def test_rows_that_were_never_written_are_noticed_where_nothing_but_zeros_tells(
    name: str, pictures: list[Image.Image]
) -> None:
    whole = FORMATS[name](pictures[0])
    row = 3 * 240
    for at in (len(whole) // 3 + 100, len(whole) // 2 - 100, len(whole) - 5 * row // 2):
        for end in (len(whole), len(whole) - row):
            if end - at > row:
                with pytest.raises(PictureError, match="zeros stand in place of its data from row"):
                    decode_bytes(whole[:at] + bytes(end - at) + whole[end:], "picture")


def test_of_overwritten_and_lost_bytes_few_go_unnoticed(pictures: list[Image.Image]) -> None:
    total = unnoticed = 0
    for name in COMPRESSED:
        chance = random.Random(name)
        for kind, broken in damaged(FORMATS[name](pictures[1]), PLACES, chance):
            if kind in ("hole_512", "hole_4096", "random_64", "random_4096", "deleted_300"):
                total += 1
                unnoticed += read(broken) is not None
    assert total == len(COMPRESSED) * PLACES * 5
    assert unnoticed < 0.15 * total, f"{unnoticed} of {total}"


def test_the_reason_says_where_a_jpeg_is_damaged(tmp_path: Path, pictures: list[Image.Image]) -> None:
    whole = FORMATS["jpeg"](pictures[0])
    half = len(whole) // 2
    path = tmp_path / "part.jpg"
    path.write_bytes(whole[:half] + bytes(600) + whole[half + 600 :])
    with pytest.raises(
        PictureError, match=rf"part.jpg: cut off or damaged, .* from byte {half} of {len(whole)} on .*: copy"
    ):
        decode(path)
    path.write_bytes(whole[:half] + b"\xff\xd9")
    with pytest.raises(PictureError, match=r"JPEG data is damaged .*premature end"):
        decode(path)


def test_a_shift_of_brightness_amid_a_row_of_blocks_is_damage_and_an_edge_of_the_picture_is_none() -> None:
    y, x = np.mgrid[:200, :320]
    part = np.dstack([60 + x // 4 + 40 * ((x - 160) ** 2 + (y - 100) ** 2 < 60**2), 120 + y // 5, 140 - x // 5])
    part = part + np.random.default_rng(2).normal(0, 2, part.shape)
    edge = part.copy()
    edge[96:] += 15
    for name in FORMATS:
        assert read(FORMATS[name](Image.fromarray(edge.astype(np.uint8)))) is not None, "an edge along a row of blocks"
    amid = part.copy()
    amid[96:112, 112:] += 15
    amid[112:] += 15
    with pytest.raises(PictureError, match=r"from row 96 of 200 on \(brightness or colour changes"):
        decode_bytes(FORMATS["jpeg"](Image.fromarray(amid.astype(np.uint8))), "picture")


def test_a_webp_that_says_it_has_gigabytes_is_refused_at_once(pictures: list[Image.Image]) -> None:
    whole = bytearray(FORMATS["webp_lossless"](pictures[0]))
    whole[4:8] = b"\xff\xff\xff\xfe"
    with pytest.raises(PictureError, match="bytes are fewer than the 42"):
        decode_bytes(bytes(whole), "picture")


@pytest.mark.parametrize("times", [8, 16])
def test_steps_of_an_enlarged_picture_are_no_damage(times: int) -> None:
    y, x = np.mgrid[:40, :60]
    small = np.dstack([4 * y + x, 5 * y, 200 - 3 * y]).astype(np.uint8)
    large = Image.fromarray(small.repeat(times, axis=0).repeat(times, axis=1))
    for name in ("jpeg", "jpeg_444", "jpeg_gray"):
        decode_bytes(FORMATS[name](large), name)


def borders(samples: np.ndarray) -> None:
    samples[40:] = 0


def masked(samples: np.ndarray) -> None:
    samples[:, 30:] = 0
    samples[50:] = 0


def slanted(samples: np.ndarray) -> None:
    y, x = np.mgrid[: samples.shape[0], : samples.shape[1]]
    samples[y > 30 + x / 20] = 0


@pytest.mark.parametrize("blacken", [borders, masked, slanted])
def test_black_parts_of_a_picture_are_no_holes(blacken: Callable[[np.ndarray], None]) -> None:
    samples = np.random.default_rng(5).integers(60, 200, (80, 100, 3), np.uint8)
    assert first_hole(samples) is None
    blacken(samples)
    assert first_hole(samples) is None


def test_a_mask_may_be_sharp_to_a_pixel() -> None:
    mask = np.full((80, 100, 3), 255, np.uint8)
    mask[20, 60:] = mask[21:50] = 0
    assert first_hole(mask) is None
    assert first_hole(mask - (mask > 0) * np.random.default_rng(1).integers(0, 9, mask.shape, np.uint8)) == 20


def test_a_tiff_whose_data_unpack_to_gigabytes_is_refused_soon(pictures: list[Image.Image]) -> None:
    whole = FORMATS["tiff_deflate"](pictures[0].resize((64, 64)))
    picture = Image.open(BytesIO(whole))
    (offset,), (length,) = picture.tag_v2[273], picture.tag_v2[279]  # type: ignore[attr-defined]
    bomb = zlib.compress(bytes(1 << 26), 9)
    entry = struct.pack("<HHI", 279, 4, 1)
    assert entry in whole, "one strip, of a 4-byte length"
    large = whole.replace(entry + struct.pack("<I", length), entry + struct.pack("<I", len(bomb)))
    at = struct.pack("<HHI", 273, 4, 1)
    large = large.replace(at + struct.pack("<I", offset), at + struct.pack("<I", len(whole))) + bomb
    begun = time.process_time()
    with pytest.raises(PictureError, match="cut off or damaged, its strip 1 of 1 is damaged"):
        decode_bytes(large, "picture")
    assert time.process_time() - begun < 1
