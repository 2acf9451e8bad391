"""AnomalyCLIP (arXiv 2310.18961): one pair of object-agnostic prompts for all parts, and patches that attend to values.

Reads the last block only, as the published results do. The code's defaults add the maps of four blocks; with `layers` the map is
their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors.clip.method import TEMPERATURE
from edge_agent.detectors.clip.object_prompts import DEEP_TOKENS, ObjectPrompts, pair_logits, stored, tokens_of
from edge_agent.detectors.method import Scores
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import compare

CONTEXT = 12  # learned tokens of each state, as published


@dataclass(frozen=True, slots=True)
class AnomalyClipOutput:
    """What `forward` returns.

    text: (S, D) unit, of the method's own prompts. picture: (B, 2), logits. patches: (B, h, w), probability of anomalous.
    """

    text: Tensor
    picture: Tensor
    patches: Tensor


class AnomalyClip(ObjectPrompts):
    """See the module. A class name makes no difference."""

    name = "anomalyclip"
    sigma = 4.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        context: int = CONTEXT,
        deep: int | None = None,
        deep_tokens: int = DEEP_TOKENS,
        values_from: int | None = None,
        layers: Sequence[int] = (),
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            context: learned tokens of each state.
            deep, deep_tokens, values_from: see ObjectPrompts.start.
            layers: blocks, counted from 1, whose maps make the map; default the last one alone.
            activation, positions: see ClipMethod.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.layers = tuple(layers)
        self.context = tokens_of(context, backbone, 2)
        self.start(deep, deep_tokens, values_from)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> AnomalyClip:
        """See methods.restore. The class name is not used."""
        method = cls(
            backbone,
            context=tensors["context"].shape[1],
            layers=[int(layer) for layer in header.get("layers", ())],
            **stored(header, tensors),
        )
        method.load_state_dict(tensors)
        return method

    def settings(self) -> dict[str, object]:
        """See Method."""
        return super().settings() | ({"layers": list(self.layers)} if self.layers else {})

    def precompute(self) -> None:
        """See Method."""
        self.text = self.states()

    def text_pair(self) -> Tensor:
        """Return what `precompute` kept, or encode it: see `states`."""
        return self.states() if self.text is None else self.text

    def states(self) -> Tensor:
        """Encode both prompts: (2, D) unit."""
        return scoring.unit(torch.cat(self.encode_states(self.context[:1], self.context[1:])))

    def forward(self, features: ImageFeatures) -> AnomalyClipOutput:
        """See Method. Computes in fp32."""
        assert features.values is not None, "encode_image(values=...)"
        with torch.autocast(self.deep.device.type, enabled=False):
            text = self.text_pair()
            read = [features.layers[layer] for layer in self.layers] or [features.values]
            maps = [compare(one, text[None, -2:], TEMPERATURE).probability for one in read]
            patches = torch.stack(maps).mean(dim=0).unflatten(1, features.grid)
            return AnomalyClipOutput(text, pair_logits(features.globals[:, -1], text[:2]), patches)

    def scores(self, output: AnomalyClipOutput, keep: Tensor | None = None) -> Scores:
        """See Method. A mask does not change the picture's score."""
        patches = output.patches if keep is None else output.patches.masked_fill(~keep, 0)
        return Scores(output.picture.softmax(dim=1)[:, 1], patches)
