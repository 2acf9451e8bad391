"""The prompts that the authors of CoPS publish: their names of tensors, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.cops import DEEP_BLOCKS, Cops
from edge_agent.errors import CheckpointError
from edge_agent.importing.layout import Parts

Shape = tuple[int, ...]

PROMPTS = "prompt_learner"
UNUSED = ("projector", "extractor_", "vae_encoder", "token")  # prefixes of names that inspecting does not need
PAIRS = {"context": ("ctx_pos", "ctx_neg"), "queries": ("t_n", "t_a")}  # normal, anomalous
OWN = ("t_n", "t_a", "extractor", "decoder", "vae_encoder")  # prefixes of names that no other method's prompts have
RENAMED = {
    "extractor.mlp.0": "extractor.mlp.c_fc",
    "extractor.mlp.2": "extractor.mlp.c_proj",
    "decoder": "vae_decoder.net",
}
DEEP = "compound_prompts_text"
VIP2CLIP_PART = "Zero_try"  # ViP2-CLIP's files hold the same part of prompts, and this one besides


class CopsLayout:
    """See Layout. The file is a dict with one part."""

    title = "CoPS"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (PROMPTS, "ctx_pos")
    settings: Mapping[str, Mapping[str, Any]] = {  # as published
        "mvtec": {"k": 3, "alpha": 0.35, "beta": 1.0},
        "visa": {"k": 5, "alpha": 0.26, "beta": 0.9},
    }

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        if not isinstance(content, Mapping) or PROMPTS not in content or VIP2CLIP_PART in content:
            return False
        # AnomalyCLIP, whose code CoPS began with, has this part and its deep prompts too, and nothing else of CoPS.
        names = [str(name) for name in content[PROMPTS]] if isinstance(content[PROMPTS], Mapping) else []
        return not any(name.startswith(DEEP) for name in names) or any(name.startswith(OWN) for name in names)

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {PROMPTS: content[PROMPTS]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> Cops:
        """See Layout."""
        if trained_on is None:
            raise CheckpointError(
                "how CoPS pools patches and weighs scores depends on what it was trained on, which the file does not say:"
                f" say --trained-on {' or '.join(self.settings)} (the authors keep one folder for each)"
            )
        return cops_from_published(backbone, parts[PROMPTS], **self.settings[trained_on])


def cops_from_published(
    backbone: Backbone,
    prompt_learner: Mapping[str, Tensor],
    *,
    k: int,
    alpha: float,
    beta: float,
    seed: int = 0,
    draws: Tensor | None = None,
) -> Cops:
    """Make the method of the authors' tensors. It lacks the encoder: it can inspect, but not be fitted further.

    Args:
        backbone: the one that the prompts were fitted on.
        prompt_learner: the authors' checkpoint["prompt_learner"].
        k, alpha, beta: settings as published for the data set that the prompts were fitted on.
        seed: of the random numbers that replace the encoder's; default 0.
        draws: these random numbers themselves, instead of a seed.

    Raises CheckpointError naming what does not fit.
    """
    method = Cops(
        backbone,
        pool=k,
        alpha=alpha,
        beta=beta,
        seed=None if draws is not None else seed,
        draws=draws,
        fittable=False,
    )
    wanted = {name: tuple(value.shape) for name, value in method.named_parameters()}
    own = own_tensors(prompt_learner, wanted, backbone.name)
    method.load_state_dict({**own, "draws": method.draws})
    return method


def own_tensors(published: Mapping[str, Tensor], wanted: Mapping[str, Shape], backbone: str) -> dict[str, Tensor]:
    """Return the authors' tensors under our names, in fp32.

    Deep prompts for more blocks than the text tower has are left out: nothing reads them. Those that are read are rounded to
    half precision, as the authors' code does whatever precision the rest has.

    Args:
        published: the authors' checkpoint["prompt_learner"].
        wanted: shapes by our names, on the backbone.
        backbone: its name, for error messages.

    Raises CheckpointError naming what does not fit.
    """
    known = {name: value for name, value in published.items() if not name.startswith(UNUSED)}
    shapes = published_shapes(wanted)
    faults = [f"{name} is missing" for name in shapes if name not in known]
    faults += [f"{name} is not of CoPS" for name in known if name not in shapes]
    faults += [
        f"{name} is {tuple(known[name].shape)} where {backbone} wants {shape}"
        for name, shape in shapes.items()
        if name in known and tuple(known[name].shape) != shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"not CoPS prompts for {backbone}: {'; '.join(faults[:5])}{more}: take the authors' file, for the backbone it was fitted on"
        )
    floats = {name: value.detach().float() for name, value in known.items()}
    own = {}
    for name, shape in wanted.items():
        if name in PAIRS:
            own[name] = torch.stack([floats[one] for one in PAIRS[name]]).reshape(shape)
        elif name == "deep":
            own[name] = torch.stack([floats[f"{DEEP}.{block}"] for block in range(shape[0])]).half().float()
        else:
            own[name] = floats[_theirs(name)]
    return own


def published_shapes(wanted: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return shapes by the authors' names. wanted: the same by ours."""
    shapes: dict[str, Shape] = {}
    for name, shape in wanted.items():
        if name == "context":
            shapes |= dict.fromkeys(PAIRS[name], (1, 1, *shape[1:]))
        elif name == "queries":
            shapes |= dict.fromkeys(PAIRS[name], shape[1:])
        elif name == "deep":
            shapes |= {f"{DEEP}.{block}": shape[1:] for block in range(DEEP_BLOCKS)}
        else:
            shapes[_theirs(name)] = shape
    return shapes


def _theirs(name: str) -> str:
    for own, theirs in RENAMED.items():
        if name.startswith(own):
            return theirs + name.removeprefix(own)
    return name
