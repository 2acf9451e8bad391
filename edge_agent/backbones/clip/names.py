"""Names of CLIP backbones in config.yaml and on the command line, clip:MODEL[/TAG][@PATH], and what open_clip knows of them.

MODEL is open_clip's name of the architecture, TAG its name of pretrained weights, PATH a weight file (or its folder) to
read in place of the tag's. The tag also determines the activation and the pictures' mean and std. open_clip, and so torch,
is imported only when a name is parsed.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.errors import CheckpointError

PREFIX = "clip:"
EXAMPLE = "clip:ViT-L-14-336/openai"  # what the prompts of ViP2-CLIP and CoPS are published for
SAFETENSORS = "open_clip_model.safetensors"
LICENCE = "see its model card"
WEIGHT_FILES = (SAFETENSORS, "open_clip_pytorch_model.bin")  # open_clip's own names, the preferred one first

Colour = tuple[float, float, float]  # of R, G, B in [0, 1]


@dataclass(frozen=True, slots=True)
class ClipName:
    """A parsed name. tag, path: None where it has none; it has at least one of them."""

    model: str
    tag: str | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """The name without the path, as checkpoints and journals have it."""
        return PREFIX + self.model + (f"/{self.tag}" if self.tag else "")

    def __str__(self) -> str:
        return self.name + (f"@{self.path}" if self.path else "")


def parse_clip(text: str, folder: Path | None = None) -> ClipName:
    """Parse a name; a relative path starts from `folder`, by default the working folder. Does not look for the files.

    Raises CheckpointError, with near names, for a model or a tag that open_clip does not know, for a model of another
    architecture, and where open_clip is not installed.
    """
    open_clip = _open_clip(text)
    get_model_config, list_models = open_clip.get_model_config, open_clip.list_models
    list_tags = open_clip.list_pretrained_tags_by_model
    weights, at, place = text.removeprefix(PREFIX).partition("@")
    model, _, tag = weights.partition("/")
    config = get_model_config(model) if model in list_models() else None
    if config is None:
        known = [each for each in list_models() if not fault_of(get_model_config(each))]
        raise CheckpointError(f"{model!r} is no CLIP that open_clip knows; {_near(model, known)}")
    if fault := fault_of(config):
        raise CheckpointError(f"{PREFIX}{model}: {fault}; take one such as {EXAMPLE}")
    if tag and not open_clip.get_pretrained_cfg(model, tag):
        raise CheckpointError(f"{tag!r} is no pretrained tag of {model}; {_near(tag, list_tags(model))}")
    if at and not place:
        raise CheckpointError(f"{text}: no path after the @: give the weight file, or leave the @ out")
    if not tag and not place:
        tags = list_tags(model)
        tagged = f"{PREFIX}{model}/{tags[0]} or " if tags else ""
        raise CheckpointError(f"{text} names no weights: write {tagged}{PREFIX}{model}@FILE.safetensors")
    path = Path(os.path.abspath((folder or Path.cwd()) / os.path.expanduser(place))) if place else None
    return ClipName(model, tag or None, path)


def _open_clip(name: str) -> ModuleType:
    try:
        import open_clip  # slow, and it imports torch: only where a CLIP is named
    except ImportError as error:
        raise CheckpointError(f"{name} needs {error.name}: pip install 'edge-agent[clip]'") from None
    return open_clip


def fault_of(config: dict[str, Any]) -> str | None:
    """Say why an open_clip model of that configuration is not supported; None if it is."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision or isinstance(vision["layers"], list):
        return "its vision tower is no ViT of CLIP's own"
    if vision.get("pool_type", "tok") != "tok" or vision.get("attentional_pool"):
        return "its vision tower reads no class token"
    causal = text.get("pool_type", "argmax") == "argmax" and not text.get("no_causal_mask")
    if config.get("custom_text") or "hf_model_name" in text or "hf_tokenizer_name" in text or not causal:
        return "its text tower is not CLIP's own"
    return None


def pretrained(name: ClipName) -> dict[str, Any]:
    """Return open_clip's record of the tag's weights: mean, std, quick_gelu, hf_hub, url; empty without a tag."""
    from open_clip import get_pretrained_cfg

    return get_pretrained_cfg(name.model, name.tag) if name.tag else {}


def architecture(name: ClipName) -> dict[str, Any]:
    """Return the keyword arguments of open_clip's CLIP, with the activation that the tag's weights were trained with.

    Without a tag the model's name determines the activation: ViT-L-14-336-quickgelu for OpenAI's weights.
    """
    from open_clip import get_model_config

    config = get_model_config(name.model)
    if name.tag:
        config["quick_gelu"] = bool(pretrained(name).get("quick_gelu")) or name.tag == "openai"
    return config


def openai_name(name: ClipName) -> str:
    """Return the name of the same architecture with OpenAI's weights: by its tag, or, where it has none, by QuickGELU."""
    from open_clip import get_pretrained_cfg

    return f"{PREFIX}{name.model}" + ("/openai" if get_pretrained_cfg(name.model, "openai") else "-quickgelu")


def repository(name: ClipName) -> str | None:
    """Return the tag's repository on the Hugging Face hub, as ORGANISATION/NAME, if it has one."""
    return pretrained(name).get("hf_hub", "").strip("/") or None


def published(name: ClipName) -> Published:
    """Return what a fetch brings of the tag's weights. Raises CheckpointError where they are not published."""
    place = repository(name)
    if place is None or name.path is not None:
        raise CheckpointError(f"{name}: nothing to fetch; name a pretrained tag, as in {EXAMPLE}")
    return Published(
        name=name.name,
        holder=place,
        licence=LICENCE,
        files=(RemoteFile(SAFETENSORS, f"https://huggingface.co/{place}/resolve/main/{SAFETENSORS}"),),
    )


def _near(word: str, known: Iterable[str]) -> str:
    known = list(known)
    spelt = {each.lower(): each for each in known}
    near = [spelt[each] for each in difflib.get_close_matches(word.lower(), spelt, n=3, cutoff=0.5)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"it has {', '.join(known[:12])}" if known else "there is none: name a file with @"
