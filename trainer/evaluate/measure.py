"""A detector measured on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np

from edge_agent.core import Detector, Reading
from edge_agent.errors import EdgeAgentError
from trainer.data.examples import Example, Skipped, readable
from trainer.data.masks import is_doubtful
from trainer.evaluate.bootstrap import Figure, draw_counts, figure, image_draws, pixel_draws
from trainer.evaluate.class_tokens import scores_by_class_token
from trainer.evaluate.metrics import FIGURES, auroc, best_f1_threshold, image_figures, pixel_figures
from trainer.evaluate.pixel_counts import PictureCounts, PixelCounts


@dataclass(frozen=True, slots=True, eq=False)
class CategoryResult:
    """What a detector scored on one category.

    figures: in percent, by the names of metrics.FIGURES, each with the interval that holds 95 % of its draws; NaN without masks
    (pixels), and where there are only good or only defective pictures. skipped: pictures that could not be read. examples: those
    that could, with bad (n,) bool and scores (n,) in [0, 1]. draws: every figure in every draw. threshold: the detector's own
    if it has one (own_threshold), else the one with the best F1 here, NaN without both kinds. size: side in pixels at which maps
    and masks were compared. pixels: counts of those whose truth is known. vanished: number of defective pictures whose mask has
    no pixel left at that size. doubtful: number of masks that seem to be inverted, see masks.is_doubtful. class_tokens: image
    AUROC by Tipsomaly's class token, where it has two.
    """

    category: str
    figures: Mapping[str, Figure]
    skipped: Sequence[Skipped]
    examples: Sequence[Example]
    bad: np.ndarray
    scores: np.ndarray
    draws: Mapping[str, np.ndarray]
    threshold: float
    own_threshold: bool
    size: int
    pixels: PixelCounts
    vanished: int
    doubtful: int = 0
    class_tokens: Mapping[str, float] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """Number of good pictures."""
        return int((~self.bad).sum())

    @property
    def defective(self) -> int:
        """Number of defective pictures."""
        return int(self.bad.sum())

    @property
    def image_auroc(self) -> float:
        """In percent."""
        return self.figures["image_auroc"].value

    @property
    def pixel_auroc(self) -> float:
        """In percent."""
        return self.figures["pixel_auroc"].value

    @property
    def found(self) -> int:
        """Number of defective pictures that reach the threshold."""
        return int((self.scores[self.bad] >= self.threshold).sum())

    @property
    def false_alarms(self) -> int:
        """Number of good pictures that reach the threshold."""
        return int((self.scores[~self.bad] >= self.threshold).sum())


def evaluate(
    detector: Detector,
    examples: Sequence[Example],
    *,
    size: int | None = None,
    batch: int = 16,
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> CategoryResult:
    """Measure a detector on the examples of one category, in memory that does not grow with their pixels.

    Args:
        detector: the one to measure.
        examples: of one category.
        size: side in pixels at which maps and masks are compared; default that of the detector's maps.
        batch: pictures read at once; default 16.
        seed: of the draws behind the intervals; default 0.
        report: called with 1 for every picture; default nothing.

    Raises EdgeAgentError when no picture can be read, or a score or map is not finite.
    """
    skipped: list[Skipped] = []
    read: list[Example] = []
    scores: list[float] = []
    masked: list[bool] = []  # whether the mask is known
    counts: list[PictureCounts] = []
    pixel_counts = PixelCounts()
    vanished = doubtful = 0
    pending = readable(_reported(examples, report), skipped)
    with scores_by_class_token(detector) as tokens:
        while chunk := list(islice(pending, batch)):
            readings = detector.read([pixels for _, pixels, _ in chunk])
            for (example, _, mask), reading in zip(chunk, readings, strict=True):
                _require_finite(reading, example, detector)
                read.append(example)
                scores.append(reading.score)
                masked.append(mask is not None)
                size = size or reading.heatmap.shape[0]
                if mask is not None:
                    truth = cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
                    vanished += example.defective and not truth.any()
                    doubtful += is_doubtful(mask)
                    counts.append(pixel_counts.add(_resized(reading.heatmap, size), truth))
    if not read or size is None:
        raise EdgeAgentError(
            f"{examples[0].category}: none of its {len(examples)} pictures can be read; the first: {skipped[0].path}: {skipped[0].reason}"
        )
    bad, scored = np.array([one.defective for one in read]), np.array(scores)
    times = draw_counts(bad, seed, examples[0].category)
    values = image_figures(bad, scored) | pixel_figures(pixel_counts.good, pixel_counts.bad, pixel_counts.covered)
    draws = {**image_draws(times, bad, scored), **pixel_draws(times[:, np.array(masked)], counts)}
    own = detector.info.threshold
    both = bad.any() and not bad.all()
    return CategoryResult(
        category=examples[0].category,
        figures={name: figure(values[name], draws[name]) for name in FIGURES},
        skipped=skipped,
        examples=read,
        bad=bad,
        scores=scored,
        draws=draws,
        threshold=own if own is not None else best_f1_threshold(bad, scored) if both else float("nan"),
        own_threshold=own is not None,
        size=size,
        pixels=pixel_counts,
        vanished=vanished,
        doubtful=doubtful,
        class_tokens={
            str(token): auroc(bad, np.concatenate(own))
            for token, own in tokens.items()
            if sum(map(len, own)) == len(read)  # elongated pictures give several scores each
        },
    )


def require_measurable(category: str, examples: Sequence[Example]) -> None:
    """Raise EdgeAgentError when no figure can be measured, because no picture is good and no mask tells good places from bad."""
    if all(one.defective and not one.masks for one in examples):
        raise EdgeAgentError(
            f"{category}: all {len(examples)} pictures are defective and have no masks, so nothing can be measured: add good"
            " pictures as test/good, or masks"
        )


def _require_finite(reading: Reading, example: Example, detector: Detector) -> None:
    if not (np.isfinite(reading.score) and np.isfinite(reading.heatmap).all()):
        raise EdgeAgentError(
            f"{example.picture}: {detector.info.name} gave a score or map that is not a number: try `edge-agent doctor`,"
            " or refit the checkpoint with --precision fp32"
        )


def _reported(examples: Sequence[Example], report: Callable[[int], object]) -> Iterator[Example]:
    for example in examples:
        yield example
        report(1)


def _resized(heatmap: np.ndarray, size: int) -> np.ndarray:
    if heatmap.shape == (size, size):
        return np.clip(heatmap, 0, 1)
    return np.clip(cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)
