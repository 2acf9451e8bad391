"""What the authors of AdaCLIP publish, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.adaclip import CLUSTERS, DEPTH, LAYERS, LENGTH, AdaClip
from edge_agent.detectors.method import spread
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes

MODEL = "clip_model."  # all names begin with it
STATIC = {"text_static": "text_prompter", "vision_static": "visual_prompter"}
MAPS = {
    "text_maps": "dynamic_text_prompt_generator",
    "vision_maps": "dynamic_visual_prompt_generator",
    "maps": "patch_token_layer",
}
WHOLE = "cls_token_layer.head.0"


class AdaClipLayout:
    """See Layout. One flat dict. The authors ran CLIP with plain GELU and other positions: so does the checkpoint."""

    title = "AdaCLIP"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (MODEL, "text_prompter.static_prompts.0")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and f"{MODEL}{WHOLE}.weight" in content

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {MODEL: {str(name).removeprefix(MODEL): value for name, value in content.items()}}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> AdaClip:
        """See Layout."""
        return adaclip_from_published(backbone, parts[MODEL], class_name)


def published_shapes(backbone: Backbone, depth: int = DEPTH, length: int = LENGTH) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the authors' tensors by name, without what all begin with.

    Args:
        backbone: that they are to be used with.
        depth: blocks with tokens of their own.
        length: how many these are.
    """
    D, W, tower = backbone.width, backbone.text_width, backbone.tower_width
    shapes: dict[str, tuple[int, ...]] = {f"{WHOLE}.weight": (D, D), f"{WHOLE}.bias": (D,)}
    for name, width in ((STATIC["text_static"], W), (STATIC["vision_static"], tower)):
        shapes |= {f"{name}.static_prompts.{number}": (length, width) for number in range(depth)}
    sizes = {"text_maps": (length, D, W), "vision_maps": (length, D, tower), "maps": (LAYERS, tower, D)}
    for ours, (count, inner, outer) in sizes.items():
        for number in range(count):
            shapes |= {
                f"{MAPS[ours]}.head.{number}.weight": (outer, inner),
                f"{MAPS[ours]}.head.{number}.bias": (outer,),
            }
    return shapes


def adaclip_from_published(
    backbone: Backbone, known: Mapping[str, Tensor], class_name: str = "object", *, clusters: int = CLUSTERS
) -> AdaClip:
    """Make the method of the authors' tensors.

    Args:
        backbone: the one that they were fitted on, with either activation.
        known: the tensors, without what all their names begin with.
        class_name: what the pictures show.
        clusters: of suspicious patches.

    Raises CheckpointError naming what does not fit.
    """
    static = [name for name in known if name.startswith(f"{STATIC['text_static']}.static_prompts.")]
    depth = len(static) or DEPTH
    length = next((known[name].shape[0] for name in static if known[name].ndim == 2), LENGTH)
    own = checked_shapes(known, published_shapes(backbone, depth, length), AdaClipLayout.title, backbone)
    method = AdaClip(
        backbone,
        class_name,
        depth=depth,
        length=length,
        clusters=clusters,
        layers=spread(LAYERS, backbone.depth),  # as many as there are maps, even of a shallower tower
        activation="gelu",
        positions="bicubic",
    )
    tensors = {f"whole_map.{part}": own[f"{WHOLE}.{part}"] for part in ("weight", "bias")}
    for ours, theirs in STATIC.items():
        tensors[ours] = torch.stack([own[f"{theirs}.static_prompts.{number}"] for number in range(depth)])
    for ours, theirs in MAPS.items():
        for number in range(LAYERS if ours == "maps" else length):
            for part in ("weight", "bias"):
                tensors[f"{ours}.{number}.{part}"] = own[f"{theirs}.head.{number}.{part}"]
    method.load_state_dict(tensors)
    return method
