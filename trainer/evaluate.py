"""What a detector scores on labelled pictures, beside local contrast, which needs no learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from edge_agent.core import Detector, Reading
from edge_agent.errors import EdgeAgentError
from trainer.data import Example, Skipped, readable
from trainer.metrics import FIGURES, image_figures, pixel_figures
from trainer.resampling import Figure, draw, figure, image_draws, pixel_draws
from trainer.tally import Sketch, Tally


@dataclass(frozen=True, slots=True)
class Result:
    """One category's figures, in percent, by the names of metrics.FIGURES, with the interval that 95 % of the draws lie in.

    NaN without masks (pixels), and where there are only good pictures or only defective ones. skipped: what could not be read.
    """

    category: str
    good: int
    defective: int
    figures: Mapping[str, Figure]
    skipped: Sequence[Skipped] = ()

    @property
    def image_auroc(self) -> float:
        return self.figures["image_auroc"].value

    @property
    def pixel_auroc(self) -> float:
        return self.figures["pixel_auroc"].value


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
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> Result:
    """Figures over the examples of one category, in memory that does not grow with their pixels.

    size: side in pixels at which maps and masks are compared. seed: of the draws behind the intervals. Raises EdgeAgentError
    when no picture can be read.
    """
    skipped: list[Skipped] = []
    scores: list[float] = []
    defective: list[bool] = []
    known: list[bool] = []  # whether its mask is
    sketches: list[Sketch] = []
    tally = Tally()
    shown = readable(_told(examples, report), skipped)
    while chunk := list(islice(shown, batch)):
        for (example, _, mask), reading in zip(chunk, detector.read([pixels for _, pixels, _ in chunk]), strict=True):
            scores.append(reading.score)
            defective.append(example.defective)
            known.append(mask is not None)
            if mask is not None:
                truth = cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
                sketches.append(tally.add(_stretched(reading.heatmap, size), truth))
    if not scores:
        raise EdgeAgentError(f"{examples[0].category}: none of its {len(examples)} pictures can be read")
    bad, scored = np.array(defective), np.array(scores)
    times = draw(bad, seed, examples[0].category)
    values = image_figures(bad, scored) | pixel_figures(tally.good, tally.bad, tally.covered)
    draws = {**image_draws(times, bad, scored), **pixel_draws(times[:, np.array(known)], sketches)}
    figures = {name: figure(values[name], draws[name]) for name in FIGURES}
    return Result(examples[0].category, int((~bad).sum()), int(bad.sum()), figures, skipped)


def _told(examples: Sequence[Example], report: Callable[[int], object]) -> Iterator[Example]:
    for example in examples:
        yield example
        report(1)


def _stretched(heatmap: np.ndarray, size: int) -> np.ndarray:
    return np.clip(cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)
