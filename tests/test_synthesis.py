"""The procedural pictures: repeatable, of the promised shapes, defective just where their masks say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainer.pretrain.pool import Pool
from trainer.pretrain.views import make_view
from trainer.synthesis import DEFECTS, NOUNS, camera, caption, normal, paint_defect, sample
from trainer.synthesis.boards import BOARDS
from trainer.synthesis.parts import PARTS
from trainer.synthesis.scenes import _light, _place, _sheet
from trainer.synthesis.surfaces import SURFACES


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after.astype(np.int16) - before).max(2)


@pytest.fixture(scope="module")
def good() -> list:
    return [normal(np.random.default_rng(seed), 96) for seed in range(16)]


def test_the_same_seed_makes_the_same_sample() -> None:
    for seed in range(8):
        first, second = (sample(np.random.default_rng(seed), 64) for _ in range(2))
        assert np.array_equal(first.pixels, second.pixels)
        assert np.array_equal(first.mask, second.mask)
        assert (first.noun, first.kind, first.caption) == (second.noun, second.kind, second.caption)


def test_different_seeds_make_different_pictures() -> None:
    pictures = {sample(np.random.default_rng(seed), 48).pixels.tobytes() for seed in range(12)}
    assert len(pictures) == 12


@pytest.mark.parametrize("size", [8, 13, 16, 64, 224])
def test_samples_have_the_promised_shapes_at_any_size(size: int) -> None:
    for seed in range(12):
        made = sample(np.random.default_rng(seed), size)
        assert made.pixels.shape == (size, size, 3)
        assert made.pixels.dtype == np.uint8
        assert made.mask.shape == (size, size)
        assert made.mask.dtype == bool
        assert made.noun in NOUNS
        assert made.mask.any() == (made.kind is not None)
        assert made.kind is None or made.kind in DEFECTS


def test_a_normal_picture_shows_its_product() -> None:
    for seed in range(24):
        made = normal(np.random.default_rng(seed), 80)
        assert made.pixels.shape == (80, 80, 3)
        assert made.foreground.dtype == bool
        assert made.foreground.any()
        assert made.parts >= 1


@pytest.mark.parametrize(("make", "nouns"), [(make, nouns) for make, nouns, _ in SURFACES])
def test_every_surface_fills_its_square(make, nouns) -> None:  # type: ignore[no-untyped-def]
    for seed in range(3):
        picture = make(np.random.default_rng(seed), 64)
        assert picture.shape == (64, 64, 3)
        assert np.isfinite(picture).all()
    assert set(nouns) <= set(NOUNS)


@pytest.mark.parametrize("make", [make for make, _, _ in PARTS])
def test_every_part_can_be_placed_and_covers_something(make) -> None:  # type: ignore[no-untyped-def]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        part = make(np.random.default_rng(seed), rng, 64)
        canvas, cover = np.full((64, 64, 3), 0.5, np.float32), np.zeros((64, 64), np.float32)
        _place(canvas, cover, part, np.array([32.0, 32.0]), 60.0, 0.7, _light(rng))
        assert np.isfinite(canvas).all()
        assert 0.02 < (cover > 0.5).mean() < 1


@pytest.mark.parametrize("make", [make for make, _, _ in BOARDS])
def test_every_board_says_where_it_lies(make) -> None:  # type: ignore[no-untyped-def]
    picture, foreground = make(np.random.default_rng(0), 64)
    assert np.isfinite(picture).all()
    assert picture.shape == (64, 64, 3)
    assert foreground.mean() > 0.3


@pytest.mark.parametrize("kind", list(DEFECTS))
def test_a_mask_holds_the_changed_pixels_and_nothing_else(kind: str, good: list) -> None:
    touched, held = [], []
    for seed, made in enumerate(good):
        before = made.pixels.copy()
        pixels, mask, named = paint_defect(
            np.random.default_rng(seed), made.pixels, made.foreground, good[seed - 1].pixels, kind
        )
        assert named == kind
        assert np.array_equal(made.pixels, before)
        change = _change(before, pixels)
        assert mask.any()
        assert change[mask].max() >= 5
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        touched.append((change[mask] >= 2).mean())
        held.append((change[near] ** 2.0).sum() / (change**2.0).sum())
    assert np.mean(touched) > 0.7
    assert np.mean(held) > 0.9


def test_every_kind_is_reached_by_chance(good: list) -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(1200):
        seen.add(paint_defect(rng, good[0].pixels, good[0].foreground, good[1].pixels)[2])
        if seen == set(DEFECTS):
            break
    assert seen == set(DEFECTS)


def test_defects_lie_mostly_on_the_product() -> None:
    foreground = np.zeros((128, 128), bool)
    foreground[32:96, 32:96] = True
    pixels = np.where(foreground[..., None], np.uint8(150), np.uint8(60)).repeat(3, 2)
    on, off = 0, 0
    for seed in range(80):
        mask = paint_defect(np.random.default_rng(seed), pixels, foreground)[1]
        on, off = on + (mask & foreground).sum(), off + (mask & ~foreground).sum()
    assert on > 4 * off


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_defect_shows_on_a_flat_picture_without_a_donor(level: int) -> None:
    pixels = np.full((60, 90, 3), level, np.uint8)
    for seed in range(40):
        painted, mask, _ = paint_defect(np.random.default_rng(seed), pixels, np.ones((60, 90), bool))
        assert painted.shape == pixels.shape
        assert _change(pixels, painted)[mask].max() >= 5


def test_gray_and_coloured_and_heavily_noisy_pictures_can_be_painted_on(good: list) -> None:
    rng = np.random.default_rng(1)
    gray = np.repeat(good[2].pixels[..., :1], 3, axis=2)
    noise = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for seed in range(30):
        for pixels in (gray, noise):
            _, mask, _ = paint_defect(np.random.default_rng(seed), pixels, np.ones((96, 96), bool), noise)
            assert 0 < mask.mean() < 0.9


def test_a_picture_without_foreground_is_painted_on_all_the_same() -> None:
    pixels = np.full((32, 32, 3), 90, np.uint8)
    assert paint_defect(np.random.default_rng(3), pixels, np.zeros((32, 32), bool), pixels, "contamination")[1].any()


def test_the_camera_keeps_shape_and_scene_and_often_loses_colour(good: list) -> None:
    grays = 0
    for seed in range(60):
        made = good[seed % len(good)]
        taken = camera(np.random.default_rng(seed), made.pixels)
        assert taken.shape == made.pixels.shape
        assert taken.dtype == np.uint8
        grays += int(_change(taken[..., :1], taken[..., 1:2]).max() == 0)
    assert grays >= 6
    assert camera(np.random.default_rng(0), np.zeros((8, 8, 3), np.uint8)).shape == (8, 8, 3)


def test_captions_speak_of_flaws_only_where_there_are_some() -> None:
    rng = np.random.default_rng(0)
    fine = {caption(rng, "metal plate", None) for _ in range(2000)}
    bad = {caption(rng, "metal plate", kind) for kind in DEFECTS for _ in range(200)}
    assert not fine & bad
    for words in ("a flawless", "a perfect", "an unblemished", "without flaw", "without defect", "without damage"):
        assert any(words in text for text in fine)
        assert not any(words in text for text in bad)
    for words in (
        "a damaged",
        "a broken",
        "with flaw",
        "with defect",
        "with damage",
        "a scratched metal plate",
        "with a crack",
    ):
        assert any(words in text for text in bad)
        assert not any(words in text for text in fine)
    assert any("an incomplete" in text for text in bad)
    assert not any(" a incomplete" in text or " an scratched" in text for text in bad)


def test_a_caption_that_is_to_name_the_defect_names_it():
    rng = np.random.default_rng(0)
    told = [caption(rng, "object", "scratch", named=True) for _ in range(200)]
    assert all("scratch" in sentence for sentence in told)
    assert not all("scratch" in caption(rng, "object", "scratch") for _ in range(200))


def test_views_show_the_border_of_a_picture_and_elongated_ones_squeezed_into_a_square() -> None:
    side = 128
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    picture = np.stack([rows, columns, np.zeros_like(rows)], axis=2)  # each pixel tells where it is from
    pool = Pool(picture[None], np.ones((1, side, side), bool), ["object"])
    spans, borders = [], 0
    for seed in range(200):
        seen = make_view(pool, np.random.default_rng(seed), 64, 0.0).pixels.astype(int)
        span = np.ptp(seen[..., :2], axis=(0, 1))
        spans.append(span.max() / span.min())
        borders += span.max() < 115 and (seen[..., :2].min() < 6 or seen[..., :2].max() > side - 7)
    assert 1.8 < max(spans) < 3.5
    assert np.mean(np.array(spans) > 1.3) == pytest.approx(0.2, abs=0.12)
    assert borders > 40


def test_a_sheet_may_end_just_short_of_the_border() -> None:
    ends = [1 - _sheet(np.random.default_rng(seed), 96, None)[1].mean() for seed in range(80)]
    assert sum(0.004 < end < 0.1 for end in ends) > 8  # a sliver of what lies beyond
    assert sum(end == 0 for end in ends) > 30
    assert max(ends) < 0.7
