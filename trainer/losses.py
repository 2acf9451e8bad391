"""The losses that prompts are fitted with: focal and Dice over two-state maps (ViP2-CLIP, CoPS and Tipsomaly share them)."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_agent.detectors import scoring
from edge_agent.detectors.tipsomaly import Found, Tipsomaly

SMOOTH = 1e-5  # keeps the logarithm finite, as the authors' focal loss does


def focal(probability: Tensor, truth: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of -(1 - p_t)^gamma log p_t. probability: (B, H, W), of anomalous, in [0, 1]; truth: the same shape, 0 or 1."""
    right = torch.where(truth > 0.5, probability, 1 - probability).clamp(SMOOTH, 1 - SMOOTH)
    return (-((1 - right) ** gamma) * right.log()).mean()


def dice(probability: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice coefficient with one added to both sides, mean over pictures. Both (B, H, W)."""
    probability, truth = probability.flatten(1), truth.flatten(1)
    overlap = (probability * truth).sum(dim=1)
    return (1 - (2 * overlap + 1) / (probability.sum(dim=1) + truth.sum(dim=1) + 1)).mean()


def both_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """dice of the anomalous map plus dice of the normal one, 1 - probability, from the same three sums."""
    probability, truth = probability.flatten(1), truth.flatten(1)
    overlap, shown, there = (probability * truth).sum(dim=1), probability.sum(dim=1), truth.sum(dim=1)
    size = probability.shape[1]
    anomalous = (2 * overlap + 1) / (shown + there + 1)
    normal = (2 * (size - shown - there + overlap) + 1) / (2 * size - shown - there + 1)
    return (2 - anomalous - normal).mean()


def map_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Tipsomaly's whole loss: focal, Dice of the anomalous map, Dice of the normal one."""
    return focal(probability, truth) + both_dice(probability, truth)


def tipsomaly_losses(method: Tipsomaly, found: Found, masks: Tensor, bad: Tensor) -> dict[str, Tensor]:
    """map_loss of the map stretched bilinearly over the mask; nothing about the picture as a whole (methods.md)."""
    return {"map": map_loss(scoring.stretch(found.patches, masks.shape[-1]), masks)}
