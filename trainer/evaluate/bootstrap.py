"""Intervals of figures by the percentile bootstrap (Efron 1979): the pictures are drawn anew many times.

Good and defective pictures are drawn separately, with replacement, as many as there are; a picture brings all its pixels.
The same pictures with the same seed give the same draws, so that two detectors can be compared draw by draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluate.metrics import PIXEL_FIGURES, counted_figures
from trainer.evaluate.pixel_counts import PictureCounts, dense

DRAWS = 1000
CONFIDENCE = 95  # percent of the draws that lie within an interval
_CHUNK = 50  # draws at once, to save memory


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure in percent and the interval that holds CONFIDENCE percent of its draws; NaN where there is none."""

    value: float
    low: float
    high: float


def draw_counts(defective: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Return how often each picture is drawn, (DRAWS, n).

    Args:
        defective: (n,) bool, by picture.
        seed: of the draws.
        name: of the category, so that every category is drawn on its own.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    times = np.zeros((DRAWS, len(defective)), np.float32)
    for kind in (False, True):
        own = np.flatnonzero(defective == kind)
        if len(own):
            times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), DRAWS)
    return times


def image_draws(times: np.ndarray, defective: np.ndarray, scores: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return IMAGE_FIGURES of every draw, each (DRAWS,).

    Args:
        times: see draw_counts.
        defective: (n,) bool, by picture.
        scores: (n,), by picture.
    """
    levels, at = np.unique(scores, return_inverse=True)
    own = np.zeros((2, len(scores), len(levels)), np.float32)
    own[defective.astype(int), np.arange(len(scores)), at] = 1
    return _figures(times, own[0], own[1], None)


def pixel_draws(times: np.ndarray, pictures: Sequence[PictureCounts]) -> Mapping[str, np.ndarray]:
    """Return PIXEL_FIGURES of every draw, each (DRAWS,). times: (DRAWS, n), see draw_counts; pictures: their counts, n."""
    if not pictures:
        return {name: np.full(len(times), np.nan) for name in PIXEL_FIGURES}
    return _figures(times, *dense(list(pictures)))


def figure(value: float, draws: np.ndarray) -> Figure:
    """Return the figure with the interval that its draws (DRAWS,) give."""
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(known):
        return Figure(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return Figure(value, float(low), float(high))


def _figures(
    times: np.ndarray, good: np.ndarray, bad: np.ndarray, covered: np.ndarray | None
) -> Mapping[str, np.ndarray]:
    parts = [
        counted_figures(some @ good, some @ bad, None if covered is None else some @ covered)
        for some in np.split(times, range(_CHUNK, len(times), _CHUNK))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
