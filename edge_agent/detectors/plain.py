"""Plain CLIP: a picture and its patches compared with sentences about good and damaged things; nothing is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors.method import Method, Scores
from edge_agent.kernels import scoring

States = tuple[tuple[str, ...], tuple[str, ...]]  # sentences with {} for the class name: normal, anomalous


@dataclass(frozen=True, slots=True)
class PlainOutput:
    """picture: (B,), patches: (B, h, w), the probability of anomalous, in [0, 1], fp32."""

    picture: Tensor
    patches: Tensor


class Plain(Method):
    """sentences: what the two states are called, for any class name. The score is the whole picture's, whatever is masked."""

    name = "clip"
    sigma = 4.0
    sentences: ClassVar[States] = (("a photo of a normal {}.",), ("a photo of a damaged {}.",))

    def __init__(self, backbone: Backbone, class_name: str = "object") -> None:
        super().__init__(backbone)
        noun = class_name.replace("_", " ").replace("-", " ").strip() or "object"
        states = [[sentence.format(noun) for sentence in state] for state in self.sentences]
        with torch.no_grad():
            text = torch.stack([scoring.state_feature(backbone.encode_text(state)) for state in states])
        self.text: Tensor  # (2, D) unit
        self.register_buffer("text", text)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> Plain:
        """See methods.restore. Nothing was fitted, so there is nothing to restore."""
        return cls(backbone, class_name)

    @classmethod
    def facts(cls) -> States:
        """See Method."""
        return cls.sentences

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return {}

    def forward(self, features: ImageFeatures) -> PlainOutput:
        """See Method."""
        return PlainOutput(
            self.probability(features.image), self.probability(features.patches).unflatten(1, features.grid)
        )

    def probability(self, features: Tensor) -> Tensor:
        """features: (..., D), any length. Returns (...), of anomalous, at the temperature the backbone was trained with."""
        return scoring.anomalous_probability(features, self.text, self.backbone.temperature)

    def scores(self, found: PlainOutput, keep: Tensor | None = None) -> Scores:
        """See Method."""
        return Scores(found.picture, found.patches if keep is None else found.patches.masked_fill(~keep, 0))
