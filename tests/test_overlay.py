"""An overlay shows good parts as they are, marks defects on one fixed scale, and takes any picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import Evaluation, Reading, Verdict
from edge_agent.evidence import heat
from edge_agent.evidence.choices import LARGEST
from edge_agent.evidence.overlay import NARROWEST, cut, fit, overlay, paint, scaled
from edge_agent.line.judge import Rules, judge, stretch

OK, NOT_OK = Verdict(Evaluation.OK), Verdict(Evaluation.NOT_OK)


def a_picture(height: int = 500, width: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def a_map(ground: float = 0.1, spot: float | None = None) -> np.ndarray:
    """20 x 20 cells; the spot is 4 x 4 of them in the middle."""
    heatmap = np.full((20, 20), ground, np.float32)
    if spot is not None:
        heatmap[8:12, 8:12] = spot
    return heatmap


def draw(pixels: np.ndarray, heatmap: np.ndarray, *, threshold: float = 0.5, title: str = "SN123") -> np.ndarray:
    reading = Reading(float(heatmap.max()), heatmap)
    verdict = judge(reading, Rules(threshold), pixels.shape)
    return overlay(pixels, reading, verdict, threshold=threshold, map_threshold=0.5, title=title)


def below_header(drawn: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return drawn[drawn.shape[0] - pixels.shape[0] :]


# The scale


@given(st.floats(0.015625, 1, width=32))
@settings(deadline=None)
def test_the_colour_changes_exactly_at_the_map_threshold_and_starts_at_half_of_it(map_threshold: float) -> None:
    at = np.float32(map_threshold)
    values = np.array([[np.nextafter(at, np.float32(0)), at, 0.99 * at / 2, 0.0, 1.0]], np.float32)
    below, reached, unlit, zero, full = heat.levels(values, map_threshold)[0]
    assert below < 128 <= reached
    assert unlit == zero == 0
    assert full == 255 or map_threshold > 0.99


@given(st.floats(0.01, 1), st.lists(st.floats(0, 1, width=32), min_size=1))
@settings(deadline=None)
def test_hotter_is_never_lower_on_the_scale(map_threshold: float, values: list[float]) -> None:
    rising = np.array([sorted(values)], np.float32)
    assert (np.diff(heat.levels(rising, map_threshold)[0].astype(int)) >= 0).all()


def test_a_good_part_comes_out_as_it_went_in() -> None:
    pixels = a_picture()
    drawn = draw(pixels, np.random.default_rng(1).uniform(0, 0.249, (37, 37)).astype(np.float32))
    np.testing.assert_array_equal(below_header(drawn, pixels), pixels)


def test_what_lies_below_the_scale_stays_as_it_is_beside_a_defect() -> None:
    pixels = a_picture()
    heatmap = a_map(0.1, spot=0.9)
    changed = (below_header(draw(pixels, heatmap), pixels) != pixels).any(axis=2)
    lit = np.argwhere(stretch(heatmap, pixels.shape) >= 0.25)
    (top, left), (bottom, right) = lit.min(axis=0) - 12, lit.max(axis=0) + 12  # room for line and brackets
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_a_colour_depends_on_its_own_place_alone() -> None:
    """The same half of a map gives the same colours whatever the other half holds."""
    pixels = a_picture()
    warm, hot = np.full((20, 20), 0.7, np.float32), np.full((20, 20), 0.7, np.float32)
    hot[:, 12:] = 1.0
    left = np.s_[10:-10, 10:290]  # away from outline and brackets along the edges
    one = paint(pixels, Reading(0.7, warm), (), 0.5, (500, 600))
    other = paint(pixels, Reading(1.0, hot), (), 0.5, (500, 600))
    np.testing.assert_array_equal(one[left], other[left])


def test_below_the_map_threshold_the_tint_is_cool_and_above_it_warm() -> None:
    gray = np.full((400, 400, 3), 128, np.uint8)
    red, _, blue = paint(gray, Reading(0.5, np.full((4, 4), 0.49, np.float32)), (), 0.5, (400, 400))[200, 200]
    assert blue > 128 > red
    red, _, blue = paint(gray, Reading(0.5, np.full((4, 4), 0.5, np.float32)), (), 0.5, (400, 400))[200, 200]
    assert red > 128 > blue


# Outline and regions


def test_the_mask_has_an_outline_along_its_edge() -> None:
    gray = np.full((500, 500, 3), 128, np.uint8)
    heatmap = a_map(0.0, spot=1.0)
    drawn = paint(gray, Reading(1.0, heatmap), (), 0.5, (500, 500))
    white = (drawn == 255).all(axis=2)
    mask = stretch(heatmap, (500, 500)) >= 0.5
    ys, xs = np.nonzero(mask)
    for edge in (white[250, xs.min() - 2 : xs.min() + 3], white[250, xs.max() - 2 : xs.max() + 3]):
        assert edge.any()
    for edge in (white[ys.min() - 2 : ys.min() + 3, 250], white[ys.max() - 2 : ys.max() + 3, 250]):
        assert edge.any()
    assert white.sum() < 4 * (np.ptp(xs) + np.ptp(ys))  # a line, not an area


def test_no_outline_without_a_mask() -> None:
    gray = np.full((500, 500, 3), 128, np.uint8)
    drawn = paint(gray, Reading(0.4, a_map(0.0, spot=0.49)), (), 0.5, (500, 500))
    assert not (drawn == 255).all(axis=2).any()


def test_brackets_stand_around_a_region_and_hide_nothing_of_it() -> None:
    gray = np.full((500, 500, 3), 128, np.uint8)
    reading = Reading(1.0, a_map(0.0, spot=1.0))
    regions = judge(reading, Rules(0.5), gray.shape).regions
    bare = paint(gray, reading, (), 0.5, (500, 500))
    framed = paint(gray, reading, regions, 0.5, (500, 500))
    changed = (bare != framed).any(axis=2)
    x, y, w, h = regions[0].bbox
    assert not changed[y : y + h, x : x + w].any()
    for row, column in ((y, x), (y, x + w), (y + h, x), (y + h, x + w)):
        assert changed[row - 10 : row + 10, column - 10 : column + 10].any()


# The header


def test_ok_and_not_ok_differ_in_more_than_colour() -> None:
    pixels, heatmap = a_picture(), a_map()
    good = overlay(pixels, Reading(0.4, heatmap), OK, threshold=0.5, map_threshold=0.5)
    bad = overlay(pixels, Reading(0.4, heatmap), NOT_OK, threshold=0.5, map_threshold=0.5)
    strip = good.shape[0] - pixels.shape[0]
    written = [(drawn[:strip].min(axis=2) > 200) for drawn in (good, bad)]  # the letters and signs alone
    assert (written[0] != written[1]).any()


@pytest.mark.parametrize(
    "change", [{"threshold": 0.6}, {"map_threshold": 0.6}, {"title": "SN124"}], ids=lambda c: next(iter(c))
)
def test_every_fact_shows_in_the_header(change: dict[str, object]) -> None:
    facts: dict[str, object] = {"threshold": 0.5, "map_threshold": 0.5, "title": "SN123"}
    pixels, reading = a_picture(), Reading(0.4, a_map())
    before = overlay(pixels, reading, OK, **facts)  # type: ignore[arg-type]
    after = overlay(pixels, reading, OK, **(facts | change))  # type: ignore[arg-type]
    assert before.shape == after.shape
    assert (before != after).any()


def test_a_reason_makes_the_header_higher_and_covers_nothing() -> None:
    pixels, reading = a_picture(), Reading(0.7, a_map())
    plain = overlay(pixels, reading, OK, threshold=0.5, map_threshold=0.5)
    explained = overlay(pixels, reading, Verdict(Evaluation.OK, reason="too small"), threshold=0.5, map_threshold=0.5)
    assert explained.shape[0] > plain.shape[0]
    np.testing.assert_array_equal(below_header(explained, pixels), pixels)


# Sizes and odd input


SHAPES = [(1, 1), (8, 8), (1, 5000), (4000, 3), (100, 236), (512, 512), (1200, 1920), (3000, 2500)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_of_any_size_gives_an_overlay_that_can_be_read(shape: tuple[int, int]) -> None:
    drawn = draw(a_picture(*shape), a_map(0.1, spot=0.9))
    height, width = fit(shape)
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert drawn.shape[1] == max(NARROWEST, width)
    assert drawn.shape[0] > height
    assert 400 <= max(height, width) <= LARGEST


@pytest.mark.parametrize("largest", [640, LARGEST])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_picture_is_cut_out_of_an_overlay_of_any_size(shape: tuple[int, int], largest: int) -> None:
    drawn = overlay(a_picture(*shape), None, OK, threshold=0.5, map_threshold=0.5, largest=largest)
    found = cut(drawn, shape)
    np.testing.assert_array_equal(found, scaled(a_picture(*shape), fit(shape, largest)))


def test_a_tiny_picture_keeps_its_pixels_as_blocks() -> None:
    pixels = a_picture(8, 8)
    drawn = draw(pixels, a_map())
    assert fit((8, 8)) == (800, 800)
    np.testing.assert_array_equal(drawn[-800:][50::100, 50::100], pixels)


def test_a_huge_picture_is_averaged_not_thinned() -> None:
    checkers = np.zeros((3200, 4800, 3), np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    picture = draw(checkers, a_map())[-800:]
    assert picture.min() > 100
    assert picture.max() < 155


def test_an_inspection_without_a_picture_gives_a_card_with_the_reason() -> None:
    def drawn(reason: str) -> np.ndarray:
        verdict = Verdict(Evaluation.NOT_DECIDABLE, reason=reason)
        return overlay(np.zeros((0, 0, 3), np.uint8), None, verdict, threshold=0.5, map_threshold=0.5, title="a.png")

    short, long = drawn("the file is empty"), drawn("the file ends early, " * 200)
    assert short.shape == long.shape
    assert (short != long).any()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_map_that_is_not_finite_leaves_the_picture_bare(broken: float) -> None:
    pixels = a_picture()
    reading = Reading(math.nan, np.full((4, 4), broken, np.float32))
    verdict = judge(reading, Rules(0.5), pixels.shape)
    drawn = overlay(pixels, reading, verdict, threshold=0.5, map_threshold=0.5)
    np.testing.assert_array_equal(below_header(drawn, pixels), pixels)


def test_a_verdict_without_a_reading_shows_the_bare_picture() -> None:
    pixels = a_picture()
    drawn = overlay(pixels, None, Verdict(Evaluation.UNDEFINED), threshold=0.5, map_threshold=0.5)
    np.testing.assert_array_equal(below_header(drawn, pixels), pixels)


def test_the_picture_that_was_given_is_left_as_it_was() -> None:
    pixels = a_picture()
    before = pixels.copy()
    draw(pixels, a_map(0.3, spot=0.9))
    np.testing.assert_array_equal(pixels, before)


def test_a_view_of_another_array_is_drawn_like_its_copy() -> None:
    bgr, heatmap = a_picture(), a_map(0.3, spot=0.9)
    np.testing.assert_array_equal(draw(bgr[::-1, :, ::-1], heatmap), draw(bgr[::-1, :, ::-1].copy(), heatmap))


@pytest.mark.parametrize("map_threshold", [0.05, 1.0])
def test_the_ends_of_the_scale_can_be_thresholds(map_threshold: float) -> None:
    reading = Reading(1.0, a_map(0.0, spot=1.0))
    drawn = overlay(a_picture(), reading, NOT_OK, threshold=0.5, map_threshold=map_threshold)
    assert drawn.shape[1] == 600
