"""Plain CLIP: a picture and its patches are compared with sentences about good and damaged things; nothing is learned."""

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
    """The probability of anomalous, fp32 in [0, 1]. picture: (B,). patches: (B, h, w)."""

    picture: Tensor
    patches: Tensor


class Plain(Method):
    """Compares with fixed sentences, one list a state, for any class name. A mask does not change the picture's score."""

    name = "clip"
    sigma = 4.0
    sentences: ClassVar[States] = (("a photo of a normal {}.",), ("a photo of a damaged {}.",))

    def __init__(self, backbone: Backbone, class_name: str = "object") -> None:
        """Encode the sentences for this class name; "_" and "-" in it become spaces."""
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
        """See methods.restore. The checkpoint holds nothing to restore."""
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
        """Return the probability of anomalous (...) of features (..., D), at the temperature the backbone was trained with."""
        return scoring.anomalous_probability(features, self.text, self.backbone.temperature)

    def scores(self, output: PlainOutput, keep: Tensor | None = None) -> Scores:
        """See Method."""
        return Scores(output.picture, output.patches if keep is None else output.patches.masked_fill(~keep, 0))
