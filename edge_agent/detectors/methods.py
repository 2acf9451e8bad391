"""The methods there are, by the name that checkpoints call them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.checkpoint import FORMAT, Checkpoint
from edge_agent.detectors.cops import Cops
from edge_agent.detectors.method import Method
from edge_agent.detectors.plain import Plain
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.detectors.vip2clip import ViP2Clip
from edge_agent.detectors.winclip import WinClip
from edge_agent.errors import CheckpointError

METHODS: Mapping[str, type[Method]] = {method.name: method for method in (Tipsomaly, ViP2Clip, Cops, Plain, WinClip)}


def lookup(name: str) -> type[Method]:
    """The method of that name. Raises CheckpointError with the names there are."""
    if name not in METHODS:
        raise CheckpointError(f"{name!r} is no method of this version, which knows {', '.join(METHODS)}")
    return METHODS[name]


def restore(backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str) -> Method:
    """The fitted method of a checkpoint on its backbone. Raises CheckpointError, or KeyError and the like when it is damaged."""
    return lookup(header["method"]).restored(backbone, header, tensors, class_name)


def unfitted(name: str, backbone: Backbone) -> Checkpoint:
    """What stands for a checkpoint where a method needs none; its digest changes with whatever changes scores, sentences too.

    Raises CheckpointError for a method whose prompts are fitted.
    """
    method = lookup(name)
    if not issubclass(method, Plain):
        plain = ", ".join(each.name for each in METHODS.values() if issubclass(each, Plain))
        raise CheckpointError(f"{name} inspects with fitted prompts: name a checkpoint, or take one of {plain}")
    header = {
        "format": FORMAT,
        "method": name,
        "backbone": backbone.name,
        "backbone_sha256": backbone.sha256,
        "image_size": backbone.image_size,
        "fitted_on": "nothing",
        "threshold": 0.5,
        "map_threshold": 0.5,
    }
    facts = json.dumps([header, method.sentences], sort_keys=True)
    return Checkpoint(header, {}, hashlib.sha256(facts.encode()).hexdigest())
