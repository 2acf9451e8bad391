"""What the authors of VCP-CLIP publish, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.vcpclip import CLASS, LAYERS, WORST, VcpClip
from edge_agent.detectors.method import spread
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes
from edge_agent.importing.vip2clip import PERCEPTION

MAPS, CLASSES, ATTENTION = "trainable_linearlayer", "New_Lan_Embed", "Zero_try"
FIRST, DEEP = "prompt_embeddings", "deep_prompt_embeddings"
TOWER = (FIRST, DEEP, "prompt_proj.weight", "prompt_proj.bias", "prompt_norm.weight", "prompt_norm.bias")


class VcpClipLayout:
    """See Layout. Three parts, and beside them tensors of the text tower; the whole CLIP may lie there too and is left out."""

    title = "VCP-CLIP"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (CLASSES, "prompt_query")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and {MAPS, CLASSES, ATTENTION, FIRST} <= set(content)

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        tower = {name: content[name] for name in TOWER if name in content}
        return {MAPS: content[MAPS], CLASSES: content[CLASSES], ATTENTION: content[ATTENTION], FIRST: tower}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> VcpClip:
        """See Layout."""
        return vcpclip_from_published(
            backbone, {name: tensor for part in parts.values() for name, tensor in part.items()}
        )


def published_shapes(backbone: Backbone) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of the authors' tensors by part and name."""
    D, W, tower = backbone.width, backbone.text_width, backbone.tower_width
    maps: dict[str, tuple[int, ...]] = {}
    for number in range(LAYERS):
        maps |= {f"fc.{number}.weight": (D, tower), f"fc.{number}.bias": (D,)}
    attention: dict[str, tuple[int, ...]] = {}
    for ours, theirs in PERCEPTION.items():
        attention |= {f"{theirs}.weight": (tower, D if ours == "query" else tower, 1), f"{theirs}.bias": (tower,)}
    return {
        MAPS: maps,
        CLASSES: {
            "prompt_query": (1, CLASS, W),
            "prompt_linear1.fc.weight": (CLASS, 1, 3),
            "prompt_linear1.fc.bias": (CLASS,),
        },
        ATTENTION: attention,
        FIRST: {
            FIRST: (1, 1, W),
            DEEP: (backbone.text_depth - 1, 1, W),
            "prompt_proj.weight": (W, W),
            **dict.fromkeys(("prompt_proj.bias", "prompt_norm.weight", "prompt_norm.bias"), (W,)),
        },
    }


def vcpclip_from_published(backbone: Backbone, known: Mapping[str, Tensor], *, worst: float = WORST) -> VcpClip:
    """Make the method of the authors' tensors. A file without temperatures is read at the published 0.07.

    Args:
        backbone: the one that they were fitted on, with either activation.
        known: the tensors of all parts.
        worst: see VcpClip.

    Raises CheckpointError naming what does not fit.
    """
    shapes = {name: shape for part in published_shapes(backbone).values() for name, shape in part.items()}
    own = checked_shapes(known, shapes, VcpClipLayout.title, backbone)
    layers = spread(LAYERS, backbone.depth)  # as many as there are maps, even of a shallower tower
    method = VcpClip(backbone, worst=worst, layers=layers, activation="gelu", positions="bicubic antialias")
    tensors = {
        "query": own["prompt_query"][0],
        "along.weight": own["prompt_linear1.fc.weight"],
        "along.bias": own["prompt_linear1.fc.bias"],
        "inserted": torch.cat([own[FIRST], own[DEEP]]),
        "logs": method.logs.detach(),
    }
    for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias"):
        tensors[name] = own[f"prompt_{name}"]
    for number in range(LAYERS):
        tensors |= {f"maps.{number}.{part}": own[f"fc.{number}.{part}"] for part in ("weight", "bias")}
    for ours, theirs in PERCEPTION.items():
        tensors[f"fgp.{ours}.weight"] = own[f"{theirs}.weight"][:, :, 0]  # a 1x1 convolution's
        if ours != "key":  # whose bias changes no softmax
            tensors[f"fgp.{ours}.bias"] = own[f"{theirs}.bias"]
    method.load_state_dict(tensors)
    return method
