"""What the authors of Bayes-PFL publish, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.bayespfl import BANK, CONTEXT, LAYERS, STATE, BayesPfl
from edge_agent.detectors.clip.bayespfl_parts import FLOWS
from edge_agent.detectors.clip.vcpclip import WORST
from edge_agent.detectors.method import spread
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes

MODEL = "MyModel"
OURS = {"normal": "normal", "anomalous": "abnormal"}  # states, ours and theirs
# The encoders a second and third time, and what inspecting never reads.
UNUSED = r"PFL_\w+\.(encoder|decoder|p_mu)\..*|\w+_decoder\..*"


class BayesPflLayout:
    """See Layout. A dict with one part. The authors ran CLIP with plain GELU and other positions: so does the checkpoint.

    Their code tells by the file's name whether the picture's feature is compared as it is (`_1`, a state on the way) or after what
    the second stage learned; a file that is published is of the second stage.
    """

    title = "Bayes-PFL"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (MODEL, "prompt_context")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and set(content) == {MODEL}

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {MODEL: content[MODEL]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> BayesPfl:
        """See Layout."""
        return bayespfl_from_published(backbone, parts[MODEL], class_name)


def published_shapes(backbone: Backbone, bank: int = BANK) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the authors' tensors by name. bank: prompts of each state."""
    D, tower = backbone.width, backbone.tower_width
    hidden = tower // 2
    shapes: dict[str, tuple[int, ...]] = {
        "prompt_context": (bank, CONTEXT, D),
        **dict.fromkeys(("prompt_state_normal", "prompt_state_abnormal"), (bank, STATE, D)),
        **dict.fromkeys(("temperature_pixel", "temperature_image"), ()),
    }
    for encoder in ("context_encoder", "state_encoder"):
        for part in ("weight_mean", "weight_log_variance"):
            for number, (inner, outer) in {0: (D, hidden), 2: (hidden, hidden), 4: (hidden, D)}.items():
                shapes |= _linear(f"{encoder}.{part}.module.{number}", inner, outer)
    for name, size in (("u", FLOWS * D), ("w", FLOWS * D), ("b", FLOWS)):
        shapes |= _linear(f"PFL_context.amor_{name}", D, size)
    for state in OURS.values():
        shapes |= {
            f"PFL_{state}.amor_u": (1, FLOWS, D, 1),
            f"PFL_{state}.amor_w": (1, FLOWS, 1, D),
            f"PFL_{state}.amor_b": (1, FLOWS, 1, 1),
            f"PFL_{state}.state": (1, D),
        }
    shapes |= _linear("fuse.fuse_modules", LAYERS * tower, hidden) | _linear("fuse.compress", hidden, 1)
    shapes |= _linear("fuse.post_process", hidden, D)
    shapes |= {"RCA.q_proj_pre.weight": (D, D, 1), "RCA.q_proj_pre.bias": (D,)}
    shapes |= {f"RCA.linear_proj.{number}.weight": (D, tower) for number in range(LAYERS)}
    return shapes | _linear("class_mapping", D, D) | _linear("image_mapping", D, D)


def bayespfl_from_published(
    backbone: Backbone,
    known: Mapping[str, Tensor],
    class_name: str = "object",
    *,
    eps: Tensor | None = None,
    worst: float = WORST,
    mapped: bool = True,
) -> BayesPfl:
    """Make the method of the authors' tensors.

    Args:
        backbone: the one that they were fitted on, with either activation.
        known: the authors' checkpoint["MyModel"].
        class_name: what the pictures show.
        eps: what is drawn, (3, R, D); default as for our own.
        worst, mapped: see BayesPfl.

    Raises CheckpointError naming what does not fit.
    """
    context = known.get("prompt_context")
    bank = len(context) if context is not None and context.ndim else BANK
    own = checked_shapes(known, published_shapes(backbone, bank), BayesPflLayout.title, backbone, UNUSED)
    method = BayesPfl(
        backbone,
        class_name,
        bank=bank,
        layers=spread(LAYERS, backbone.depth),  # as many as there are maps, even of a shallower tower
        worst=worst,
        mapped=mapped,
        activation="gelu",
        positions="bicubic antialias",
        **({} if eps is None else {"draws": eps.shape[1]}),
    )
    tensors = {
        "eps": method.eps if eps is None else eps,
        "context": own["prompt_context"],
        "logs": torch.stack([own["temperature_pixel"], own["temperature_image"]]),
        "residual.query.weight": own["RCA.q_proj_pre.weight"][:, :, 0],  # a 1x1 convolution's
        "residual.query.bias": own["RCA.q_proj_pre.bias"],
    }
    for ours, theirs in OURS.items():
        tensors[f"state.{ours}"] = own[f"prompt_state_{theirs}"]
        tensors[f"state_input.{ours}"] = own[f"PFL_{theirs}.state"]
        tensors |= {
            f"state_flows.{ours}.learned.{name}": own[f"PFL_{theirs}.amor_{name}"].reshape(1, -1) for name in "uwb"
        }
    tensors |= {f"residual.maps.{number}.weight": own[f"RCA.linear_proj.{number}.weight"] for number in range(LAYERS)}
    renamed = {
        "fuse.joined": "fuse.fuse_modules",
        "fuse.importance": "fuse.compress",
        "fuse.out": "fuse.post_process",
        "text_map": "class_mapping",
        "picture_map": "image_mapping",
        **{f"context_flows.linear.{name}": f"PFL_context.amor_{name}" for name in "uwb"},
    }
    for place in ("context", "state"):
        for ours, theirs in (("mean", "weight_mean"), ("spread", "weight_log_variance")):
            renamed |= {f"{place}_gaussian.{ours}.{at}": f"{place}_encoder.{theirs}.module.{at}" for at in (0, 2, 4)}
    for ours, theirs in renamed.items():
        tensors |= {f"{ours}.{part}": own[f"{theirs}.{part}"] for part in ("weight", "bias")}
    method.load_state_dict(tensors)
    return method


def _linear(name: str, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}
