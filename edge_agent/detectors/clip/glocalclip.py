"""GlocalCLIP (arXiv 2411.06071): AnomalyCLIP with two pairs of prompts, one for the picture and one for its patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Activation, Backbone, Positions
from edge_agent.detectors.clip.anomalyclip import AnomalyClip
from edge_agent.detectors.clip.object_prompts import DEEP_TOKENS, stored, tokens_of
from edge_agent.kernels import scoring

CONTEXT, OWN = 13, 13  # learned tokens of a pair, and further ones of its anomalous state, as published for VisA


class GlocalClip(AnomalyClip):
    """See the module. context: (2, n, W) of the picture's pair and of the patches'; own: (2, m, W), after it, if anomalous."""

    name = "glocalclip"
    sigma = 8.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        context: int = CONTEXT,
        own: int = OWN,
        deep: int | None = None,
        deep_tokens: int = DEEP_TOKENS,
        values_from: int | None = None,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            context: learned tokens of each pair.
            own: further ones of its anomalous state.
            deep, deep_tokens, values_from: see ObjectPrompts.start.
            activation, positions: see ClipMethod.
        """
        super().__init__(
            backbone,
            context=context,
            deep=deep,
            deep_tokens=deep_tokens,
            values_from=values_from,
            activation=activation,
            positions=positions,
        )
        self.own = tokens_of(own, backbone, 2)
        self.to(backbone.device)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> GlocalClip:
        """See methods.restore. The class name is not used."""
        method = cls(
            backbone,
            context=tensors["context"].shape[1],
            own=tensors["own"].shape[1],
            **stored(header, tensors),
        )
        method.load_state_dict(tensors)
        return method

    def states(self) -> Tensor:
        """Encode both pairs: (4, D) unit, the picture's first, each normal, then anomalous."""
        normal, anomalous = self.encode_states(self.context, torch.cat([self.context, self.own], dim=1))
        return scoring.unit(torch.stack([normal, anomalous], dim=1).flatten(0, 1))
