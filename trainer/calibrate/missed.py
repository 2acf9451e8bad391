"""Which share of defective parts a threshold misses: on the user's pictures of some, else on painted defects, named as such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.calibrate.conformal import false_alarm_interval
from trainer.calibrate.readings import Readings
from trainer.calibrate.setup import ReadingSetup
from trainer.data.painted_pictures import paint_picture

MOST_PAINTED = 60  # pictures
_TRIES = 20  # until a painted defect lies where the station looks
_MANY = 0.5  # share of missed ones from which a reader is warned


@dataclass(frozen=True, slots=True, eq=False)
class DefectiveScores:
    """Scores of defective pictures.

    scores: (n,) float32 in [0, 1]. source: the folder that they are from; None for defects painted onto good pictures.
    """

    scores: np.ndarray
    source: Path | None


def bad_scores(readings: Readings, folder: Path) -> DefectiveScores:
    """Return the scores of the user's defective pictures. Raises EdgeAgentError when none of them can be read."""
    if not readings.n:
        raise EdgeAgentError(
            f"{folder}: none of the {len(readings.skipped)} pictures can be read; the first:"
            f" {readings.skipped[0].path}: {readings.skipped[0].reason}"
        )
    return DefectiveScores(readings.scores, folder)


def painted_scores(
    setup: ReadingSetup,
    good: Sequence[Path],
    seed: int = 0,
    report: Callable[[int], object] = lambda n: None,
) -> DefectiveScores:
    """Paint a defect onto each of the good pictures, MOST_PAINTED of them at most, and read them as a station would.

    Args:
        setup: how to read them; defects lie where its station looks.
        good: files of good pictures, at least one; broken ones are passed over.
        seed: of the defects; default 0.
        report: called with 1 for every picture; default nothing.
    """
    chosen = np.random.default_rng(seed).permutation(len(good))[:MOST_PAINTED]
    scores: list[float] = []
    waiting: list[np.ndarray] = []
    for number in chosen:
        report(1)
        if (pixels := _painted(setup, good, int(number), seed)) is not None:
            waiting.append(pixels)
        if len(waiting) == setup.batch or (number == chosen[-1] and waiting):
            scores += [one.score for one in setup.detector.read(waiting, [setup.keep] * len(waiting))]
            waiting = []
    return DefectiveScores(np.clip(np.array(scores, np.float32), 0, 1), None)


def missed(threshold: float, defective: DefectiveScores) -> Iterator[str]:
    """Say in plain words how many defective pictures a threshold calls OK.

    Args:
        threshold: in [0, 1]; scores below are OK.
        defective: scores of defective pictures; nothing is said without any.
    """
    n = len(defective.scores)
    if not n:
        return
    count = int((defective.scores < threshold).sum())
    low, high = _range(n, count)
    share = f"{100 * count / n:.0f} % (95 % confidence: {100 * low:.0f} to {100 * high:.0f} %)"
    where = (
        f"pictures of {defective.source}" if defective.source else "defects that were painted onto your good pictures"
    )
    yield f"missed         {count} of {n} {where} would be called OK, {share}"
    if not defective.source:
        yield "               painted defects are not yours: give pictures of defective parts with --bad to know what is missed"
    if count / n >= _MANY:
        yield (
            "warning        half of them or more pass: allow more false alarms, fit a checkpoint for this part, or take another model or"
            " --windows; `trainer evaluate` says which tells good from defective best"
        )


def _painted(setup: ReadingSetup, good: Sequence[Path], number: int, seed: int) -> np.ndarray | None:
    rng = np.random.default_rng([seed, number])
    try:
        pixels, donor = (
            decode(good[one], max_megapixels=setup.max_megapixels, bit_depth=setup.bit_depth, min_side=MIN_SIDE)
            for one in (number, int(rng.integers(len(good))))
        )
    except PictureError:
        return None
    for _ in range(_TRIES):
        changed, mask, _ = paint_picture(rng, pixels, donor)
        if setup.keep is None:
            return changed
        keep = cv2.resize(setup.keep.view(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if (mask & keep).sum() * 2 >= mask.sum():
            return changed
    return None


def _range(n: int, count: int) -> tuple[float, float]:
    """Return the interval (Clopper and Pearson, 1934) in which the true share lies with 95 % confidence."""
    low = false_alarm_interval(n, count)[0] if count else 0.0
    high = false_alarm_interval(n, count + 1)[1] if count < n else 1.0
    return low, high
