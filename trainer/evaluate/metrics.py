"""Figures of a detector's scores: areas under curves, best F1, thresholds; for pictures from scores, for pixels from counts.

Pixels come as counts by level (see pixel_counts.py), since all of them would not fit into memory. Figures are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

IMAGE_FIGURES = ("image_auroc", "image_ap", "image_f1")
PIXEL_FIGURES = ("pixel_auroc", "pixel_aupro", "pixel_f1", "pixel_ap")
FIGURES = (*IMAGE_FIGURES, *PIXEL_FIGURES)
FALSE_ALARM_LIMIT = (
    0.3  # AUPRO's: share of good pixels called defective up to which it integrates, as MVTec AD defines it
)

NAN = float("nan")


def auroc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the area under the ROC curve; NaN unless both classes occur.

    Args:
        truth: (n,) bool, whether defective.
        scores: (n,).
        weights: (n,); default all 1.
    """
    from sklearn.metrics import roc_auc_score

    if not _both(truth, weights):
        return NAN
    return 100 * float(roc_auc_score(truth, scores, sample_weight=weights))


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute average precision, the step-wise area under the precision-recall curve.

    Args: see auroc.
    """
    from sklearn.metrics import average_precision_score

    if not _both(truth, weights):
        return NAN
    return 100 * float(average_precision_score(truth, scores, sample_weight=weights))


def best_f1(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Return the highest F1 of any threshold, and that threshold.

    Args: see auroc.
    """
    from sklearn.metrics import precision_recall_curve

    if not _both(truth, weights):
        return NAN, NAN
    precision, recall, thresholds = precision_recall_curve(truth, scores, sample_weight=weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    return 100 * float(f1[best]), float(thresholds[best])


def best_f1_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold with the highest F1. truth: (n,) bool; scores: (n,)."""
    return best_f1(truth, scores)[1]


def balanced_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold at which defects found minus false alarms, each as a share, is highest (Youden's J).

    It is always one of the scores, so that it is never a threshold that calls everything good, even where the scores separate
    nothing. truth: (n,) bool; scores: (n,).
    """
    from sklearn.metrics import roc_curve

    false_alarms, found, thresholds = roc_curve(truth, scores)
    return float(thresholds[1 + int(np.argmax((found - false_alarms)[1:]))])  # the first is infinite


def image_figures(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Compute IMAGE_FIGURES. truth: (n,) bool; scores: (n,). NaN unless both classes occur."""
    return {
        "image_auroc": auroc(truth, scores),
        "image_ap": average_precision(truth, scores),
        "image_f1": best_f1(truth, scores)[0],
    }


def pixel_figures(good: np.ndarray, bad: np.ndarray, covered: np.ndarray) -> dict[str, float]:
    """Compute PIXEL_FIGURES from counts by level; NaN unless both classes occur.

    Args:
        good, bad, covered: (L,), lowest level first, see PixelCounts.
    """
    truth, levels, counts = as_weighted(good, bad)
    return {
        "pixel_auroc": auroc(truth, levels, counts),
        "pixel_aupro": aupro(good, covered),
        "pixel_f1": best_f1(truth, levels, counts)[0],
        "pixel_ap": average_precision(truth, levels, counts),
    }


def as_weighted(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn counts by level (L,) into arguments for scikit-learn: truth, score and weight of every level that has pixels, once a class."""
    levels_good, levels_bad = np.flatnonzero(good), np.flatnonzero(bad)
    truth = np.repeat([False, True], [len(levels_good), len(levels_bad)])
    levels = np.concatenate([levels_good, levels_bad])
    return truth, levels, np.concatenate([good[levels_good], bad[levels_bad]]).astype(np.float64)


def aupro(good: np.ndarray, covered: np.ndarray, limit: float = FALSE_ALARM_LIMIT) -> float:
    """Compute the area under the per-region overlap curve up to a false-positive rate, divided by it (Bergmann et al., MVTec AD).

    Args:
        good: (L,), good pixels by level.
        covered: (L,), see PixelCounts: its reversed running sum over its total is the mean overlap.
        limit: the false-positive rate, in (0, 1]; default 0.3.

    NaN where `good` or `covered` is all 0.
    """
    if not good.any() or not covered.any():
        return NAN
    return float(counted_figures(good[None], covered[None], covered[None], limit)["pixel_aupro"][0])


def roc_curve(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return the ROC curve, (n, 2) in [0, 1] from (0, 0) to (1, 1): shares of good ones called defective and of defective ones found.

    good, bad: (L,) counts by level, lowest first, neither all 0.
    """
    false, found = good[::-1].cumsum() / good.sum(), bad[::-1].cumsum() / bad.sum()
    return _thinned(np.concatenate([[[0.0, 0.0]], np.stack([false, found], axis=1)]))


def precision_recall_curve(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return the precision-recall curve, (n, 2) in [0, 1]: recall, precision. See roc_curve for the arguments."""
    false, found = good[::-1].cumsum(), bad[::-1].cumsum()
    some = false + found > 0
    points = np.stack([found[some] / bad.sum(), found[some] / (false + found)[some]], axis=1)
    return _thinned(np.concatenate([[[0.0, points[0, 1]]], points]))


def counted_figures(
    good: np.ndarray, bad: np.ndarray, covered: np.ndarray | None = None, limit: float = FALSE_ALARM_LIMIT
) -> Mapping[str, np.ndarray]:
    """Compute all figures of many draws at once, from counts by level.

    Args:
        good, bad: (B, L) counts, lowest level first.
        covered: (B, L), see PixelCounts; None for pictures.
        limit: see aupro.

    Returns PIXEL_FIGURES where `covered` is given, else IMAGE_FIGURES; each (B,), NaN where a class is missing.
    """
    false, found = (counts[:, ::-1].cumsum(axis=1, dtype=np.float64) for counts in (good, bad))
    with np.errstate(invalid="ignore", divide="ignore"):
        alarms, recall = false / false[:, -1:], found / found[:, -1:]
        called = false + found
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        f1 = 2 * found / (called + found[:, -1:])
        figures = {
            "auroc": _area(alarms, recall),
            "f1": f1.max(axis=1),
            "ap": (_steps(recall) * precision).sum(axis=1),
        }
        if covered is None:
            kind = "image"
        else:
            kind = "pixel"
            overlap = covered[:, ::-1].cumsum(axis=1, dtype=np.float64)
            figures["aupro"] = _area(alarms, overlap / overlap[:, -1:], limit) / limit
    lacking = np.isnan(alarms[:, -1]) | np.isnan(recall[:, -1])
    return {f"{kind}_{name}": 100 * np.where(lacking, np.nan, values) for name, values in figures.items()}


def _thinned(points: np.ndarray, most: int = 300) -> np.ndarray:
    """Return at most `most` of the points (n, 2) of a curve, both ends among them, about evenly spaced along it."""
    way = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
    if not way[-1]:
        return points[:1]
    at = np.searchsorted(way, np.linspace(0, way[-1], most))
    return points[np.unique(np.clip(at, 0, len(points) - 1))]


def _both(truth: np.ndarray, weights: np.ndarray | None) -> bool:
    if weights is not None:
        truth = truth[weights > 0]
    return bool(truth.any() and not truth.all())


def _steps(y: np.ndarray) -> np.ndarray:
    """Return what each level adds to running sums (B, L)."""
    return np.diff(y, axis=1, prepend=0)


def _area(x: np.ndarray, y: np.ndarray, limit: float = 1.0) -> np.ndarray:
    """Return the areas (B,) under straight lines from (0, 0) through the points (x, y), each (B, L) and rising, up to x = limit."""
    wide, high = _steps(x), _steps(y)
    low_x, low_y = x - wide, y - high
    inside = np.clip(limit - low_x, 0, wide)  # how much of each piece counts
    share = np.divide(inside, wide, out=np.zeros_like(wide), where=wide > 0)
    return (inside * (low_y + high * share / 2)).sum(axis=1)
