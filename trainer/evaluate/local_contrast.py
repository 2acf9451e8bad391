"""A baseline detector that needs no learning: local contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from edge_agent.core import DetectorInfo, Reading


class LocalContrast:
    """See core.Detector.

    The map is the Lab distance of the picture, at 224 pixels a side, to a copy blurred with sigma 20, itself blurred with sigma 3.
    """

    info = DetectorInfo("local contrast", "", "", 224, "cpu", None, None)
    overlaps = False

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector; `keep` is ignored. The score is the mean of the 180 highest pixels, divided by the scale's 100."""
        return [self._read(image) for image in images]

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector. The readings are complete when this returns."""
        readings = self.read(images, keep)
        return lambda: readings

    def warm_up(self, batch: int) -> None:
        """See core.Detector. There is nothing to prepare."""

    @staticmethod
    def _read(image: np.ndarray) -> Reading:
        small = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab)
        distance = np.linalg.norm(lab - cv2.GaussianBlur(lab, (0, 0), 20), axis=2)
        heatmap = cv2.GaussianBlur(distance, (0, 0), 3)
        score = np.sort(heatmap, axis=None)[-180:].mean()
        return Reading(float(score) / 100, np.clip(heatmap / 100, 0, 1))
