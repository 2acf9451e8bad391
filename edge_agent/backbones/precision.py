"""Weights in the precision that their matrix products are made in, for towers that are read under autocast."""

from __future__ import annotations

import torch
from torch import nn

from edge_agent.backbones.backbone import Backbone

PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


def halve(backbone: Backbone, dtype: torch.dtype) -> None:
    """Cast the vision tower's matrices in place; the rest stays in fp32.

    Autocast would cast them anew at every call, to the same numbers.
    """
    for part in backbone.vision_tower.modules():
        if isinstance(part, PRODUCTS):
            for name, weight in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=False))
