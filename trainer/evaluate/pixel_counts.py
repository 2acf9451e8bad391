"""Pixels counted by score, one picture at a time, so that thousands of maps need no more memory than one.

A score in [0, 1] falls into one of 65,536 levels. Levels are evenly spaced in the arcsine of the score's square root: 2e-5
apart in the middle and 1e-9 at both ends, where most scores of a confident detector lie. Figures are exact but for scores
that share a level, which count as equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LEVELS = 1 << 16
COARSE_LEVELS = 1 << 12  # kept of every single picture, for the bootstrap: some 10 to 60 kB each


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """One picture's counts at the coarse levels that occur in it: levels, good, bad and covered, each (n,); see PixelCounts."""

    levels: np.ndarray
    good: np.ndarray
    bad: np.ndarray
    covered: np.ndarray


def level_of(scores: np.ndarray) -> np.ndarray:
    """Return the levels, int32, of scores in [0, 1] of any shape: higher scores never have lower levels."""
    fraction = np.arcsin(np.sqrt(scores, dtype=np.float32)) * np.float32(2 / np.pi)
    return np.minimum(fraction * np.float32(LEVELS), LEVELS - 1).astype(np.int32)


def score_of(level: float | np.ndarray) -> np.ndarray:
    """Return the lowest score of a level, which as a threshold keeps this level and all above."""
    return np.sin(np.asarray(level) * (np.pi / 2 / LEVELS)) ** 2


class PixelCounts:
    """Counts of the pixels of many pictures.

    good, bad: (LEVELS,) pixels outside and inside of defects. regions: number of connected defects. covered: (LEVELS,), at
    each level the sum over all regions of the share of the region's pixels that lies there.
    """

    def __init__(self) -> None:
        self.good = np.zeros(LEVELS, np.int64)
        self.bad = np.zeros(LEVELS, np.int64)
        self.covered = np.zeros(LEVELS)
        self.regions = 0

    def add(self, heatmap: np.ndarray, mask: np.ndarray) -> PictureCounts:
        """Count one picture and return its own counts.

        heatmap: (H, W) in [0, 1]. mask: (H, W) bool, its defects; pixels that touch at corners are connected.
        """
        levels = level_of(heatmap)
        every = np.bincount(levels.ravel(), minlength=LEVELS)
        bad: np.ndarray = np.zeros(LEVELS, np.int64)
        covered: np.ndarray = np.zeros(LEVELS)
        if mask.any():
            count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            sizes = np.bincount(labels.ravel(), minlength=count)
            inside = levels[mask]
            bad = np.bincount(inside, minlength=LEVELS)
            covered = np.bincount(inside, weights=1 / sizes[labels[mask]], minlength=LEVELS)
            self.regions += count - 1
        good = every - bad
        self.good += good
        self.bad += bad
        self.covered += covered
        return _coarse(good, bad, covered)


def dense(pictures: list[PictureCounts]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return good, bad and covered of n pictures, each (n, L) float32, at the levels that occur in any of them, lowest first."""
    if not pictures:
        return (np.zeros((0, 0), np.float32),) * 3
    known = np.unique(np.concatenate([one.levels for one in pictures]))
    arrays = np.zeros((3, len(pictures), len(known)), np.float32)
    for row, one in enumerate(pictures):
        at = np.searchsorted(known, one.levels)
        for array, counts in zip(arrays, (one.good, one.bad, one.covered), strict=True):
            array[row, at] = counts
    return arrays[0], arrays[1], arrays[2]


def _coarse(good: np.ndarray, bad: np.ndarray, covered: np.ndarray) -> PictureCounts:
    summed = [counts.reshape(COARSE_LEVELS, -1).sum(axis=1) for counts in (good, bad, covered)]
    levels = np.flatnonzero(summed[0] + summed[1])
    kept = [
        counts[levels].astype(kind) for counts, kind in zip(summed, (np.uint32, np.uint32, np.float32), strict=True)
    ]
    return PictureCounts(levels.astype(np.uint16), kept[0], kept[1], kept[2])
