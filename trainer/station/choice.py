"""The threshold of each candidate by its good parts, what it then gets wrong, and which candidate is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trainer.bank.good_parts import SPREAD, exceeded_score, log_odds
from trainer.calibrate.conformal import just_above, pictures_needed, threshold_rank
from trainer.evaluate.metrics import auroc
from trainer.station.candidates import Candidate

LOWEST_RATE = Fraction(1, 100)  # false-alarm rate that is promised where there are good parts enough
MOST_EXPECTED = 0.05  # of good parts above a threshold: where few are shown, a smaller share misses most defects
FEWEST_COMPARED = 4  # good pictures, below which none is unlike the others
UNLIKE = 5.0  # standard deviations above the median
# Share of the distance to pictures of other things, from which good parts do not look like each other. It was 0.55 to 0.66 on
# four sets of real parts, and 0.82 for circuit boards of which each is another.
MOST_APART = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A candidate at its threshold.

    rejected: (n,) bool, good parts called NotOK. missed: (m,) bool, defective ones called OK. rate: promised highest share of
    good parts called NotOK. separation: AUROC in percent.
    """

    candidate: Candidate
    threshold: float
    rate: Fraction
    rejected: np.ndarray
    missed: np.ndarray
    separation: float

    @property
    def unlike(self) -> list[int]:
        """Numbers of the good pictures that look unlike the others, the most unlike first: perhaps they are not good."""
        odds = log_odds(self.candidate.scores)
        if len(odds) < FEWEST_COMPARED:
            return []
        median = float(np.median(odds))
        spread = max(1.4826 * float(np.median(np.abs(odds - median))), SPREAD / 5)  # as of a normal distribution
        far = (odds - median) / spread
        return [int(at) for at in np.argsort(-far) if far[at] > UNLIKE]

    @property
    def alike(self) -> bool:
        """Whether its good parts look like each other, as far as a bank was made of them: else it finds what is new, and not defects."""
        return self.candidate.apart is None or self.candidate.apart < MOST_APART

    @property
    def usable(self) -> bool:
        """Whether any picture can reach its threshold."""
        return self.threshold <= 1


def false_alarm_rate(good: int, asked: Fraction | None = None) -> Fraction:
    """Return the rate to promise with so many good pictures: as asked, else 1 % or the lowest that they allow.

    A rate that was asked for and that they do not allow is replaced by the lowest that they do.
    """
    wanted = asked or LOWEST_RATE
    return wanted if pictures_needed(wanted) <= good else Fraction(1, good + 1)


def expected_share(rate: Fraction) -> float:
    """Return the share of good parts to expect above the threshold, by the rate that is promised: no more than MOST_EXPECTED."""
    return min(float(rate), MOST_EXPECTED)


def measured(candidate: Candidate, rate: Fraction) -> Measured:
    """Set the threshold of a candidate so that at most `rate` of good parts like those shown are called NotOK.

    Where so few pictures promise more than LOWEST_RATE, it is at least what `expected_share` of good parts is estimated to reach.
    """
    threshold = just_above(candidate.scores, threshold_rank(len(candidate.scores), rate))
    if rate > LOWEST_RATE:
        # So few pictures promise little; what fewer good parts reach can still be estimated.
        threshold = max(threshold, exceeded_score(expected_share(rate), candidate.scores))
    scores = np.concatenate([candidate.scores, candidate.bad])
    truth = np.repeat([False, True], [len(candidate.scores), len(candidate.bad)])
    return Measured(
        candidate=candidate,
        threshold=threshold,
        rate=rate,
        rejected=candidate.scores >= threshold,
        missed=candidate.bad < threshold,
        separation=auroc(truth, scores),
    )


def best(found: Sequence[Measured], painted: bool = False) -> Measured:
    """Return the one that misses the fewest defects at the same promise; of equal ones that which separates better.

    painted: whether the defects are painted. They say too little to take a bank of parts that do not look alike, and flatter what
    was fitted on painted ones.
    """

    def worth(one: Measured) -> tuple[bool, bool, int, float]:
        trusted = not painted or (one.alike and not one.candidate.fitted)
        return one.usable, trusted, -int(one.missed.sum()), one.separation

    return max(found, key=worth)
