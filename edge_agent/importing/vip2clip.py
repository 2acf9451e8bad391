"""The prompts that the authors of ViP2-CLIP publish: their names of tensors, and ours for the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.vip2clip import TOP, ViP2Clip
from edge_agent.errors import CheckpointError
from edge_agent.importing.layout import Parts

Shape = tuple[int, ...]

PROMPTS, FGP = "prompt_learner", "Zero_try"
END = "<end_of_text>"  # as open_clip's tokenizer calls it
PERCEPTION = {"query": "q_proj_pre", "key": "k_proj_pre_1", "value": "v_proj_pre_1", "out": "proj_post_t"}
UNUSED = r"prompt_temp_l1|k_proj_pre_1\.bias|token_prefix_.*|token_suffix_.*|tokenized_prompts_.*"


class ViP2ClipLayout:
    """See Layout. The file is a dict with two parts."""

    title = "ViP2-CLIP"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (PROMPTS, "ctx_pos")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and PROMPTS in content and FGP in content

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {PROMPTS: content[PROMPTS], FGP: content[FGP]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> ViP2Clip:
        """See Layout."""
        return vip2clip_from_published(backbone, parts[PROMPTS], parts[FGP])


def vip2clip_from_published(
    backbone: Backbone, prompt_learner: Mapping[str, Tensor], fgp: Mapping[str, Tensor], *, top: int = TOP
) -> ViP2Clip:
    """Make the method of the authors' tensors.

    Args:
        backbone: the one that the prompts were fitted on.
        prompt_learner: the authors' checkpoint["prompt_learner"].
        fgp: the authors' checkpoint["Zero_try"].
        top: number of patches that decide about a picture; default as published.

    Raises CheckpointError naming what does not fit.
    """
    own = own_tensors(prompt_learner, fgp, backbone)
    method = ViP2Clip(
        backbone,
        top=top,
        state=own["prompts.state"].shape[1],
        shared=len(own["prompts.shared"]),
        words=(own["word_normal"], own["word_anomalous"]),
    )
    method.load_state_dict(own)
    return method


def own_tensors(
    prompt_learner: Mapping[str, Tensor], fgp: Mapping[str, Tensor], backbone: Backbone
) -> dict[str, Tensor]:
    """Return the authors' tensors under our names, in fp32, the embedded words among them.

    Left out is what changes no result: a temperature that nothing reads, a bias that no softmax sees, padding.

    Args:
        prompt_learner: the authors' checkpoint["prompt_learner"].
        fgp: the authors' checkpoint["Zero_try"].
        backbone: the one that the prompts were fitted on.

    Raises CheckpointError naming what does not fit, and for prompts fitted on another CLIP of the same shape.
    """
    known = {**prompt_learner, **fgp}
    shapes = _shapes(known, backbone)
    faults = [f"{name} is missing" for name in shapes if name not in known]
    faults += [f"{name} is unknown" for name in known if name not in shapes and not re.fullmatch(UNUSED, name)]
    faults += [
        f"{name} is {tuple(known[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in known and tuple(known[name].shape) != shape
    ]
    if not _same_end(known.get("token_suffix_pos"), backbone):
        faults.append("token_suffix_pos does not begin with this backbone's end token")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"no ViP2-CLIP prompts for {backbone.name}: {'; '.join(faults[:5])}{more}; take the authors' file, and the backbone"
            " it was fitted on (clip:ViT-L-14-336/openai)"
        )
    floats = {name: known[name].detach().float() for name in shapes}
    own = {
        "prompts.state": torch.stack([floats["ctx_pos"], floats["ctx_neg"]]),
        "prompts.shared": floats["cls_ctx"],
        "prompts.bias": floats["cls_prompter.bias"][0],
        "word_normal": floats["token_middle_pos"][0],
        "word_anomalous": floats["token_middle_neg"][0],
    }
    for name, value in floats.items():
        if name.startswith("cls_prompter.fc."):
            own[name.replace("cls_prompter.fc.", "prompts.adapters.")] = value
    for ours, theirs in PERCEPTION.items():
        own[f"fgp.{ours}.weight"] = floats[f"{theirs}.weight"][:, :, 0]  # a 1x1 convolution's
        if ours != "key":
            own[f"fgp.{ours}.bias"] = floats[f"{theirs}.bias"]
    return own


def _shapes(known: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Shape]:
    """Return the expected shapes by the authors' names, for as many tokens as there are in `known`."""
    D, W = backbone.width, backbone.text_width
    tokens = (known.get(name, torch.ones(1)) for name in ("ctx_pos", "cls_ctx"))
    state, shared = (max(1, len(own)) if own.ndim else 1 for own in tokens)
    shapes: dict[str, Shape] = {
        "ctx_pos": (state, W),
        "ctx_neg": (state, W),
        "cls_ctx": (shared, W),
        "cls_prompter.bias": (1, D),
        "token_middle_pos": (1, 1, W),
        "token_middle_neg": (1, 1, W),
    }
    for adapter in (f"cls_prompter.fc.{index}" for index in range(shared)):
        shapes |= {f"{adapter}.0.weight": (D // 2, D), f"{adapter}.0.bias": (D // 2,)}
        shapes |= {f"{adapter}.2.weight": (W, D // 2), f"{adapter}.2.bias": (W,)}
    for name in PERCEPTION.values():
        shapes[f"{name}.weight"] = (D, D, 1)
        if name != PERCEPTION["key"]:
            shapes[f"{name}.bias"] = (D,)
    return shapes


def _same_end(suffix: Tensor | None, backbone: Backbone) -> bool:
    """Return whether the suffix (1, n, W) begins with the backbone's end token, to half precision."""
    own = backbone.embed_words(END)
    if suffix is None or suffix.ndim != 3 or suffix[0, :1].shape != own.shape:
        return False
    return bool(F.cosine_similarity(suffix[0, :1].to(own), own) > 0.999)
