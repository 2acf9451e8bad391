"""Split conformal prediction: a threshold from scores of good pictures, with a bound on its false-alarm rate.

Of n good pictures and one more of the same kind, in random order, each is as likely as the others to have the highest
score, or the second highest. So the chance that the next good part scores above the m-th highest of the n is at most
m / (n + 1), whatever the detector and its scores are like (Vovk, Gammerman, Shafer, Algorithmic Learning in a Random
World, 2005). The rate that a given set of n pictures leads to is Beta(m, n + 1 - m) distributed, or lower where scores tie.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def pictures_needed(rate: Fraction) -> int:
    """Return how many good pictures it takes to promise a false-alarm rate in (0, 1)."""
    return math.ceil(1 / rate) - 1


def threshold_rank(n: int, rate: Fraction) -> int:
    """Return m: the threshold goes just above the m-th highest of n scores. 0 when n is too few for the rate.

    The rate is a Fraction because 0.001 is in no float: (n + 1) * 0.001 may come out below the whole number that it is.
    """
    return math.floor((n + 1) * rate)


def just_above(values: np.ndarray, m: int) -> float:
    """Return the lowest float32 above the m-th highest of `values` (n,).

    float32, because that is what NumPy turns a number into before it compares it with a heatmap, and because the next
    float64 would be rounded back down to the value.
    """
    highest = np.partition(values.astype(np.float32), -m)[-m]
    return float(np.nextafter(highest, np.float32(np.inf)))


def is_tied(values: np.ndarray, m: int) -> bool:
    """Return whether the m-th highest of `values` (n,) occurs more than once."""
    values = values.astype(np.float32)
    return int((values == np.partition(values, -m)[-m]).sum()) > 1


def false_alarm_interval(n: int, m: int, share: float = 0.95) -> tuple[float, float]:
    """Return where the true false-alarm rate lies in `share` of all calibrations.

    With tied scores the upper end holds too, while the rate may be below the lower one.

    Args:
        n: number of good pictures.
        m: rank of the threshold, 1 to n.
        share: in (0, 1); default 0.95.
    """
    from scipy.special import betaincinv

    low, high = betaincinv(m, n + 1 - m, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
