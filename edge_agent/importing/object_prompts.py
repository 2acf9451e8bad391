"""The prompts that the authors of AnomalyCLIP, Crane, GlocalCLIP and FAPrompt publish: one file with one part, and names alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.anomalyclip import AnomalyClip
from edge_agent.detectors.clip.crane import Crane
from edge_agent.detectors.clip.craneplus import CranePlus
from edge_agent.detectors.clip.faprompt import NARROWER, SEEN, FaPrompt
from edge_agent.detectors.clip.glocalclip import GlocalClip
from edge_agent.detectors.clip.object_prompts import ObjectPrompts
from edge_agent.errors import CheckpointError
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes

Shapes = dict[str, tuple[int, ...]]

PROMPTS, DEEP, PROJECTIONS = "prompt_learner", "compound_prompts_text", "compound_prompt_projections"
# Never read by the authors' inference, and the projections never trained either.
UNUSED = rf"{PROJECTIONS}\..*|token_(prefix|suffix)_.*|tokenized_prompts_.*"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one method's tensors are named.

    own: shapes by the authors' names, but those of the deep prompts, for as many tokens as a file has. make: from a file's
    tensors, fp32, the method and its tensors by our names. marks, lacks: beginnings of names that tell its files from others.
    first: name of a tensor of learned tokens.
    """

    title: str
    own: Callable[[Mapping[str, Tensor], Backbone], Shapes]
    make: Callable[[Backbone, Mapping[str, Tensor], dict[str, Any]], tuple[ObjectPrompts, dict[str, Tensor]]]
    marks: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    first: str = "ctx_pos"


