"""A subset of patches that covers all of them: greedy, on random projections (Roth et al., arXiv 2106.08265, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

POOL = 20_000  # patches that the choice is made from; of more, so many are drawn
PROJECTED = 64  # numbers that a patch is projected to, which keeps distances to about a tenth


def coreset(patches: Tensor, size: int, seed: int = 0) -> Tensor:
    """Return at most `size` of the patches (M, D): each next one is the farthest from all that were chosen before.

    Args:
        patches: (M, D) on the CPU.
        size: rows wanted, at least 1; all are returned where there are no more.
        seed: of the drawing and of the projection; the same patches and seed give the same rows.
    """
    if len(patches) <= size:
        return patches
    random = torch.Generator().manual_seed(seed)
    if len(patches) > POOL:
        patches = patches[torch.randperm(len(patches), generator=random)[:POOL].sort().values]
    projection = torch.randn(patches.shape[1], PROJECTED, generator=random) / PROJECTED**0.5
    rows = patches.float() @ projection
    squares = rows.square().sum(dim=1)
    chosen = torch.empty(size, dtype=torch.long)
    chosen[0] = (rows - rows.mean(dim=0)).square().sum(dim=1).argmax()
    farthest = torch.full((len(rows),), float("inf"))
    for at in range(1, size):
        last = chosen[at - 1]
        farthest = torch.minimum(farthest, torch.addmv(squares + squares[last], rows, rows[last], alpha=-2))
        chosen[at] = farthest.argmax()
    return patches[chosen.sort().values]
