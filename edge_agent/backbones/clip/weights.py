"""CLIP's weights: found in fetched folders or in the caches of open_clip and Hugging Face, read without unpickling.

Never from the network: `edge-agent models fetch` is for that.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor

from edge_agent.backbones.clip.model import Clip, causal_mask
from edge_agent.backbones.clip.names import (
    WEIGHT_FILES,
    ClipName,
    architecture,
    openai_name,
    pretrained,
    published,
    repository,
)
from edge_agent.backbones.weights.digests import measure
from edge_agent.backbones.weights.store import PINS, fetch_remedy, read_pins
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from open_clip.model import CLIP

log = logging.getLogger(__name__)

OPEN_CLIP_CACHE = Path("~/.cache/clip")  # where open_clip's own downloads lie
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers beside OpenAI's weights


def load_clip(wanted: ClipName, folders: Sequence[Path] = ()) -> Clip:
    """Load a CLIP: fp32, frozen, on the CPU. folders: where fetched backbones lie.

    Raises CheckpointError, with the remedy, for weights that are missing, damaged, of another model, or only to be had
    by unpickling.
    """
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds

    path = find_weights(wanted, folders)
    sha256 = _measured(path)
    if (pin := read_pins(path.parent).get(path.name, sha256)) != sha256:
        raise CheckpointError(
            f"{path} is damaged or was replaced: its SHA-256 is {sha256[:12]}..., {PINS} beside it has {pin[:12]}...: "
            "fetch or copy it again"
        )
    config, record = architecture(wanted), pretrained(wanted)
    state = _state(path)
    if not config.get("quick_gelu") and _seems_openais(path, state):
        log.warning(
            "%s: seems to hold OpenAI's weights, which were trained with QuickGELU, and %s has GELU: every score would be off; "
            "name it %s@%s",
            path,
            wanted.name,
            openai_name(wanted),
            path,
        )
    model = assembled(config, _weights(path, state), f"{path}, read as {wanted.name}")
    colours = {key: record[key] for key in ("mean", "std") if key in record}
    tokenizer = SimpleTokenizer(context_length=model.context_length)
    return Clip(model, tokenizer, wanted.name, sha256, **colours).eval().requires_grad_(False)


def random_clip(wanted: ClipName) -> Clip:
    """Build a CLIP with random weights, as open_clip makes them before training: fp32, frozen, on the CPU."""
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    model = CLIP(**architecture(wanted))
    tokenizer = SimpleTokenizer(context_length=model.context_length)
    return Clip(model, tokenizer, wanted.name).eval().requires_grad_(False)


def find_weights(name: ClipName, folders: Sequence[Path] = ()) -> Path:
    """Find the weight file: the one named, else a fetched one, else one in the caches. Raises CheckpointError."""
    if name.path is not None:
        return _named(name.path)
    fetched = [folder / published(name).folder for folder in folders]
    for path in [folder / file for folder in fetched for file in WEIGHT_FILES] + _cached(name):
        if path.is_file():
            return path
    places = [*map(str, fetched), f"Hugging Face's cache {constants.HF_HUB_CACHE}", f"open_clip's {OPEN_CLIP_CACHE}"]
    raise CheckpointError(f"{name} is not in {', '.join(places)}: {fetch_remedy(str(name))}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read parameters by open_clip's names, fp32, from .safetensors or from a torch.save file that holds only tensors.

    Raises CheckpointError.
    """
    return _weights(path, _state(path))


def assembled(config: Mapping[str, object], weights: Mapping[str, Tensor], where: str) -> CLIP:
    """Build open_clip's CLIP and load the weights strictly.

    Args:
        config: keyword arguments of open_clip's CLIP.
        weights: parameters by open_clip's names.
        where: what a CheckpointError names as their source.
    """
    from open_clip.model import CLIP  # takes seconds

    with torch.device("meta"):  # random weights, replaced at once, would only cost time
        model = CLIP(**config)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    weights = {
        key: value.reshape(()) if key == "logit_scale" and value.numel() == 1 else value
        for key, value in weights.items()
    }
    for key in sorted(shapes.keys() | weights.keys()):
        ours, theirs = shapes.get(key), weights[key].shape if key in weights else None
        if ours != theirs:
            raise CheckpointError(
                f"{where}: {key} is {_shape(theirs)} there, {_shape(ours)} in that model; name the model the file is of"
            )
    model.load_state_dict(weights, assign=True)
    model.attn_mask = causal_mask(model.context_length)  # the one buffer that no file holds
    return model


def _state(path: Path) -> Mapping[str, Any]:
    """Return all that a file holds by name. Raises CheckpointError."""
    whole = _from_safetensors(path) if path.suffix == ".safetensors" else _from_torch(path)
    state = whole.get("state_dict", whole) if isinstance(whole, dict) else {}
    return state if isinstance(state, dict) else {}


def _weights(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the parameters among what a file holds, fp32. Raises CheckpointError."""
    if any(key.startswith(("vision_model.", "text_model.")) for key in state):
        raise CheckpointError(f"{path}: is in the layout of transformers, not open_clip's; {_remedy()}")
    found = {
        key.removeprefix("module."): value.float()
        for key, value in state.items()
        if isinstance(value, Tensor) and key not in _NO_WEIGHTS
    }
    if not found:
        raise CheckpointError(f"{path}: holds no weights by name; {_remedy()}")
    return found


def _seems_openais(path: Path, state: Mapping[str, Any]) -> bool:
    """Return whether OpenAI published the weights: only their files hold these numbers, and other copies say it in their path."""
    named = re.search(r"(?<![a-z])openai(?![a-z])", "/".join(path.parts[-4:]).lower())  # 4: as in Hugging Face's cache
    return bool(named) or any(name in state for name in _NO_WEIGHTS)


def _named(path: Path) -> Path:
    if path.is_dir():
        inside = [path / file for file in WEIGHT_FILES if (path / file).is_file()]
        if not inside:
            raise CheckpointError(f"{path}: has no {' or '.join(WEIGHT_FILES)} in it; name the file itself")
        return inside[0]
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    return path


def _cached(name: ClipName) -> list[Path]:
    """List where open_clip or huggingface_hub may have cached the tag's weights; no request is sent."""
    found: list[Path] = []
    if place := repository(name):
        answers = (try_to_load_from_cache(place, file) for file in WEIGHT_FILES)
        found += [Path(answer) for answer in answers if isinstance(answer, str)]
    if url := pretrained(name).get("url"):
        found.append(OPEN_CLIP_CACHE.expanduser() / url.rsplit("/", 1)[1])
    return found


def _from_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole .safetensors file ({error}); fetch or copy it again") from None


def _from_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(f"{path}: is a TorchScript program, which is not run here; {_remedy()}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(path, error) from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: is more than plain tensors, or damaged; nothing is unpickled here; {_remedy()}"
        ) from None
    except Exception as error:  # damaged bytes make torch raise nearly every exception there is
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not a whole file of weights ({first}); fetch or copy it again") from None


def _measured(path: Path) -> str:
    try:
        return measure(path)["sha256"]
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read ({error.strerror or error})")


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "one number"


def _remedy() -> str:
    return (
        f"take the same weights as {WEIGHT_FILES[0]}, as `edge-agent models fetch` does: OpenAI's are at "
        "huggingface.co/timm, such as timm/vit_large_patch14_clip_336.openai"
    )