class ObjectPromptsLayout:
    """See Layout. The file is a dict with one part."""

    backbone = EXAMPLE
    fits_tips = False
    settings: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self, kind: Kind) -> None:
        """kind: the method's names."""
        self.kind, self.title, self.tokens = kind, kind.title, (PROMPTS, kind.first)

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        if not isinstance(content, Mapping) or set(content) != {PROMPTS} or not isinstance(content[PROMPTS], Mapping):
            return False
        names = [str(name) for name in content[PROMPTS]]

        def there(mark: str) -> bool:
            return any(name.startswith(mark) for name in names)

        return all(map(there, (*self.kind.marks, DEEP))) and not any(map(there, self.kind.lacks))

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {PROMPTS: content[PROMPTS]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> ObjectPrompts:
        """See Layout."""
        return from_published(self.kind, backbone, parts[PROMPTS])


def published_shapes(kind: Kind, known: Mapping[str, Tensor], backbone: Backbone) -> Shapes:
    """Return the shapes of a method's tensors by the authors' names, for as many tokens and blocks as a file has.

    Args:
        kind: the method's names.
        known: the file's tensors.
        backbone: that they are to be used with.
    """
    names = [name for name in known if name.startswith(f"{DEEP}.")]
    tokens = max((known[name].shape[0] for name in names if known[name].ndim), default=1)
    return kind.own(known, backbone) | {
        f"{DEEP}.{number}": (tokens, backbone.text_width) for number in range(len(names))
    }


def from_published(
    kind: Kind, backbone: Backbone, known: Mapping[str, Tensor], values_from: int | None = None
) -> ObjectPrompts:
    """Make a method of the authors' tensors. Deep prompts are rounded to half precision, as the authors' code does.

    Args:
        kind: the method's names.
        backbone: the one that the prompts were fitted on.
        known: the authors' checkpoint["prompt_learner"].
        values_from: see ObjectPrompts.start; default as published.

    Raises CheckpointError naming what does not fit.
    """
    floats = checked_shapes(known, published_shapes(kind, known, backbone), kind.title, backbone, UNUSED)
    deep = [floats[name] for name in floats if name.startswith(f"{DEEP}.")][: backbone.text_depth - 1]
    if not deep:
        raise CheckpointError(f"no {kind.title} for {backbone.name}: {DEEP}.0 is missing; take the authors' file")
    settings = {"deep": len(deep), "deep_tokens": len(deep[0]), "values_from": values_from}
    method, own = kind.make(backbone, floats, settings)
    method.load_state_dict(own | {"deep": torch.stack(deep).half().float()})
    return method


def _count(known: Mapping[str, Tensor], name: str) -> int:
    """Return how many tokens a tensor (1, k, n, W) of the file holds; 1 where it has another shape, which is refused later."""
    return known[name].shape[2] if name in known and known[name].ndim == 4 else 1


def _pair(known: Mapping[str, Tensor], backbone: Backbone) -> Shapes:
    return dict.fromkeys(("ctx_pos", "ctx_neg"), (1, 1, _count(known, "ctx_pos"), backbone.text_width))


def _one_pair(
    kind: type[AnomalyClip], backbone: Backbone, own: Mapping[str, Tensor], settings: dict[str, Any]
) -> tuple[ObjectPrompts, dict[str, Tensor]]:
    context = torch.cat([own["ctx_pos"][0], own["ctx_neg"][0]])
    return kind(backbone, context=context.shape[1], **settings), {"context": context}


def _two_pairs(known: Mapping[str, Tensor], backbone: Backbone) -> Shapes:
    return {
        f"ctx_{place}_{state}": (1, 1, _count(known, f"ctx_global_{state}"), backbone.text_width)
        for place in ("global", "local")
        for state in ("pos", "neg")
    }


def _glocalclip(
    backbone: Backbone, own: Mapping[str, Tensor], settings: dict[str, Any]
) -> tuple[ObjectPrompts, dict[str, Tensor]]:
    context = torch.cat([own["ctx_global_pos"][0], own["ctx_local_pos"][0]])
    further = torch.cat([own["ctx_global_neg"][0], own["ctx_local_neg"][0]])
    method = GlocalClip(backbone, context=context.shape[1], own=further.shape[1], **settings)
    return method, {"context": context, "own": further}


def _kinds(known: Mapping[str, Tensor], backbone: Backbone) -> Shapes:
    kinds = known["ctx_neg"].shape[1] if "ctx_neg" in known and known["ctx_neg"].ndim == 4 else 1
    width = SEEN * backbone.width
    hidden = max(1, width // NARROWER)
    return {
        "ctx_pos": (1, 1, _count(known, "ctx_pos"), backbone.text_width),
        "ctx_neg": (1, kinds, _count(known, "ctx_neg"), backbone.text_width),
        "patch_meta_net.linear1.weight": (hidden, width),
        "patch_meta_net.linear1.bias": (hidden,),
        "patch_meta_net.linear2.weight": (backbone.text_width, hidden),
        "patch_meta_net.linear2.bias": (backbone.text_width,),
    }


def _faprompt(
    backbone: Backbone, own: Mapping[str, Tensor], settings: dict[str, Any]
) -> tuple[ObjectPrompts, dict[str, Tensor]]:
    context, kinds = own["ctx_pos"][0, 0], own["ctx_neg"][0]
    method = FaPrompt(backbone, context=len(context), own=kinds.shape[1], kinds=len(kinds), top=False, **settings)
    tensors = {"context": context, "own": kinds}
    for ours, theirs in (("meta.0", "linear1"), ("meta.2", "linear2")):
        for part in ("weight", "bias"):
            tensors[f"{ours}.{part}"] = own[f"patch_meta_net.{theirs}.{part}"]
    return method, tensors


# Crane's files have AnomalyCLIP's names but for the projections, which nothing reads.
ANOMALYCLIP = Kind(
    "AnomalyCLIP",
    _pair,
    partial(_one_pair, AnomalyClip),
    ("ctx_pos", PROJECTIONS),
    ("patch_meta_net", "t_n", "extractor"),
)
CRANE = Kind(
    "Crane", _pair, partial(_one_pair, Crane), ("ctx_pos",), (PROJECTIONS, "patch_meta_net", "t_n", "extractor")
)
CRANEPLUS = Kind("Crane+", CRANE.own, partial(_one_pair, CranePlus), CRANE.marks, CRANE.lacks)
GLOCALCLIP = Kind("GlocalCLIP", _two_pairs, _glocalclip, ("ctx_global_pos",), first="ctx_global_pos")
FAPROMPT = Kind("FAPrompt", _kinds, _faprompt, ("ctx_pos", "patch_meta_net"))
