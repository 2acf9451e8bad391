"""What a count of failures among some trials says of all that will follow."""

from __future__ import annotations

import math

SHARE = 0.95  # of such counts for which the bound holds
_STEPS = 40  # of the bisection: 1e-12


def upper_bound(failures: int, trials: int) -> float:
    """Return the rate that the true one does not exceed, by SHARE (Clopper and Pearson); 1 without any trial.

    failures: in [0, trials]. trials: independent and alike, as are those that follow.
    """
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(failures, trials, middle) > 1 - SHARE else (low, middle)
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """Return the probability of so many failures or fewer."""
    if rate >= 1:
        return 0.0
    term = trials * math.log1p(-rate)
    total = math.exp(term)
    for count in range(1, failures + 1):
        term += math.log((trials - count + 1) / count) + math.log(rate) - math.log1p(-rate)
        total += math.exp(term)
    return total
