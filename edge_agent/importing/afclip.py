"""The prompt and the adapter that the authors of AF-CLIP publish, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.afclip import INNER, AfClip
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes

PROMPT, ADAPTER = "state_prompt_embedding", "adaptor"
ATTENTION = "attention.attn."


class AfClipLayout:
    """See Layout. A dict of both, as whoever has the authors' two files saves them together.

    The authors publish the adapter as a whole pickled module, which is refused: its tensors can only be saved anew by a
    program that runs their code.
    """

    title = "AF-CLIP"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (PROMPT, PROMPT)
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and PROMPT in content and ADAPTER in content

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {PROMPT: {PROMPT: content[PROMPT]}, ADAPTER: content[ADAPTER]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> AfClip:
        """See Layout."""
        return afclip_from_published(backbone, {**parts[PROMPT], **parts[ADAPTER]})


def published_shapes(backbone: Backbone, prompt: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the authors' tensors by name. prompt: number of learned tokens."""
    width = backbone.tower_width
    return {
        PROMPT: (1, prompt, backbone.text_width),
        **{f"{ATTENTION}to_{part}.weight": (INNER, width) for part in "qkv"},
        f"{ATTENTION}to_out.0.weight": (width, INNER),
        f"{ATTENTION}to_out.0.bias": (width,),
        "attention.norm.weight": (width,),
        "attention.norm.bias": (width,),
    }


def afclip_from_published(backbone: Backbone, known: Mapping[str, Tensor]) -> AfClip:
    """Make the method of the authors' tensors, by their names. Raises CheckpointError naming what does not fit."""
    prompt = known[PROMPT].shape[1] if PROMPT in known and known[PROMPT].ndim == 3 else 12
    floats = checked_shapes(known, published_shapes(backbone, prompt), AfClipLayout.title, backbone)
    method = AfClip(backbone, prompt=prompt)
    method.load_state_dict(
        {
            "prompt": floats[PROMPT][0],
            "adapter.qkv.weight": torch.cat([floats[f"{ATTENTION}to_{part}.weight"] for part in "qkv"]),
            "adapter.out.weight": floats[f"{ATTENTION}to_out.0.weight"],
            "adapter.out.bias": floats[f"{ATTENTION}to_out.0.bias"],
            "adapter.norm.weight": floats["attention.norm.weight"],
            "adapter.norm.bias": floats["attention.norm.bias"],
        }
    )
    return method
