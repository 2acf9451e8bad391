"""The learned parts of CoPS: an extractor of prototypes from patches, and a VAE over pictures whose decoder biases the prompts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.kernels import scoring

STD = 0.02  # of weights before fitting, as published


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), CLIP's activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Extractor(nn.Module):
    """One attention block that turns queries into a picture's prototypes; the paper's ESTS.

    Heads are 64 wide. The same weights serve both states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), QuickGELU(), nn.Linear(width, width))
        _init_weights(self)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """Return the prototypes (B, 2, P, D). queries: (2, P, D). patches: (B, N, D), not normalised."""
        x = queries.flatten(0, 1).expand(patches.shape[0], -1, -1)  # (B, 2P, D): queries do not attend to one another
        normed = self.ln_1(patches)
        x = x + self.attn(self.ln_1(x), normed, normed, need_weights=False)[0]
        x = x + self.mlp(self.ln_2(x))
        return x.unflatten(1, queries.shape[:2])


class Encoder(nn.Module):
    """The VAE's encoder: pictures' features (B, D) to mean and log variance of their codes, each (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.mean = nn.Linear(width, width)
        self.log_variance = nn.Linear(width, width)
        _init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.hidden(x))
        return self.mean(x), self.log_variance(x)


def decoder(width: int) -> nn.Sequential:
    """Create the VAE's decoder: codes (..., D) to biases (..., D)."""
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    _init_weights(net)
    return net


def pooled(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Average each patch over side x side neighbours on the grid; those beyond its edge count as zeros, as published.

    Args:
        patches: (B, N, D).
        grid: (h, w) with h * w = N.
        side: odd number of patches.
    """
    square = patches.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)
    return F.avg_pool2d(square, side, stride=1, padding=side // 2).flatten(2).transpose(1, 2)


def distances(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Return (B, 2, N) in [0, 2]: 1 - cosine of each patch (B, N, D) and the nearest prototype of each state (B, 2, P, D)."""
    cosines = scoring.unit(prototypes) @ scoring.unit(patches).transpose(1, 2).unsqueeze(1)  # (B, 2, P, N)
    return 1 - cosines.amax(dim=2)


def scaled(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """Scale each picture's numbers (B, 2, h, w) to [0, 1], minimum to maximum of those that count; 0 where all are equal.

    keep: (B, h, w) bool, those that count; the values of the others are undefined. None for all.
    """
    low, high = x, x
    if keep is not None:
        low = x.masked_fill(~keep.unsqueeze(1), torch.inf)
        high = x.masked_fill(~keep.unsqueeze(1), -torch.inf)
    low, high = low.amin(dim=(2, 3), keepdim=True), high.amax(dim=(2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).eps)


def _init_weights(module: nn.Module) -> None:
    """Initialise as published: weights normal with STD, biases 0; attention's inner projection stays torch's own."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=STD)
            nn.init.zeros_(part.bias)
