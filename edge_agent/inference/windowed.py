"""A detector that reads each picture as a whole and in windows: slower, and finds smaller defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from edge_agent.core import Detector, Reading
from edge_agent.errors import CheckpointError
from edge_agent.kernels.scoring import MIN_PROBABILITY

WEIGHT = 0.5  # of the windows beside the whole picture's 1: see benchmarks/results/embedded-ablations.md


class WindowedDetector:
    """Reads `windows` x `windows` windows of each picture, each half over the next, as pictures of their own.

    A score's log odds are the mean of the whole picture's and of the highest window's. A heatmap is the mean of the whole
    picture's and of the windows'; each window counts most in its middle. It is (windows + 1) / 2 times as large.
    Scores are higher than without windows, so a threshold has to be calibrated with them. Works with any method.
    Satisfies core.Detector.
    """

    def __init__(self, whole: Detector, windows: int) -> None:
        """Read windows with the detector `whole`.

        windows: along each side, 2 at least; reading takes 1 + windows**2 times as long. Raises CheckpointError where the
        detector reads pictures of an odd side.
        """
        if whole.info.image_size % 2:
            raise CheckpointError(
                f"{whole.info.name} reads {whole.info.image_size} pixels a side, and windows want an even number"
            )
        self._whole, self.windows = whole, windows
        self.info = replace(whole.info, windows=windows)
        self.overlaps = whole.overlaps

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        self._whole.warm_up(batch * (1 + self.windows**2))

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. Only windows that are kept by half are read, or those kept at all if none is kept by half."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector."""
        keep = keep or [None] * len(images)
        views, kept, windows_of = list(images), list(keep), []
        for image, mask in zip(images, keep, strict=True):
            own = []
            for place in self._places(image, mask):
                own.append((place, len(views)))
                views.append(self._cut(image, place))
                kept.append(None if mask is None else self._cut(mask, place))
            windows_of.append(own)
        wait = self._whole.start(views, kept)

        def readings() -> list[Reading]:
            read = wait()
            return [
                self._combined(read[at], [(place, read[view]) for place, view in own])
                for at, own in enumerate(windows_of)
            ]

        return readings

    def _places(self, image: np.ndarray, keep: np.ndarray | None) -> list[tuple[int, int]]:
        """(row, column) of the windows to read: none of a picture, or a mask, that has too few pixels to be cut up."""
        parts = [image] if keep is None else [image, keep]
        if any(min(part.shape[:2]) <= self.windows for part in parts):
            return []
        places = [(row, column) for row in range(self.windows) for column in range(self.windows)]
        if keep is None:
            return places
        fractions = [self._cut(keep, place).mean() for place in places]
        # Some methods' scores depend on the whole picture, so a window that is mostly masked could alarm over what is masked.
        least = 0.5 if max(fractions) >= 0.5 else 0.0
        return [place for place, fraction in zip(places, fractions, strict=True) if fraction and fraction >= least]

    def _cut(self, pixels: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        rows, columns = (
            slice(at * side // (self.windows + 1), (at + 2) * side // (self.windows + 1))
            for at, side in zip(place, pixels.shape[:2], strict=True)
        )
        return pixels[rows, columns]

    def _combined(self, whole: Reading, windows_read: Sequence[tuple[tuple[int, int], Reading]]) -> Reading:
        half = len(whole.heatmap) // 2
        side = half * (self.windows + 1)
        heatmap = cv2.resize(whole.heatmap, (side, side), interpolation=cv2.INTER_LINEAR)
        if not windows_read:
            return Reading(whole.score, heatmap)
        score = _mean_odds(whole.score, float(np.max([reading.score for _, reading in windows_read])))
        rising = (np.arange(half, dtype=np.float32) + 0.5) / half
        tent = np.outer(*[np.concatenate([rising, rising[::-1]])] * 2)
        windows, weights = np.zeros((2, side, side), np.float32)
        for (row, column), reading in windows_read:
            part = slice(row * half, (row + 2) * half), slice(column * half, (column + 2) * half)
            windows[part] += tent * reading.heatmap
            weights[part] += tent
        covered = weights > 0  # elsewhere no window was read
        mean = (heatmap[covered] + WEIGHT * windows[covered] / weights[covered]) / (1 + WEIGHT)
        heatmap[covered] = np.clip(mean, 0, 1)
        return Reading(score, heatmap)


def _mean_odds(whole: float, window: float) -> float:
    """Return the probability whose log odds are the weighted mean of two probabilities' log odds."""
    first, second = np.clip([whole, window], MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    odds = (np.log(first / (1 - first)) + WEIGHT * np.log(second / (1 - second))) / (1 + WEIGHT)
    return float(1 / (1 + np.exp(-odds)))
