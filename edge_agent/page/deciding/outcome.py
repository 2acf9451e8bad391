"""What another threshold would have done: to the last parts of a station, and to those of which people have said what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from edge_agent.journal.review import Scores
from edge_agent.page.deciding.bound import upper_bound

BINS = 50  # of the histogram, from 0 to 1
MOST_BOUNDS = 100  # rejected good parts up to which the promise is worked out


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a threshold would have done.

    not_ok: of the last parts. rejected: of the good ones. promised: the rate of good parts that will be rejected does not exceed
    it, at 95 %; None with no good part, or with many rejected. found: of the defects.
    """

    threshold: float
    not_ok: int
    rejected: int
    promised: float | None
    found: int


def outcome(scores: Scores, threshold: float) -> Outcome:
    """Return what a threshold would have done to these scores."""
    rejected = sum(score >= threshold for score in scores.good)
    limits = bounds(len(scores.good))
    return Outcome(
        threshold,
        sum(score >= threshold for score in scores.last),
        rejected,
        limits[rejected] if rejected < len(limits) else None,
        sum(score >= threshold for score in scores.defects),
    )


@lru_cache(maxsize=64)
def bounds(good: int) -> Sequence[float]:
    """Return for each count of rejected good parts, from 0 on, the rate that is promised. good: how many there are."""
    return [upper_bound(count, good) for count in range(min(good, MOST_BOUNDS))]


def bars(scores: Scores) -> list[tuple[int, int, int]]:
    """Return for each of BINS bins how many of the last parts are in it, how many good ones, and how many defects."""
    last, good, defects = (_by_bin(some) for some in (scores.last, scores.good, scores.defects))
    return [(last[one], good[one], defects[one]) for one in range(BINS)]


def _by_bin(scores: Sequence[float]) -> Counter[int]:
    return Counter(min(int(score * BINS), BINS - 1) for score in scores)
