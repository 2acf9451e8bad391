"""How sure a figure is: the pictures drawn anew many times, and what the figure is then (percentile bootstrap, Efron 1979).

Good and defective pictures are drawn each among their own, with replacement, as many as there are; a picture brings all its
pixels. The same pictures with the same seed give the same draws, so that two detectors can be compared draw by draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluate.metrics import counted_figures
from trainer.evaluate.pixel_counts import Sketch, dense

DRAWS = 1000
SURE = 95  # percent of the draws that lie within an interval
_AT_ONCE = 50  # draws, for the sake of memory


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure in percent and the interval that holds SURE percent of its draws; NaN where there is none."""

    value: float
    low: float
    high: float


def draw(defective: np.ndarray, seed: int, name: str) -> np.ndarray:
    """(DRAWS, n): how often each picture is drawn. defective: (n,) bool. name: of the category, so that each is drawn on its own."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    times = np.zeros((DRAWS, len(defective)), np.float32)
    for kind in (False, True):
        own = np.flatnonzero(defective == kind)
        if len(own):
            times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), DRAWS)
    return times


def image_draws(times: np.ndarray, defective: np.ndarray, scores: np.ndarray) -> Mapping[str, np.ndarray]:
    """IMAGE_FIGURES of every draw, each (DRAWS,). defective, scores: (n,) of the pictures; times: see draw."""
    levels, at = np.unique(scores, return_inverse=True)
    own = np.zeros((2, len(scores), len(levels)), np.float32)
    own[defective.astype(int), np.arange(len(scores)), at] = 1
    return _figures(times, own[0], own[1], None)


def pixel_draws(times: np.ndarray, sketches: Sequence[Sketch]) -> Mapping[str, np.ndarray]:
    """PIXEL_FIGURES of every draw, each (DRAWS,). times: (DRAWS, n) of the pictures that `sketches` count."""
    return _figures(times, *dense(list(sketches)))


def figure(value: float, draws: np.ndarray) -> Figure:
    """The figure with the interval that its draws give."""
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(known):
        return Figure(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [(100 - SURE) / 2, (100 + SURE) / 2])
    return Figure(value, float(low), float(high))


def _figures(
    times: np.ndarray, good: np.ndarray, bad: np.ndarray, covered: np.ndarray | None
) -> Mapping[str, np.ndarray]:
    parts = [
        counted_figures(some @ good, some @ bad, None if covered is None else some @ covered)
        for some in np.split(times, range(_AT_ONCE, len(times), _AT_ONCE))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
