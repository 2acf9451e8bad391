"""Scores of a detector against the truth: the area under the ROC curve."""

from __future__ import annotations

import numpy as np


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve in percent. truth: (n,) bool; scores: (n,). NaN unless both classes are there."""
    from sklearn.metrics import roc_auc_score

    if truth.all() or not truth.any():
        return float("nan")
    return 100 * float(roc_auc_score(truth, scores))


def best_f1_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """The score from which calling everything positive gives the highest F1. truth: (n,) bool; scores: (n,)."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def balanced_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """The score at which defects found minus false alarms, each as a share, is highest (Youden's J). truth: (n,) bool."""
    from sklearn.metrics import roc_curve

    false_alarms, found, thresholds = roc_curve(truth, scores)
    return float(thresholds[int(np.argmax(found - false_alarms))])
