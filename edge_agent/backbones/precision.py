"""Weights in the precision that their matrix products are made in, for towers that are read under autocast."""

from __future__ import annotations

import torch
from torch import nn

PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


def halve(tower: nn.Module, dtype: torch.dtype) -> None:
    """In place. Autocast would cast these weights anew at every call, to the same numbers; norms and positions stay in fp32."""
    for part in tower.modules():
        if isinstance(part, PRODUCTS):
            for name, weight in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=False))
