"""A reading becomes a verdict and a row of verdicts an alarm: thresholds, regions, debounce; no files, no clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.core import AlarmEvent, Evaluation, Reading, Region, Verdict
from edge_agent.io.digits import told_apart

MAX_REGIONS = 32  # a verdict lists the regions with the highest peaks; a message on the bus stays a few kilobytes
_GRID = 512  # regions are traced on a grid of about this many points a side, whatever the size of the picture


@dataclass(frozen=True, slots=True)
class Rules:
    """How one station decides.

    threshold: a score at or above it is NotOK. map_threshold in (0, 1]: the heatmap at or above it is defect.
    min_area in [0, 1]: the fraction of the picture one region must cover for NotOK; 0 asks for no region at all.
    raise_after, of: the alarm is raised when `raise_after` of the last `of` decided pictures are NotOK.
    hysteresis: how far the score must fall below the threshold before an alarm is cleared.
    least_contrast in [0, 1]: a picture of less shows nothing, and is not OK; 0 accepts any picture.

    Raises ValueError naming the field that is out of its range.
    """

    threshold: float
    map_threshold: float = 0.5
    min_area: float = 0.0
    raise_after: int = 1
    of: int = 1
    hysteresis: float = 0.0
    least_contrast: float = 0.0

    def __post_init__(self) -> None:
        # A NaN threshold would call every part good, so nothing that is not a number in its range gets past here.
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold is {self.threshold}: give a finite number, as a rule in [0, 1]")
        if not 0 < self.map_threshold <= 1:
            raise ValueError(f"map_threshold is {self.map_threshold}: give a number in (0, 1]")
        if not 0 <= self.min_area <= 1:
            raise ValueError(f"min_area is {self.min_area}: give a fraction of the picture in [0, 1]")
        if not 1 <= self.raise_after <= self.of:
            raise ValueError(f"raise_after is {self.raise_after} of {self.of}: give 1 <= raise_after <= of")
        if not 0 <= self.hysteresis < math.inf:
            raise ValueError(f"hysteresis is {self.hysteresis}: give a finite number of at least 0")
        if not 0 <= self.least_contrast <= 1:
            raise ValueError(f"least_contrast is {self.least_contrast}: give a number in [0, 1]")


@dataclass(frozen=True, slots=True)
class AlarmState:
    """The alarm of one station: on or off, and which of the last decided pictures were NotOK, newest last.

    `AlarmState(active=...)` is enough to go on after a restart: the window fills again, and an alarm that was on is
    cleared only when a whole window of pictures was OK.
    """

    active: bool = False
    window: tuple[bool, ...] = ()


def judge(reading: Reading, rules: Rules, shape: tuple[int, ...]) -> Verdict:
    """Decide one picture; `alarm` is left to debounce().

    NotOK: score >= threshold and, with min_area > 0, a region that large; `regions` then holds those regions.
    OK: anything else, without regions; `reason` says so when only min_area kept it from NotOK.
    NotDecidable, with a reason: the reading has a fault, the score or a part of the map is not a finite number, or there is
    nothing to judge.

    Args:
        reading: score and heatmap of the picture.
        rules: of its station.
        shape: (H, W, ...) of the picture in pixels.
    """
    if flaw := _flaw(reading, shape):
        return Verdict(Evaluation.NOT_DECIDABLE, reason=flaw)
    if reading.score < rules.threshold:
        return Verdict(Evaluation.OK)

    found = regions(reading.heatmap, rules.map_threshold, shape, rules.min_area)
    score, threshold = told_apart(float(reading.score), rules.threshold)
    over = f"score {score} reaches the threshold {threshold}"
    if not found and rules.min_area > 0:
        reason = f"{over}, but no region covers the minimum area, {100 * rules.min_area:g} % of the picture"
        return Verdict(Evaluation.OK, reason=reason)
    if not found:
        reason = f"{over}, but the map stays below {rules.map_threshold:.2f} everywhere: no region to show"
        return Verdict(Evaluation.NOT_OK, reason=reason)
    return Verdict(Evaluation.NOT_OK, found)


def debounce(state: AlarmState, verdict: Verdict, score: float, rules: Rules) -> tuple[AlarmState, AlarmEvent | None]:
    """Return the alarm's next state, and the event to report (None: nothing).

    RAISED: the alarm was off, this picture is NotOK, and with it `raise_after` of the last `of` are.
    REPEATED: the alarm was on and this picture is NotOK.
    CLEARED: the alarm was on, all of the last `of` pictures are OK, and this score is below threshold - hysteresis.
    Pictures that are neither OK nor NotOK change nothing and do not count among the last `of`.

    Args:
        state: of the station's alarm before this picture.
        verdict: on this picture.
        score: of this picture, in [0, 1].
        rules: of the station.
    """
    if verdict.evaluation not in (Evaluation.OK, Evaluation.NOT_OK):
        return state, None
    not_ok = verdict.evaluation is Evaluation.NOT_OK
    window = (*state.window, not_ok)[-rules.of :]

    if not_ok and state.active:
        return AlarmState(True, window), AlarmEvent.REPEATED
    if not_ok and sum(window) >= rules.raise_after:
        return AlarmState(True, window), AlarmEvent.RAISED
    all_ok = len(window) == rules.of and not any(window)
    if state.active and all_ok and score < rules.threshold - rules.hysteresis:
        return AlarmState(False, window), AlarmEvent.CLEARED
    return AlarmState(state.active, window), None


def stretch(heatmap: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lay a (h, w) float32 map over a picture of the given shape (H, W, ...): (H, W) float32, never above its peak.

    Bilinear, outer edges on outer edges; a map finer than the picture is thinned so that its peaks survive.
    """
    (h, w), (H, W) = heatmap.shape, shape[:2]
    if h > H or w > W:
        heatmap = cv2.dilate(heatmap, np.ones((-(-h // H), -(-w // W)), np.uint8))
    return cv2.resize(heatmap, (W, H), interpolation=cv2.INTER_LINEAR)


def regions(
    heatmap: np.ndarray, map_threshold: float, shape: tuple[int, ...], min_area: float = 0.0
) -> tuple[Region, ...]:
    """Return the connected parts of a stretched map that reach map_threshold, highest peak first, at most MAX_REGIONS.

    Of each region:
    bbox: the smallest box of whole pixels around it, inside the picture, at least 1 x 1.
    area_px: its area in pixels of the picture, rounded, at least 1; a box is never smaller than its area.
    peak: the highest value of the heatmap's own cells in it.
    Edges are as fine as a pixel in pictures up to 512 pixels a side, and 1/512 of the side in larger ones.

    Args:
        heatmap: (h, w) float32 in [0, 1].
        map_threshold: in (0, 1].
        shape: (H, W, ...) of the picture in pixels.
        min_area: fraction of the picture in [0, 1]; smaller parts are left out.
    """
    if heatmap.max() < map_threshold:
        return ()
    (h, w), (H, W) = heatmap.shape, shape[:2]

    # With an odd number of points to a cell, the cells' centres are points of the grid. A bilinear surface is highest
    # at such centres, so every part holds at least one cell that reaches the threshold and no such cell is lost.
    fy, fx = _points_per_cell(h, H), _points_per_cell(w, W)
    centres = np.s_[fy // 2 :: fy, fx // 2 :: fx]
    mask = stretch(heatmap, (h * fy, w * fx)) >= map_threshold
    hot = heatmap >= map_threshold
    mask[centres] = hot  # exact, however this build of OpenCV rounds

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    peaks = np.zeros(count, heatmap.dtype)
    np.maximum.at(peaks, labels[centres][hot].astype(np.intp), heatmap[hot])
    sx, sy = W / (w * fx), H / (h * fy)  # picture pixels per grid point
    areas = np.maximum(1, np.rint(stats[:, cv2.CC_STAT_AREA] * (sx * sy))).astype(int)

    # Label 0 is the background. A part without a cell can only come of rounding: the saddle between two parts.
    kept = [i for i in range(1, count) if peaks[i] >= map_threshold and areas[i] >= min_area * H * W]
    kept.sort(key=lambda i: (-peaks[i], -areas[i], i))
    return tuple(Region(_box(stats[i], sx, sy, W, H), float(peaks[i]), int(areas[i])) for i in kept[:MAX_REGIONS])


def _flaw(reading: Reading, shape: tuple[int, ...]) -> str | None:
    """Why this reading cannot be judged; None when it can."""
    if reading.fault:
        return reading.fault
    if not math.isfinite(reading.score):
        return f"the detector's score is {reading.score}, not a number in [0, 1]: run `edge-agent doctor`"
    if reading.heatmap.size == 0 or 0 in shape[:2]:
        return f"nothing to judge: picture {shape[1]} x {shape[0]}, map {reading.heatmap.shape}"
    broken = reading.heatmap.size - int(np.isfinite(reading.heatmap).sum())
    if broken:
        return f"{broken} of {reading.heatmap.size} map values are not finite numbers: run `edge-agent doctor`"
    return None


def _points_per_cell(cells: int, pixels: int) -> int:
    """The smallest odd number of grid points per cell that resolves the picture's pixels, or _GRID points a side."""
    return math.ceil(min(pixels, _GRID) / cells) | 1


def _box(stats: np.ndarray, sx: float, sy: float, W: int, H: int) -> tuple[int, int, int, int]:
    """A box of grid points (left, top, width, height, ...) as (x, y, width, height) in pixels, rounded outwards."""
    left, top, width, height = (int(v) for v in stats[:4])
    # Rounding to 1e-6 first keeps a box that ends on a pixel's edge from growing by one.
    x0, y0 = math.floor(round(left * sx, 6)), math.floor(round(top * sy, 6))
    x1, y1 = math.ceil(round((left + width) * sx, 6)), math.ceil(round((top + height) * sy, 6))
    x0, y0 = min(x0, W - 1), min(y0, H - 1)
    return x0, y0, max(1, min(x1, W) - x0), max(1, min(y1, H) - y0)
