"""A method measured on several draws of a few good pictures, none of which is measured itself."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.bank.bank import Bank
from trainer.bank.good_parts import exceeded_score, varied
from trainer.bank.good_picture import GoodPicture
from trainer.calibrate.conformal import just_above, pictures_needed, threshold_rank
from trainer.data.examples import Example, Skipped, pixels_digest
from trainer.evaluate.measure import CategoryResult, evaluate
from trainer.evaluate.metrics import FIGURES

RATES = (Fraction(1, 100), Fraction(5, 100))  # false-alarm rates that are promised


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold that promises a false-alarm rate does to the measured pictures.

    rate: promised share of good parts called NotOK. certain: whether so many good pictures were shown that it is a promise;
    else it is an estimate. missed, defective, false_alarms, good: numbers of pictures.
    """

    rate: Fraction
    certain: bool
    threshold: float
    missed: int
    defective: int
    false_alarms: int
    good: int


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One draw. shown: the good pictures of the memory. figures: in percent, by FIGURES; NaN where there is none."""

    shown: Sequence[Path]
    figures: Mapping[str, float]
    points: Sequence[OperatingPoint]


@dataclass(frozen=True, slots=True, eq=False)
class FewShotResult:
    """All draws of one category.

    from_training: whether good pictures were drawn from the training split, so that every draw is measured on the same
    pictures; else from the good ones of the test split. skipped: pictures to be measured that could not be read.
    """

    category: str
    from_training: bool
    draws: Sequence[Draw]
    skipped: Sequence[Skipped]


@dataclass(frozen=True, slots=True)
class Way:
    """How a memory is made and read. bank: makes it, and those of its folds, from good pictures. reader: reads with one."""

    bank: Callable[[Sequence[GoodPicture]], Bank]
    reader: Callable[[Checkpoint], Detector]


@dataclass(slots=True)
class Pool:
    """The good pictures of one category to draw from, and the pictures to be measured.

    digests: of pixels, by file; what cannot be read has none.
    """

    good: Sequence[Example]
    test: Sequence[Example]
    from_training: bool
    digests: Mapping[Path, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, test: Sequence[Example], training: Sequence[Example], skipped: list[Skipped]) -> Pool:
        """Look through the pictures of a category; copies of a good picture are not drawn besides it.

        Args:
            test: examples of the test split.
            training: those of the training split; none if there is no such split.
            skipped: good pictures that cannot be read are added to it.
        """
        own = [one for one in training if not one.defective]
        good, from_training = (own, True) if own else ([one for one in test if not one.defective], False)
        digests: dict[Path, bytes] = {}
        for example in [*good, *test]:
            if example.picture in digests:
                continue
            try:
                digests[example.picture] = pixels_digest(decode(example.picture, min_side=MIN_SIDE))
            except PictureError as error:
                if example in own:
                    skipped.append(Skipped.by(error, example.picture))
        distinct = {digests[one.picture]: one for one in reversed(good) if one.picture in digests}
        return cls(list(reversed(distinct.values())), test, from_training, digests)

    def require(self, category: str, shots: int) -> None:
        """Raise EdgeAgentError unless `shots` can be drawn and something is left to measure."""
        spare = 0 if self.from_training else 1
        if len(self.good) < shots + spare:
            raise EdgeAgentError(
                f"{category}: has {len(self.good)} different good pictures to draw {shots} from"
                + ("" if self.from_training else ", and at least one must be left to be measured")
                + ": add good pictures as train/good, or lower --shots"
            )

    def draw(self, category: str, shots: int, seed: int) -> tuple[list[Example], list[Example]]:
        """Draw good pictures, and return them and all that is measured: what shows none of them pixel by pixel.

        Args:
            category: so that every category is drawn on its own.
            shots: how many good pictures; see `require`.
            seed: the same one draws the same pictures.
        """
        random = np.random.default_rng([seed, zlib.crc32(category.encode())])
        shown = [self.good[at] for at in sorted(random.choice(len(self.good), shots, replace=False))]
        taken = {self.digests[one.picture] for one in shown}
        return shown, [one for one in self.test if self.digests.get(one.picture) not in taken]


def measure_few_shot(
    category: str,
    pool: Pool,
    way: Way,
    *,
    shots: int,
    draws: int,
    seed: int = 0,
    size: int | None = None,
    report: Callable[[int], object] = lambda n: None,
) -> FewShotResult:
    """Measure a method on several draws of good pictures.

    Args:
        category: its name.
        pool: its pictures.
        way: how a memory is made and read.
        shots: good pictures of each draw, at least 1.
        draws: how many draws, at least 1.
        seed: of the first draw; the next ones follow it.
        size: side in pixels at which maps and masks are compared; default that of the maps.
        report: called with 1 for every picture that was measured; default nothing.

    Raises EdgeAgentError when there are too few good pictures, or nothing can be measured.
    """
    pool.require(category, shots)
    left_out: dict[Path, Skipped] = {}
    found: list[Draw] = []
    for number in range(draws):
        shown, test = pool.draw(category, shots, seed + number)
        bank = way.bank([_good_picture(one.picture) for one in shown])
        result = evaluate(way.reader(bank.checkpoint), test, size=size, seed=seed, report=report)
        left_out |= {one.path: one for one in result.skipped}
        scores = np.array(list(_unseen_scores(bank, way, shown)), np.float32)
        figures = {name: result.figures[name].value for name in FIGURES}
        points = [operating_point(scores, rate, result, bank.spread) for rate in RATES]
        found.append(Draw([one.picture for one in shown], figures, points))
    return FewShotResult(category, pool.from_training, found, list(left_out.values()))


def operating_point(shown: np.ndarray, rate: Fraction, result: CategoryResult, spread: float) -> OperatingPoint:
    """Set the threshold by the shown pictures, and count what it does to the measured ones.

    Args:
        shown: (K,) scores of the shown good pictures, each read with a memory that does not hold it.
        rate: false-alarm rate to promise. With too few pictures for it the threshold is where the rate is expected.
        result: of the measured pictures.
        spread: see exceeded_score.
    """
    certain = len(shown) >= pictures_needed(rate)
    threshold = just_above(shown, threshold_rank(len(shown), rate) if certain else 1)
    if not certain:
        threshold = max(threshold, exceeded_score(float(rate), shown, spread))
    alarms = result.scores.astype(np.float32) >= np.float32(threshold)
    return OperatingPoint(
        rate=rate,
        certain=certain,
        threshold=threshold,
        missed=int((~alarms & result.bad).sum()),
        defective=result.defective,
        false_alarms=int((alarms & ~result.bad).sum()),
        good=result.good,
    )


def _unseen_scores(bank: Bank, way: Way, shown: Sequence[Example]) -> Iterator[float]:
    """Yield the score of each shown picture by the memory of the others; of a single one what another should have, or a varied copy has."""
    if bank.expected:
        yield bank.expected[0]
        return
    readers = [way.reader(one) for one in bank.folds]
    for number, one in enumerate(shown):
        pixels = decode(one.picture, min_side=MIN_SIDE)
        (reading,) = readers[bank.fold[number]].read([varied(pixels) if len(shown) == 1 else pixels])
        if not math.isfinite(reading.score):
            raise EdgeAgentError(f"{one.picture}: its score is not a number: run `edge-agent doctor`")
        yield reading.score


def _good_picture(path: Path) -> GoodPicture:
    return GoodPicture(path.name, "", partial(decode, path, min_side=MIN_SIDE))
