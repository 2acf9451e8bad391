"""How much prompts and a bank of good parts each count where they look together, from what they say of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.core import DetectorInfo
from edge_agent.inference.together import Fusion, Mix, log_odds, resized
from trainer.bank.good_parts import BEYOND_SCALE, COUNTS_AS, SPREAD, exceeded_by
from trainer.evaluate.metrics import auroc

BEFOREHAND = 0.35  # weight of the prompts' scores before any defect is read; it counts as much as COUNTS_AS defects
OF_MAPS = 0.3  # weight of the prompts' map
BEST_KNOWN = 98.0  # percent: a better separation of a few defects is not told from this one


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What one detector says: scores (n,) and maps of good pictures that it was not shown, and bad (m,), scores of defective ones."""

    scores: np.ndarray
    maps: Sequence[np.ndarray]
    bad: np.ndarray


def fitted(other: Said, bank: Said, info: DetectorInfo) -> Fusion:
    """Weigh both by how well they tell defects from good parts; a mixed value of 0.5 is what about 1 in 100 good parts reaches.

    Args:
        other: what the detector with prompts says.
        bank: what the bank says of the same pictures.
        info: of the detector with prompts.
    """
    weight = prompts_weight(other, bank)
    spreads = [spread_of(log_odds(one.scores.astype(np.float64))) for one in (other, bank)]
    score = Mix(weight * spreads[1] / spreads[0], 1 - weight, 0.0)
    score = _levelled(score, score.odds(other.scores.astype(np.float64), bank.scores.astype(np.float64)))
    pairs = [(resized(one, two.shape), two) for one, two in zip(other.maps, bank.maps, strict=True)]
    wide = [float(np.std(np.concatenate([log_odds(pair[at]).ravel() for pair in pairs]))) for at in (0, 1)]
    map_ = Mix(OF_MAPS * wide[1] / max(wide[0], 1e-3), 1 - OF_MAPS, 0.0)
    map_ = _levelled(map_, np.array([map_.odds(*pair).max() for pair in pairs]))
    return Fusion(score, map_, info.model_sha256, info.checkpoint_sha256)


def prompts_weight(other: Said, bank: Said) -> float:
    """Return how much the prompts' scores count beside 1 for all, in [0, 1].

    Of two independent values of one spread, each counts best by how far it moves defects (Fisher's discriminant). Few
    defects say little of that, and BEFOREHAND is what was best on sets of real pictures.
    """
    from scipy.special import ndtri

    def reach(one: Said) -> float:
        truth = np.repeat([False, True], [len(one.scores), len(one.bad)])
        separation = auroc(truth, np.concatenate([one.scores, one.bad]))
        return float(ndtri(np.clip(separation, 50.0, BEST_KNOWN) / 100))

    first, second = reach(other), reach(bank)
    seen = first / (first + second) if first + second else BEFOREHAND
    count = min(len(bank.bad), len(bank.scores))
    return (COUNTS_AS * BEFOREHAND + count * seen) / (COUNTS_AS + count)


def _levelled(mix: Mix, good: np.ndarray) -> Mix:
    """Set the offset so that BEYOND_SCALE of good parts, whose log odds without one are `good` (n,), reach 0.5."""
    return Mix(mix.other, mix.bank, -exceeded_by(BEYOND_SCALE, good, SPREAD))


def spread_of(odds: np.ndarray) -> float:
    """Return the standard deviation of log odds (n,) of good parts, with what is expected of any beforehand."""
    freedom = COUNTS_AS + len(odds) - 1
    return float(np.sqrt((COUNTS_AS * SPREAD**2 + len(odds) * odds.var()) / freedom))
