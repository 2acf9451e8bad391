"""What a detector scores on labelled pictures, beside local contrast, which needs no learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.core import Detector, Reading
from edge_agent.pictures import decode
from trainer.data import Example, read_mask
from trainer.metrics import auroc


@dataclass(frozen=True, slots=True)
class Result:
    """One category's figures, in percent. pixel_auroc is NaN without masks."""

    category: str
    good: int
    defective: int
    image_auroc: float
    pixel_auroc: float


class LocalContrast:
    """Lab distance to a copy of the picture blurred with sigma 20, itself blurred with sigma 3, at 224. Satisfies core.Detector."""

    name = "local contrast"
    model_sha256 = checkpoint_sha256 = ""

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector; keep is not looked at. Score: mean of the 180 highest pixels, over the scale's 100."""
        return [self._read(image) for image in images]

    @staticmethod
    def _read(image: np.ndarray) -> Reading:
        small = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab)
        distance = np.linalg.norm(lab - cv2.GaussianBlur(lab, (0, 0), 20), axis=2)
        heatmap = cv2.GaussianBlur(distance, (0, 0), 3)
        score = np.sort(heatmap, axis=None)[-180:].mean()
        return Reading(float(score) / 100, np.clip(heatmap / 100, 0, 1))


def evaluate(
    detector: Detector,
    examples: Sequence[Example],
    *,
    size: int = 224,
    batch: int = 16,
    report: Callable[[int], object] = lambda n: None,
) -> Result:
    """Figures over the examples of one category. size: side in pixels at which maps and masks are compared."""
    scores: list[float] = []
    maps: list[np.ndarray] = []
    masks: list[np.ndarray | None] = []
    for start in range(0, len(examples), batch):
        chunk = examples[start : start + batch]
        for example, reading in zip(chunk, detector.read([decode(example.picture) for example in chunk]), strict=True):
            scores.append(reading.score)
            maps.append(cv2.resize(reading.heatmap, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float16))
            masks.append(read_mask(example, size))
            report(1)
    defective = np.array([example.defective for example in examples])
    known = [index for index, mask in enumerate(masks) if mask is not None]
    truth = np.concatenate([masks[index].ravel() for index in known])  # type: ignore[union-attr]
    pixels = np.concatenate([maps[index].ravel() for index in known])
    return Result(
        examples[0].category,
        int((~defective).sum()),
        int(defective.sum()),
        auroc(defective, np.array(scores)),
        auroc(truth, pixels.astype(np.float32)),
    )
