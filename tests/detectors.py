"""A whole core.Detector out of `read` alone, for tests and benchmarks whose detector can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_agent.core import DetectorInfo, Reading


def info(name: str = "test/none", image_size: int = 224, *, threshold: float | None = 0.5) -> DetectorInfo:
    """What a detector of that name is. threshold: of scores and maps alike."""
    return DetectorInfo(name, "0" * 64, "1" * 64, image_size, "cpu", threshold, threshold)


class SynchronousDetector:
    """Subclasses say what they read, in `read`; the readings are there when `start` returns."""

    info = info()
    overlaps = False

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        raise NotImplementedError

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        readings = self.read(images, keep)
        return lambda: readings

    def warm_up(self, batch: int) -> None:
        pass
