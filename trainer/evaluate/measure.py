"""What a detector scores on labelled pictures, beside local contrast, which needs no learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np

from edge_agent.core import Detector, DetectorInfo, Reading
from edge_agent.detectors.tipsomaly import Found, Tipsomaly, picture_score, with_consistency
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from trainer.data.examples import Example, Skipped, readable
from trainer.evaluate.bootstrap import Figure, draw, figure, image_draws, pixel_draws
from trainer.evaluate.metrics import FIGURES, auroc, best_f1_threshold, image_figures, pixel_figures
from trainer.evaluate.pixel_counts import Sketch, Tally


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One category's figures, in percent, by the names of metrics.FIGURES, with the interval that 95 % of the draws lie in.

    NaN without masks (pixels), and where there are only good pictures or only defective ones. skipped: what could not be read.
    shown: the pictures that could, with bad (n,) bool and scores (n,) in [0, 1]. draws: every figure in every draw.
    threshold: the detector's own if it has one (own_threshold), else the one with the best F1 here, NaN without both kinds.
    size: side in pixels at which maps and masks were compared. tally: of the pixels whose truth is known. vanished: defective
    pictures without a pixel of their mask left at that size. class_tokens: image AUROC by Tipsomaly's class token, where it has two.
    """

    category: str
    figures: Mapping[str, Figure]
    skipped: Sequence[Skipped]
    shown: Sequence[Example]
    bad: np.ndarray
    scores: np.ndarray
    draws: Mapping[str, np.ndarray]
    threshold: float
    own_threshold: bool
    size: int
    tally: Tally
    vanished: int
    class_tokens: Mapping[str, float] = field(default_factory=dict)

    @property
    def good(self) -> int:
        return int((~self.bad).sum())

    @property
    def defective(self) -> int:
        return int(self.bad.sum())

    @property
    def image_auroc(self) -> float:
        return self.figures["image_auroc"].value

    @property
    def pixel_auroc(self) -> float:
        return self.figures["pixel_auroc"].value

    @property
    def found(self) -> int:
        """Defective pictures that reach the threshold."""
        return int((self.scores[self.bad] >= self.threshold).sum())

    @property
    def false_alarms(self) -> int:
        """Good pictures that reach the threshold."""
        return int((self.scores[~self.bad] >= self.threshold).sum())


class LocalContrast:
    """Lab distance to a copy of the picture blurred with sigma 20, itself blurred with sigma 3, at 224. Satisfies core.Detector."""

    info = DetectorInfo("local contrast", "", "", 224, "cpu", None, None)
    overlaps = False

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector; keep is not looked at. Score: mean of the 180 highest pixels, over the scale's 100."""
        return [self._read(image) for image in images]

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector. The readings are there when this returns."""
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


def evaluate(
    detector: Detector,
    examples: Sequence[Example],
    *,
    size: int | None = None,
    batch: int = 16,
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> Result:
    """Figures over the examples of one category, in memory that does not grow with their pixels.

    size: side in pixels at which maps and masks are compared, default the detector's own. seed: of the draws behind the
    intervals. Raises EdgeAgentError when no picture can be read, and when a score or map is not finite.
    """
    skipped: list[Skipped] = []
    shown: list[Example] = []
    scores: list[float] = []
    known: list[bool] = []  # whether its mask is
    sketches: list[Sketch] = []
    tally = Tally()
    vanished = 0
    pending = readable(_told(examples, report), skipped)
    with _by_class_token(detector) as tokens:
        while chunk := list(islice(pending, batch)):
            readings = detector.read([pixels for _, pixels, _ in chunk])
            for (example, _, mask), reading in zip(chunk, readings, strict=True):
                _require_finite(reading, example, detector)
                shown.append(example)
                scores.append(reading.score)
                known.append(mask is not None)
                size = size or reading.heatmap.shape[0]
                if mask is not None:
                    truth = cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
                    vanished += example.defective and not truth.any()
                    sketches.append(tally.add(_stretched(reading.heatmap, size), truth))
    if not shown or size is None:
        raise EdgeAgentError(
            f"{examples[0].category}: none of its {len(examples)} pictures can be read; the first: {skipped[0].path}: {skipped[0].reason}"
        )
    bad, scored = np.array([one.defective for one in shown]), np.array(scores)
    times = draw(bad, seed, examples[0].category)
    values = image_figures(bad, scored) | pixel_figures(tally.good, tally.bad, tally.covered)
    draws = {**image_draws(times, bad, scored), **pixel_draws(times[:, np.array(known)], sketches)}
    own = detector.info.threshold
    both = bad.any() and not bad.all()
    return Result(
        category=examples[0].category,
        figures={name: figure(values[name], draws[name]) for name in FIGURES},
        skipped=skipped,
        shown=shown,
        bad=bad,
        scores=scored,
        draws=draws,
        threshold=own if own is not None else best_f1_threshold(bad, scored) if both else float("nan"),
        own_threshold=own is not None,
        size=size,
        tally=tally,
        vanished=vanished,
        class_tokens={str(token): auroc(bad, np.concatenate(own)) for token, own in tokens.items() if own},
    )


@contextmanager
def _by_class_token(detector: Detector) -> Iterator[dict[int, list[np.ndarray]]]:
    """While it reads, what the pictures' scores are with class token 1 and 2; nothing for methods that have not both."""
    scores: dict[int, list[np.ndarray]] = {1: [], 2: []}
    method = detector.method if isinstance(detector, PromptDetector) else None
    if not isinstance(method, Tipsomaly):
        yield scores
        return

    def note(found: Found) -> None:
        if found.picture.shape[1] == 2:
            found = with_consistency(found, *method.consistency)
            for token, own in scores.items():
                own.append(picture_score(found, token, None, method.evidence).cpu().numpy())

    handle = method.register_forward_hook(lambda module, given, found: note(found))
    try:
        yield scores
    finally:
        handle.remove()


def _require_finite(reading: Reading, example: Example, detector: Detector) -> None:
    if not (np.isfinite(reading.score) and np.isfinite(reading.heatmap).all()):
        raise EdgeAgentError(
            f"{example.picture}: {detector.info.name} gave a score or map that is not a number: try `edge-agent doctor`,"
            " or refit the checkpoint with --precision fp32"
        )


def _told(examples: Sequence[Example], report: Callable[[int], object]) -> Iterator[Example]:
    for example in examples:
        yield example
        report(1)


def _stretched(heatmap: np.ndarray, size: int) -> np.ndarray:
    if heatmap.shape == (size, size):
        return np.clip(heatmap, 0, 1)
    return np.clip(cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)
