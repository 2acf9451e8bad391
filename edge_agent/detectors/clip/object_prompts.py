"""Prompts about no object in particular: learned tokens before "object." and "damaged object.", and deep ones in the text tower.

AnomalyCLIP made them; Crane, GlocalCLIP and FAPrompt begin with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.clip.method import TEMPERATURE, ClipMethod, run_as
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

WORDS = ("object.", "damaged object.")  # normal, anomalous
STD = 0.02  # of tokens before fitting, as published
DEEP_BLOCKS, DEEP_TOKENS = 8, 4  # as published: text blocks with tokens of their own from the second on, and how many


class ObjectPrompts(ClipMethod):
    """A method on such prompts. values: the block that the second stream starts from, a quarter of the way up by default."""

    words_normal: Tensor
    words_anomalous: Tensor
    text: Tensor | None

    def start(self, deep: int | None, tokens: int, values_from: int | None) -> None:
        """Create what all these methods have.

        Args:
            deep: text blocks with tokens of their own; None for as published, or as many as the tower has.
            tokens: of each of these blocks.
            values_from: the block, counted from 1, that the second stream starts from; None for a quarter of the depth.

        Raises CheckpointError for blocks that the backbone does not have.
        """
        backbone = self.backbone
        most = backbone.text_depth - 1
        self.values = max(1, backbone.depth // 4) if values_from is None else values_from
        if not 1 <= self.values <= backbone.depth:
            raise CheckpointError(f"values from block {self.values}: {backbone.name} has blocks 1 to {backbone.depth}")
        blocks = min(DEEP_BLOCKS if deep is None else deep, most)
        self.deep = nn.Parameter(STD * torch.randn(blocks, tokens, backbone.text_width))
        with torch.no_grad():
            for name, words in zip(("words_normal", "words_anomalous"), WORDS, strict=True):
                self.register_buffer(name, backbone.embed_words(words), persistent=False)
        self.register_buffer("text", None, persistent=False)
        self.to(backbone.device)

    def settings(self) -> dict[str, object]:
        """See Method."""
        return super().settings() | {"values_from": self.values}

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def train(self, mode: bool = True) -> ObjectPrompts:
        """Discard what `precompute` computed when fitting starts."""
        if mode:
            self.text = None
        return super().train(mode)

    def encode_states(self, normal: Tensor, anomalous: Tensor) -> tuple[Tensor, Tensor]:
        """Encode learned tokens (B, n, W) and (C, m, W), each with its words, to (B, D) and (C, D), not normalised."""
        return self.encode_state(normal, self.words_normal), self.encode_state(anomalous, self.words_anomalous)

    def encode_state(self, tokens: Tensor, words: Tensor) -> Tensor:
        """Encode learned tokens (B, n, W) followed by words (m, W) to (B, D), not normalised."""
        prompts = torch.cat([tokens, words.expand(tokens.shape[0], -1, -1)], dim=1)
        return self.backbone.encode_prompts(prompts, self.deep)


def stored(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of ObjectPrompts.start and ClipMethod that a checkpoint holds."""
    deep = tensors["deep"]
    sizes = {"deep": len(deep), "deep_tokens": deep.shape[1], "values_from": int(header["values_from"])}
    return sizes | run_as(header)


def tokens_of(count: int, backbone: Backbone, *more: int) -> nn.Parameter:
    """Create random learned tokens (*more, count, W)."""
    return nn.Parameter(STD * torch.randn(*more, count, backbone.text_width))


def pair_logits(features: Tensor, states: Tensor) -> Tensor:
    """Return the logits (B, 2) of pictures' features (B, D), of any length, with states (2, D) or (B, 2, D) unit."""
    return (states @ scoring.unit(features).unsqueeze(2)).squeeze(2) / TEMPERATURE
