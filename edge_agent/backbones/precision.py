"""Weights in the precision that their matrix products are made in, for towers that are read under autocast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from edge_agent.backbones.tips import Tips

if TYPE_CHECKING:
    from edge_agent.backbones.clip import Clip

PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


def halve(backbone: Tips | Clip, dtype: torch.dtype) -> None:
    """The vision tower's, in place. Autocast would cast them anew at every call, to the same numbers; the rest stays in fp32."""
    tower = backbone.vision if isinstance(backbone, Tips) else backbone.model.visual
    for part in tower.modules():
        if isinstance(part, PRODUCTS):
            for name, weight in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=False))
