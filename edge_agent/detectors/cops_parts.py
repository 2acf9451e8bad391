"""The learned parts of CoPS: what draws prototypes from patches, and a VAE over pictures whose decoder biases the prompts."""

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
    """One block in which queries attend to a picture's patches and become its prototypes; the paper's ESTS.

    Heads are 64 wide. The same weights serve both states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), QuickGELU(), nn.Linear(width, width))
        _draw(self)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """queries: (2, P, D), patches: (B, N, D), not unit. Returns (B, 2, P, D)."""
        x = queries.flatten(0, 1).expand(patches.shape[0], -1, -1)  # (B, 2P, D): no query sees another
        seen = self.ln_1(patches)
        x = x + self.attn(self.ln_1(x), seen, seen, need_weights=False)[0]
        x = x + self.mlp(self.ln_2(x))
        return x.unflatten(1, queries.shape[:2])


class Encoder(nn.Module):
    """A picture's feature (B, D) to the normal distribution that its code is drawn from: mean and log variance, each (B, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.mean = nn.Linear(width, width)
        self.log_variance = nn.Linear(width, width)
        _draw(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.hidden(x))
        return self.mean(x), self.log_variance(x)


def decoder(width: int) -> nn.Sequential:
    """Codes (..., D) to biases (..., D)."""
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    _draw(net)
    return net


def pooled(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Mean over side x side neighbours on the grid; those beyond its edge count as zeros, as published. patches: (B, N, D)."""
    square = patches.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)
    return F.avg_pool2d(square, side, stride=1, padding=side // 2).flatten(2).transpose(1, 2)


def distances(patches: Tensor, prototypes: Tensor) -> Tensor:
    """1 - cosine of each patch (B, N, D) and the nearest prototype of each state (B, 2, P, D): (B, 2, N), in [0, 2]."""
    cosines = scoring.unit(prototypes) @ scoring.unit(patches).transpose(1, 2).unsqueeze(1)  # (B, 2, P, N)
    return 1 - cosines.amax(dim=2)


def scaled(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """Each picture's numbers (B, 2, h, w) so that the least is 0 and the greatest 1. keep: (B, h, w) bool, those that count.

    All 0 where they are all the same; those that do not count come out as anything.
    """
    low, high = x, x
    if keep is not None:
        low = x.masked_fill(~keep.unsqueeze(1), torch.inf)
        high = x.masked_fill(~keep.unsqueeze(1), -torch.inf)
    low, high = low.amin(dim=(2, 3), keepdim=True), high.amax(dim=(2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).eps)


def _draw(module: nn.Module) -> None:
    """Weights as published before fitting: normal with STD, biases 0; attention's inner projection stays torch's own."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=STD)
            nn.init.zeros_(part.bias)
