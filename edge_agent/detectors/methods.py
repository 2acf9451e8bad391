"""The methods there are, by the name that checkpoints call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.cops import Cops
from edge_agent.detectors.method import Method
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.detectors.vip2clip import ViP2Clip
from edge_agent.errors import CheckpointError

METHODS: Mapping[str, type[Method]] = {method.name: method for method in (Tipsomaly, ViP2Clip, Cops)}


def lookup(name: str) -> type[Method]:
    """The method of that name. Raises CheckpointError with the names there are."""
    if name not in METHODS:
        raise CheckpointError(f"{name!r} is no method of this version, which knows {', '.join(METHODS)}")
    return METHODS[name]


def restore(backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str) -> Method:
    """The fitted method of a checkpoint on its backbone. Raises CheckpointError, or KeyError and the like when it is damaged."""
    return lookup(header["method"]).restored(backbone, header, tensors, class_name)
