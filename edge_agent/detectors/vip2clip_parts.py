"""The learned parts of ViP2-CLIP: prompts conditioned on the picture, and text features that attend to its patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_agent.kernels import scoring

STD = 0.02  # of tokens before fitting, as published
HEADS = 8


class ConditionedPrompts(nn.Module):
    """Makes the tokens of two prompts for each picture; the paper's image-conditioned adapter (ICA).

    state: (2, E, W), normal then anomalous. shared: (R, W), of both states. bias: (D,). One adapter for each shared token.
    """

    def __init__(self, width: int, text_width: int, state: int, shared: int) -> None:
        """Create random parameters.

        Args:
            width: D, length of a feature.
            text_width: W, length of a token.
            state: E, tokens of each state before the word.
            shared: R, tokens of both states after the word.
        """
        super().__init__()
        self.state = nn.Parameter(STD * torch.randn(2, state, text_width))
        self.shared = nn.Parameter(STD * torch.randn(shared, text_width))
        self.bias = nn.Parameter(STD * torch.randn(width))
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, text_width))
            for _ in range(shared)
        )

    def forward(self, whole: Tensor, words: Sequence[Tensor]) -> list[Tensor]:
        """Return both prompts, each (B, E + n + R, W). whole: (B, D) unit. words: (n, W) for normal and for anomalous."""
        B = whole.shape[0]
        conditioned = torch.stack([adapter(whole + self.bias) for adapter in self.adapters], dim=1)  # (B, R, W)
        shared = self.shared + conditioned
        return [
            torch.cat([state.expand(B, -1, -1), word.expand(B, -1, -1), shared], dim=1)
            for state, word in zip(self.state, words, strict=True)
        ]


class Perception(nn.Module):
    """Attention of text features to patches, the same for every layer; the paper's fine-grained perception (FGP).

    The logits are not divided by the root of a head's width: so in the published code, unlike the paper. Two identities make it
    cheap for two queries and a thousand patches: keys are never computed, as (W f) . q = f . (W^T q), nor values, as the mean
    of projected patches is the projection of their mean. Keys have no bias, which would not change the softmax.
    """

    def __init__(self, width: int, text_width: int | None = None) -> None:
        """Create random parameters. width: of patches and results. text_width: of text features; default the same."""
        super().__init__()
        self.query = nn.Linear(text_width or width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """Return (B, K, 2, D) unit, the text features after attending to K layers.

        text: (B, 2, text_width) unit. patches: (B, K, N, D) unit.
        """
        B, K, _, D = patches.shape
        key, value = (layer.weight.view(HEADS, D // HEADS, D) for layer in (self.key, self.value))  # (h, d, D)
        queries = torch.einsum("bshd,hdc->bshc", self.query(text).view(B, 2, HEADS, -1), key)  # (B, 2, h, D)
        attention = (queries.reshape(B, 1, 2 * HEADS, D) @ patches.mT).softmax(dim=3)  # (B, K, 2h, N)
        attended = (attention @ patches).view(B, K, 2, HEADS, D)
        heads = torch.einsum("bkshc,hdc->bkshd", attended, value).flatten(3)  # (B, K, 2, D)
        return scoring.unit(self.out(heads + self.value.bias))
