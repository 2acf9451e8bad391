"""The learned parts of Bayes-PFL: distributions of prompts bent by planar flows, and attention between texts and patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_agent.kernels import scoring

FLOWS = 10  # as published
HEADS = 4
STD = 0.02
LEAST_VOLUME = 1e-5  # added to the volume that a flow leaves, so that its logarithm is finite, as published


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn from a distribution. z: (B, R, D), after the flows. divergence: (B,), one sample's estimate of KL; R is 1."""

    z: Tensor
    divergence: Tensor


class Gaussian(nn.Module):
    """A normal distribution for each input (B, D), by two networks of three layers."""

    def __init__(self, width: int, hidden: int) -> None:
        """Create random parameters. width: D. hidden: of the inner layers."""
        super().__init__()
        self.mean, self.spread = (
            nn.Sequential(
                nn.Linear(width, hidden),
                nn.Softplus(),
                nn.Linear(hidden, hidden),
                nn.Softplus(),
                nn.Linear(hidden, width),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, each (B, D).

        The published code takes the root of an exponential of half of what its network gives, and of that the root again as the
        standard deviation; so the variance's logarithm is half of it.
        """
        return self.mean(x), self.spread(x) / 2


class Flows(nn.Module):
    """Planar flows z + u tanh(w z + b), one after another. Their numbers are linear in the input, or learned where there is none."""

    def __init__(self, width: int, *, conditioned: bool) -> None:
        """Create random parameters.

        Args:
            width: D.
            conditioned: whether the numbers depend on the input.
        """
        super().__init__()
        self.width, self.conditioned = width, conditioned
        sizes = {"u": FLOWS * width, "w": FLOWS * width, "b": FLOWS}
        if conditioned:
            self.linear = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
        else:
            self.learned = nn.ParameterDict({name: nn.Parameter(torch.randn(1, size)) for name, size in sizes.items()})

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Send samples through all flows. x: (B, D), the input. z: (B, R, D).

        Returns z (B, R, D), and the logarithm of how much volume is left (B, R).
        """
        if self.conditioned:
            u, w, b = (self.linear[name](x) for name in "uwb")
        else:
            u, w, b = (self.learned[name] for name in "uwb")
        u, w = (one.view(-1, FLOWS, 1, self.width) for one in (u, w))  # (B or 1, K, 1, D)
        volume = z.new_zeros(z.shape[:2])
        for number in range(FLOWS):
            inner = torch.tanh((z * w[:, number]).sum(dim=2) + b[:, number, None])  # (B, R)
            z = z + u[:, number] * inner.unsqueeze(2)
            slope = (1 - inner.square()) * (u[:, number] * w[:, number]).sum(dim=2)
            volume = volume + ((1 + slope).abs() + LEAST_VOLUME).log()
        return z, volume


def draw(gaussian: Gaussian, flows: Flows, x: Tensor, eps: Tensor) -> Drawn:
    """Draw from a distribution.

    Args:
        gaussian: what the flows start from.
        flows: bend it.
        x: (B, D), the input.
        eps: (B or 1, R, D), from a standard normal distribution.
    """
    mean, log_variance = gaussian(x)
    start = mean.unsqueeze(1) + (log_variance / 2).exp().unsqueeze(1) * eps
    z, volume = flows(x, start)
    # Logarithms of densities without the constant that both have.
    began = -(log_variance.unsqueeze(1) + (start - mean.unsqueeze(1)).square() / log_variance.exp().unsqueeze(1)) / 2
    divergence = began.sum(dim=2) + z.square().sum(dim=2) / 2 - volume
    return Drawn(z, divergence[:, 0])


class Residual(nn.Module):
    """Adds to texts what they attend to among the patches of a block; the paper's residual cross-modal attention (RCA)."""

    def __init__(self, tower_width: int, width: int, blocks: int) -> None:
        """Create random parameters.

        Args:
            tower_width: of raw patches.
            width: D, of texts.
            blocks: how many blocks of the tower are read, each with a linear map of its own.
        """
        super().__init__()
        self.query = nn.Linear(width, width)
        self.maps = nn.ModuleList(nn.Linear(tower_width, width, bias=False) for _ in range(blocks))

    def forward(self, text: Tensor, raw: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return texts (B, K, P, D) unit and patches (B, K, N, D) unit, for K blocks.

        text: (B, P, D) unit. raw: (B, N, tower_width) each, of K blocks.
        """
        patches = torch.stack(
            [scoring.unit(own(one)) for own, one in zip(self.maps, raw, strict=True)], dim=1
        )  # (B, K, N, D)
        width = text.shape[2]
        queries = self.query(text).unflatten(2, (HEADS, -1)).transpose(1, 2)  # (B, h, P, d)
        keys = patches.unflatten(3, (HEADS, -1)).transpose(2, 3)  # (B, K, h, N, d)
        attention = (queries.unsqueeze(1) @ keys.mT * width**-0.5).softmax(dim=4)  # (B, K, h, P, N)
        attended = (attention @ keys).transpose(2, 3).flatten(3)  # (B, K, P, D)
        return scoring.unit(attended + text.unsqueeze(1)), patches


class Fuse(nn.Module):
    """One feature of a picture from its patches in all blocks, each weighted by a learned importance."""

    def __init__(self, tower_width: int, width: int, blocks: int) -> None:
        """Create random parameters. Args: see Residual."""
        super().__init__()
        self.joined = nn.Linear(blocks * tower_width, tower_width // 2)
        self.importance = nn.Linear(tower_width // 2, 1)
        self.out = nn.Linear(tower_width // 2, width)

    def forward(self, raw: Sequence[Tensor]) -> Tensor:
        """Return (B, D). raw: (B, N, tower_width) each."""
        x = self.joined(torch.cat(list(raw), dim=2))
        return self.out((self.importance(x).softmax(dim=1) * x).sum(dim=1))
