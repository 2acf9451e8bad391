"""Self-consistency: how dissimilar each patch is to its nearest neighbours in its own picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEAREST = (
    0.05  # fraction of a picture's patches: more than a stain covers, so that a stain still has no near neighbours
)


class Appearance(nn.Module):
    """A short appearance descriptor of each patch, distilled from a teacher. Only the embedded backbone has it, no published TIPS."""

    def __init__(self, width: int, figures: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, figures)
        nn.init.zeros_(self.proj.weight)  # at first it gives every patch the same descriptor

    def figures(self, x: Tensor) -> Tensor:
        """Return the descriptors (B, N, K) of patches x (B, N, D)."""
        return self.proj(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N) fp32, the log of each patch's mean distance to its nearest neighbours. x: (B, N, D) patches."""
        z = self.figures(x).float()
        square = z.square().sum(dim=2)  # (B, N)
        distance = (square.unsqueeze(2) + square.unsqueeze(1) - 2 * z @ z.mT).clamp(min=0).sqrt()  # (B, N, N)
        count = max(round(NEAREST * x.shape[1]), 1)
        nearest = distance.topk(count + 1, dim=2, largest=False).values[:, :, 1:]  # the first is the patch itself
        return torch.log(nearest.mean(dim=2) + 1e-3)
