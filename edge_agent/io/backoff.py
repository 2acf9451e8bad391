"""The pauses between attempts at something that fails: doubled after each failure, shortened by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass

MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Backoff:
    """A policy for pauses.

    first_s: the pause after the first failure. longest_s: doubling ends there. least: a pause is shortened by chance to at
    least this part of itself, so that many agents or cameras do not come back all at once; 1 is not at all.
    """

    first_s: float
    longest_s: float
    least: float = 0.5

    def pause_s(self, failures: int, spent_s: float = 0.0) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            failures: failures in a row before the last one; 0 for the first.
            spent_s: seconds that the failed attempt itself took; they count as part of the pause.
        """
        full = min(self.longest_s, self.first_s * 2.0 ** min(failures, MOST_DOUBLINGS))
        return max(self.first_s, full - spent_s) * random.uniform(self.least, 1.0)
