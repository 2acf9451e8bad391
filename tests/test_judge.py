"""A verdict is never OK by accident, regions lie in the picture, and an alarm is told when it is due until it ends."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.core import AlarmEvent, Evaluation, Reading, Verdict
from edge_agent.io.digits import told_apart
from edge_agent.line.judge import MAX_REGIONS, AlarmState, Rules, debounce, judge, regions, stretch

unhurried = settings(deadline=None, max_examples=150)

fractions = st.floats(0, 1, width=32)
thresholds = st.floats(0.0625, 1, width=32)
sides = st.integers(1, 14)
heatmaps = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.float32, shape, elements=fractions))
shapes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))


def one_hot_block(score: float = 0.9) -> Reading:
    """Four cells by three of a 20 x 20 map, from column 5 and row 10 on."""
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[10:13, 5:9] = 1.0
    return Reading(score, heatmap)


# Verdicts


def test_a_score_at_the_threshold_is_not_ok_and_one_below_is_ok() -> None:
    rules = Rules(threshold=0.62)
    assert judge(one_hot_block(0.62), rules, (100, 100)).evaluation is Evaluation.NOT_OK
    assert judge(one_hot_block(math.nextafter(0.62, 0)), rules, (100, 100)) == Verdict(Evaluation.OK)


def test_a_region_comes_in_pixels_of_the_picture() -> None:
    (region,) = judge(one_hot_block(), Rules(0.5), (1000, 2000, 3)).regions
    # 12 cells of 50 x 100 pixels; a bilinear surface crosses one half on their edges and rounds their corners off.
    np.testing.assert_allclose(region.bbox, (500, 500, 400, 150), atol=6)
    assert 0.9 * 12 * 50 * 100 < region.area_px <= 12 * 50 * 100
    assert region.peak == 1.0


def test_regions_are_exact_to_the_pixel_in_small_pictures() -> None:
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[2:4, :] = 1.0
    (region,) = regions(heatmap, 0.5, (80, 80))
    assert region.bbox == (0, 20, 80, 20)
    assert region.area_px == 80 * 20


def test_min_area_asks_for_one_region_that_large() -> None:
    reading = one_hot_block()  # about 3 % of the picture
    large_enough = judge(reading, Rules(0.5, min_area=0.02), (400, 400))
    too_small = judge(reading, Rules(0.5, min_area=0.04), (400, 400))
    assert large_enough.evaluation is Evaluation.NOT_OK
    assert len(large_enough.regions) == 1
    assert too_small.evaluation is Evaluation.OK
    assert too_small.reason == (
        "score 0.900 reaches the threshold 0.500, but no region covers the minimum area, 4 % of the picture"
    )


def test_a_defect_all_over_the_picture_meets_even_a_minimum_area_of_all_of_it() -> None:
    reading = Reading(0.9, np.full((14, 14), 0.8, np.float32))
    assert judge(reading, Rules(0.5, min_area=1.0), (1201, 1919)).evaluation is Evaluation.NOT_OK


def test_regions_below_the_minimum_area_are_not_listed_beside_a_large_one() -> None:
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[2, 2] = 1.0
    heatmap[10:18, 10:18] = 0.9
    assert [r.peak for r in regions(heatmap, 0.5, (400, 400))] == pytest.approx([1.0, 0.9])
    assert [r.peak for r in regions(heatmap, 0.5, (400, 400), min_area=0.05)] == pytest.approx([0.9])


def test_a_high_score_over_a_cool_map_is_not_ok_and_says_why_no_region_is_shown() -> None:
    verdict = judge(Reading(0.9, np.full((14, 14), 0.3, np.float32)), Rules(0.5), (100, 100))
    assert verdict.evaluation is Evaluation.NOT_OK
    assert verdict.regions == ()
    assert "the map stays below 0.50 everywhere" in str(verdict.reason)


@pytest.mark.parametrize(
    ("score", "threshold", "texts"),
    [
        (0.9, 0.5, ("0.900", "0.500")),
        (0.3174, 0.3171, ("0.3174", "0.3171")),
        (0.31699, 0.317, ("0.31699", "0.31700")),
        (0.5, 0.5, ("0.500", "0.500")),
        (0.5, 0.5 + 2**-53, ("0.5000000000000000", "0.5000000000000001")),
    ],
)
def test_a_score_and_its_threshold_have_so_many_digits_that_their_order_shows(
    score: float, threshold: float, texts: tuple[str, str]
) -> None:
    assert told_apart(score, threshold) == texts
    assert (float(texts[0]) < float(texts[1])) == (score < threshold)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_not_decidable(score: float) -> None:
    verdict = judge(Reading(score, np.zeros((14, 14), np.float32)), Rules(0.5), (100, 100))
    assert verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert f"score is {score}" in str(verdict.reason)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("score", [0.1, 0.9])
def test_a_map_with_one_value_that_is_no_number_is_not_decidable_whatever_the_score(score: float, value: float) -> None:
    heatmap = np.zeros((14, 14), np.float32)
    heatmap[3, 4] = value
    verdict = judge(Reading(score, heatmap), Rules(0.5), (100, 100))
    assert verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert str(verdict.reason).startswith("1 of 196 map values")


@pytest.mark.parametrize(("cells", "shape"), [((0, 0), (100, 100)), ((14, 14), (0, 0))])
def test_nothing_to_judge_is_not_decidable(cells: tuple[int, int], shape: tuple[int, int]) -> None:
    verdict = judge(Reading(0.1, np.zeros(cells, np.float32)), Rules(0.5), shape)
    assert verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert "nothing to judge" in str(verdict.reason)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": math.nan}, "threshold is nan"),
        ({"threshold": 0.5, "map_threshold": 0.0}, "map_threshold is 0.0"),
        ({"threshold": 0.5, "map_threshold": math.nan}, "map_threshold is nan"),
        ({"threshold": 0.5, "min_area": 1.5}, "min_area is 1.5"),
        ({"threshold": 0.5, "raise_after": 3, "of": 2}, "raise_after is 3 of 2"),
        ({"threshold": 0.5, "raise_after": 0}, "raise_after is 0 of 1"),
        ({"threshold": 0.5, "hysteresis": -0.1}, "hysteresis is -0.1"),
        ({"threshold": 0.5, "least_contrast": math.nan}, "least_contrast is nan"),
    ],
)
def test_rules_that_could_not_work_are_refused_by_name(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rules(**wrong)  # type: ignore[arg-type]


@unhurried
@given(heatmaps, shapes, thresholds, fractions, fractions, fractions)
def test_raising_the_threshold_never_turns_ok_into_not_ok(
    heatmap: np.ndarray, shape: tuple[int, int], map_threshold: float, score: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    at_low = judge(Reading(score, heatmap), Rules(low, map_threshold), shape).evaluation
    at_high = judge(Reading(score, heatmap), Rules(high, map_threshold), shape).evaluation
    assert (at_low, at_high) != (Evaluation.OK, Evaluation.NOT_OK)


@unhurried
@given(heatmaps, shapes, thresholds, fractions, fractions)
def test_raising_the_minimum_area_never_turns_ok_into_not_ok(
    heatmap: np.ndarray, shape: tuple[int, int], map_threshold: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    at_low = judge(Reading(1.0, heatmap), Rules(0.5, map_threshold, low), shape).evaluation
    at_high = judge(Reading(1.0, heatmap), Rules(0.5, map_threshold, high), shape).evaluation
    assert (at_low, at_high) != (Evaluation.OK, Evaluation.NOT_OK)


# Regions


@unhurried
@given(heatmaps, shapes, thresholds)
def test_regions_lie_in_the_picture_and_in_the_order_of_their_peaks(
    heatmap: np.ndarray, shape: tuple[int, int], map_threshold: float
) -> None:
    found = regions(heatmap, map_threshold, shape)
    height, width = shape
    assert len(found) <= MAX_REGIONS
    assert [r.peak for r in found] == sorted((r.peak for r in found), reverse=True)
    for region in found:
        x, y, w, h = region.bbox
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        assert 1 <= region.area_px <= w * h
        assert map_threshold <= region.peak <= 1


@unhurried
@given(heatmaps, shapes, thresholds)
def test_every_cell_that_reaches_the_threshold_lies_in_a_region(
    heatmap: np.ndarray, shape: tuple[int, int], map_threshold: float
) -> None:
    found = regions(heatmap, map_threshold, shape)
    hot = np.argwhere(heatmap >= map_threshold)
    assert bool(found) == bool(len(hot))
    if found:
        assert found[0].peak == heatmap.max()
    if len(found) == MAX_REGIONS:
        return
    for row, column in hot:
        cx, cy = (column + 0.5) * shape[1] / heatmap.shape[1], (row + 0.5) * shape[0] / heatmap.shape[0]
        assert any(
            x <= cx <= x + w and y <= cy <= y + h and heatmap[row, column] <= region.peak
            for region in found
            for x, y, w, h in [region.bbox]
        )


@unhurried
@given(heatmaps, shapes, thresholds, thresholds)
def test_raising_the_map_threshold_shrinks_regions(
    heatmap: np.ndarray, shape: tuple[int, int], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    wide, narrow = regions(heatmap, low, shape), regions(heatmap, high, shape)
    assert max((r.area_px for r in narrow), default=0) <= max((r.area_px for r in wide), default=0)
    if len(wide) == MAX_REGIONS:
        return
    for region in narrow:
        x, y, w, h = region.bbox
        assert any(
            x >= X and y >= Y and x + w <= X + W and y + h <= Y + H and region.area_px <= around.area_px
            for around in wide
            for X, Y, W, H in [around.bbox]
        )


def test_of_more_regions_than_a_message_holds_the_highest_peaks_are_kept() -> None:
    heatmap = np.zeros((31, 31), np.float32)
    heatmap[::2, ::2] = np.linspace(0.6, 1.0, 256, dtype=np.float32).reshape(16, 16)
    found = regions(heatmap, 0.5, (1000, 1000))
    assert len(found) == MAX_REGIONS
    assert found[-1].peak == np.sort(heatmap.ravel())[-MAX_REGIONS]


def test_of_regions_with_equal_peaks_the_larger_comes_first_and_then_the_upper_one() -> None:
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[0, 0] = heatmap[8, 0] = heatmap[4:6, 4:7] = 0.75
    heatmap[8, 8] = 0.875
    found = [region.bbox[:2] for region in regions(heatmap, 0.5, (9, 9))]
    assert found == [(8, 8), (4, 4), (0, 0), (0, 8)]


def test_a_map_much_finer_than_the_picture_still_shows_its_peak() -> None:
    heatmap = np.zeros((518, 518), np.float32)
    heatmap[300, 200] = 0.9
    assert regions(heatmap, 0.5, (1, 1))[0].bbox == (0, 0, 1, 1)
    assert stretch(heatmap, (20, 30)).max() > 0.5


@unhurried
@given(heatmaps, st.tuples(st.integers(1, 100), st.integers(1, 100)))
def test_a_stretched_map_covers_the_picture_and_is_never_hotter_than_the_map(
    heatmap: np.ndarray, shape: tuple[int, int]
) -> None:
    surface = stretch(heatmap, shape)
    assert surface.shape == shape
    assert surface.dtype == np.float32
    assert surface.max() <= heatmap.max() + 1e-6


# Alarms

OFF = AlarmState()
NOT_DECIDABLE = math.nan  # stands for a picture without a verdict in the rows of scores below

station_rules = st.integers(1, 6).flatmap(
    lambda of: st.builds(
        Rules, st.just(0.5), raise_after=st.integers(1, of), of=st.just(of), hysteresis=st.sampled_from([0.0, 0.2])
    )
)
rows_of_scores = st.lists(st.sampled_from([0.1, 0.29, 0.31, 0.4, 0.5, 0.9, NOT_DECIDABLE]), max_size=60)


def verdict_on(score: float) -> Verdict:
    return judge(Reading(score, np.zeros((2, 2), np.float32)), Rules(0.5), (10, 10))


def alarms(
    scores: list[float], rules: Rules, state: AlarmState = OFF
) -> list[tuple[float, AlarmState, AlarmEvent | None]]:
    """What became of every score: (score, state after it, event)."""
    told = []
    for score in scores:
        state, event = debounce(state, verdict_on(score), score, rules)
        told.append((score, state, event))
    return told


def events(scores: list[float], rules: Rules, state: AlarmState = OFF) -> list[AlarmEvent | None]:
    return [event for _, _, event in alarms(scores, rules, state)]


def test_with_one_of_one_every_not_ok_picture_is_told() -> None:
    assert events([0.1, 0.9, 0.8, 0.2, 0.3, 0.6], Rules(0.5)) == [
        None,
        AlarmEvent.RAISED,
        AlarmEvent.REPEATED,
        AlarmEvent.CLEARED,
        None,
        AlarmEvent.RAISED,
    ]


def test_two_of_three_ignores_a_single_slip_and_clears_after_three_good_ones() -> None:
    rules = Rules(0.5, raise_after=2, of=3)
    assert events([0.9, 0.1, 0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1], rules) == [
        *[None] * 5,
        AlarmEvent.RAISED,
        None,
        None,
        AlarmEvent.CLEARED,
    ]


def test_a_score_in_the_band_keeps_the_alarm_on() -> None:
    assert events([0.9, 0.49, 0.31, 0.29], Rules(0.5, hysteresis=0.2)) == [
        AlarmEvent.RAISED,
        None,
        None,
        AlarmEvent.CLEARED,
    ]


def test_a_score_at_the_very_edge_of_the_band_keeps_the_alarm_on() -> None:
    assert events([0.875, 0.25, 0.2499], Rules(0.5, hysteresis=0.25)) == [AlarmEvent.RAISED, None, AlarmEvent.CLEARED]


def test_a_picture_that_is_ok_for_its_small_area_alone_does_not_clear_an_alarm() -> None:
    rules = Rules(0.5, min_area=0.5)
    small = judge(one_hot_block(0.9), rules, (100, 100))
    assert small.evaluation is Evaluation.OK
    assert debounce(AlarmState(active=True), small, 0.9, rules)[1] is None


def test_after_a_restart_an_alarm_that_was_on_is_repeated_or_cleared_not_raised_again() -> None:
    rules = Rules(0.5, raise_after=2, of=3)
    assert events([0.9], rules, AlarmState(active=True)) == [AlarmEvent.REPEATED]
    assert events([0.1, 0.1, 0.1], rules, AlarmState(active=True)) == [None, None, AlarmEvent.CLEARED]


@unhurried
@given(rows_of_scores, station_rules, st.booleans())
def test_raised_and_cleared_alternate_and_repeated_comes_between(
    scores: list[float], rules: Rules, active: bool
) -> None:
    for _, state, event in alarms(scores, rules, AlarmState(active)):
        if event is AlarmEvent.RAISED:
            assert not active
            active = True
        elif event is AlarmEvent.REPEATED:
            assert active
        elif event is AlarmEvent.CLEARED:
            assert active
            active = False
        assert state.active == active


@unhurried
@given(rows_of_scores, station_rules)
def test_alarms_follow_from_the_last_pictures_alone(scores: list[float], rules: Rules) -> None:
    """Told again without state: the window is counted anew from all decided scores at every picture."""
    decided: list[float] = []
    active = False
    for score, _, event in alarms(scores, rules):
        if math.isnan(score):
            assert event is None
            continue
        decided.append(score)
        not_ok = [s >= 0.5 for s in decided[-rules.of :]]
        expected = None
        if not_ok[-1] and active:
            expected = AlarmEvent.REPEATED
        elif not_ok[-1] and sum(not_ok) >= rules.raise_after:
            expected, active = AlarmEvent.RAISED, True
        elif active and not any(not_ok) and score < 0.5 - rules.hysteresis:
            expected, active = AlarmEvent.CLEARED, False
        assert event is expected


@unhurried
@given(rows_of_scores, st.sampled_from([0.0, 0.2]))
def test_with_one_of_one_no_not_ok_picture_is_swallowed(scores: list[float], hysteresis: float) -> None:
    for score, _, event in alarms(scores, Rules(0.5, hysteresis=hysteresis)):
        assert (event in (AlarmEvent.RAISED, AlarmEvent.REPEATED)) == (score >= 0.5)


@unhurried
@given(rows_of_scores, station_rules)
def test_pictures_without_a_verdict_change_nothing(scores: list[float], rules: Rules) -> None:
    state = AlarmState()
    for score, after, event in alarms(scores, rules):
        if math.isnan(score):
            assert after == state
            assert event is None
        state = after
    decided = [s for s in scores if not math.isnan(s)]
    assert [e for s, e in zip(scores, events(scores, rules), strict=True) if not math.isnan(s)] == events(
        decided, rules
    )


@unhurried
@given(rows_of_scores, rows_of_scores, station_rules)
def test_a_restart_at_any_time_keeps_raised_and_cleared_alternating(
    before: list[float], after: list[float], rules: Rules
) -> None:
    first = alarms(before, rules)
    survived = AlarmState(first[-1][1].active if first else False)
    told = [event for *_, event in first] + events(after, rules, survived)
    turns = [event for event in told if event in (AlarmEvent.RAISED, AlarmEvent.CLEARED)]
    assert turns == [AlarmEvent.RAISED, AlarmEvent.CLEARED] * (len(turns) // 2) + [AlarmEvent.RAISED] * (len(turns) % 2)


def test_judging_needs_no_torch() -> None:
    code = "import sys, edge_agent.line.judge, edge_agent.evidence.contact_sheet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
