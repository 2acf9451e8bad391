"""The Muon optimizer (momentum, made orthogonal by Newton-Schulz iterations) in fp32.

torch.optim.Muon iterates in bfloat16, which a CPU without units for it emulates: there one step of the embedded model took
13 s instead of under one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Muon for matrices only. The update's size is matched to AdamW's, so that both can share a learning rate."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        """Optimise matrices.

        Args:
            matrices: parameters of two dimensions.
            lr: learning rate.
            weight_decay: part of each weight that is taken off for each unit of the learning rate.
            momentum: of the moving average of gradients, in [0, 1).
        """
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all matrices; those of one shape are made orthogonal together."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(matrix)
                moving = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                alike[matrix.shape].append((matrix, matrix.grad.lerp(moving, group["momentum"])))
            for shape, pairs in alike.items():
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                size = 0.2 * max(shape) ** 0.5
                for (matrix, _), update in zip(pairs, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * size)


def orthogonal(x: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices (M, r, c) to about 1: a quintic Newton-Schulz iteration (Keller Jordan's numbers)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[1] > x.shape[2]
    x = x.float().transpose(1, 2) if tall else x.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x
