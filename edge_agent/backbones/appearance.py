"""Self-consistency: how unlike a patch looks to those of its own picture that look most like it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEAREST = 0.05  # fraction of a picture's patches: a stain of several patches is still alone among so many


class Appearance(nn.Module):
    """What a patch looks like, in a few figures that a teacher's were the example of. Of no published TIPS: only our own has it."""

    def __init__(self, width: int, figures: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, figures)
        nn.init.zeros_(self.proj.weight)  # it begins as who says the same of every patch

    def figures(self, x: Tensor) -> Tensor:
        """x: (B, N, D) patches. Returns (B, N, K)."""
        return self.proj(x)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D) patches. Returns (B, N), fp32: the logarithm of their mean distance to the nearest others of their picture."""
        z = self.figures(x).float()
        square = z.square().sum(dim=2)  # (B, N)
        distance = (square.unsqueeze(2) + square.unsqueeze(1) - 2 * z @ z.mT).clamp(min=0).sqrt()  # (B, N, N)
        count = max(round(NEAREST * x.shape[1]), 1)
        nearest = distance.topk(count + 1, dim=2, largest=False).values[:, :, 1:]  # the first is the patch itself
        return torch.log(nearest.mean(dim=2) + 1e-3)
