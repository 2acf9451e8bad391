"""Descriptors of good pictures, and how far each of them lies from the others: the scale that scores are relative to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.patchcore import SHARPNESS, describe, picture_distance
from edge_agent.inference.squares import squares
from edge_agent.kernels.cells import Cells

FOLDS = 4
BEYOND_SCALE = 0.01  # share of good parts that exceed the scale
# What is known of any part beforehand: the logarithms of good parts' distances had standard deviations of 0.055 to 0.13 on
# four sets of real pictures, with 4 and with 12 of them. It counts as much as so many pictures.
SPREAD_BEFOREHAND, COUNTS_AS = 0.09, 10
SPREAD = SHARPNESS * SPREAD_BEFOREHAND  # standard deviation that is expected of the log odds of good parts' scores
LEAST, MOST = 1e-6, 1 - 1e-6  # probabilities whose odds are finite
# A bank of n times as many parts lies so much nearer to the next good one: n to this power. On three sets of real pictures it was
# 0.05 to -0.15 from one part to two (mean -0.07), -0.03 to -0.16 from three to four (-0.11), and -0.09 to -0.24 beyond (-0.14).
NEARER = -0.1


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """The descriptors of one picture: (V, h, w, D) fp16, of its V squares."""

    patches: Tensor

    @property
    def rows(self) -> Tensor:
        """(V h w, D)."""
        return self.patches.flatten(0, 2)

    def distances(self, bank: Cells) -> tuple[float, float]:
        """Return the distance of the picture, that of its highest square, and the highest distance of a patch."""
        with torch.inference_mode():
            found = torch.stack([bank.nearest(one.float().flatten(0, 1)) for one in self.patches])
            found = found.view(self.patches.shape[:3])
            return float(picture_distance(found).max()), float(found.max())


def described(backbone: Backbone, pixels: np.ndarray, side: int, layers: Sequence[int]) -> Described:
    """Describe a picture (H, W, 3) uint8 RGB, an elongated one in squares.

    Args:
        backbone: whose features are used.
        pixels: the picture.
        side: in pixels, at which each square is read.
        layers: blocks of the backbone, counted from 1.
    """
    views = [pixels[top:bottom, left:right] for top, bottom, left, right in squares(pixels.shape)]
    with torch.inference_mode():
        features = backbone.encode_image(backbone.pictures(views, side), layers)
        return Described(describe(features, layers).unflatten(1, features.grid).half().cpu())


def fold_of(count: int) -> list[int]:
    """Return the fold of each of `count` pictures: each by itself where they are few, else FOLDS folds in turn."""
    folds = min(count, FOLDS)
    return [at % folds for at in range(count)]


def nearer(shown: int, parts: int) -> float:
    """Return how far from a good part a bank of `parts` pictures lies, as a share of how far a bank of `shown` of them does."""
    return float((parts / shown) ** NEARER)


def varied(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 RGB as a camera may see the same part again: shifted by 1 %, a little lighter, with noise.

    It stands for a second good part where there is only one.
    """
    random = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    moved = np.array([[1, 0, 0.01 * width], [0, 1, 0.01 * height]], np.float32)
    shifted = cv2.warpAffine(pixels, moved, (width, height), borderMode=cv2.BORDER_REFLECT)
    light = 1.03 * shifted.astype(np.float32) + random.normal(0, 2, pixels.shape).astype(np.float32)
    return np.clip(light, 0, 255).astype(np.uint8)


def scale(distances: Sequence[float]) -> float:
    """Estimate the distance that 1 in 100 good parts exceeds, from those of good pictures, each to a bank without it."""
    return math.exp(exceeded_by(BEYOND_SCALE, np.log(np.maximum(distances, 1e-6)), SPREAD_BEFOREHAND))


def exceeded_by(share: float, values: np.ndarray, beforehand: float) -> float:
    """Estimate what a share of further values exceeds, by a prediction interval (Student's t): fewer values give a higher one.

    Args:
        share: in (0, 1).
        values: (n,), roughly normal.
        beforehand: standard deviation that is expected before any value is seen; it counts as much as COUNTS_AS values.
    """
    from scipy.special import stdtrit

    count = len(values)
    freedom = COUNTS_AS + count - 1
    variance = (COUNTS_AS * beforehand**2 + count * float(values.var())) / freedom
    reach = float(stdtrit(freedom, 1 - share)) * math.sqrt(variance * (1 + 1 / count))
    return float(values.mean()) + reach


def exceeded_score(share: float, scores: np.ndarray, spread: float = SPREAD) -> float:
    """Estimate the score that a share of good parts reaches, as if the log odds of scores were normal.

    Args:
        share: in (0, 1).
        scores: (n,) in [0, 1], of good parts.
        spread: standard deviation of the log odds that is expected beforehand; default that of banks' scores.
    """
    odds = exceeded_by(share, log_odds(scores), spread)
    return float(np.float32(1 / (1 + np.exp(-odds))))


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Return the logarithms of scores' odds, finite ones also of 0 and 1."""
    likely = np.clip(scores.astype(np.float64), LEAST, MOST)
    return np.log(likely / (1 - likely))
