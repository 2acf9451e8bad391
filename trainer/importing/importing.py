"""The prompts that a method's authors publish, made into checkpoints of ours. Their files are read without running code of theirs.

Left out: files of other methods, and what of these nobody needs in order to inspect.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.weights.catalog import BACKBONES
from edge_agent.backbones.weights.clip_names import EXAMPLE, PREFIX, fault_of
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.method import Method
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.errors import CheckpointError
from trainer.fit.pictures_to_checkpoint import chosen_side
from trainer.importing.cops import cops_from_published
from trainer.importing.vip2clip import vip2clip_from_published
from trainer.io.files import written_or_told

TITLES: Mapping[str, str] = {"tipsomaly": "Tipsomaly", "vip2clip": "ViP2-CLIP", "cops": "CoPS"}
FITTED_FOR: Mapping[str, str] = {"tipsomaly": "tips-l14", "vip2clip": EXAMPLE, "cops": EXAMPLE}
DATASETS: Mapping[str, str] = {"mvtec": "MVTec AD", "visa": "VisA"}
COPS_SETTINGS: Mapping[str, Mapping[str, Any]] = {  # by what it was trained on, as published
    "mvtec": {"k": 3, "alpha": 0.35, "beta": 1.0},
    "visa": {"k": 5, "alpha": 0.26, "beta": 0.9},
}
THRESHOLD = 0.5  # of the score and of the map: nobody has measured a better one
ADVICE = (
    f"thresholds are {THRESHOLD} for scores and maps, not measured: calibrate with good pictures of your own part"
    " (`trainer calibrate`), or set threshold and map_threshold in the config"
)
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Published:
    """What such a file holds. sha256: of the file. prompts: for Tipsomaly {"0": normal, "1": anomalous}, each (S, W); else the
    authors' state dict of prompts. fgp: ViP2-CLIP's second state dict, empty for the others."""

    path: Path
    sha256: str
    method: str
    prompts: Mapping[str, Tensor]
    fgp: Mapping[str, Tensor]


def read_published(path: Path, method: str) -> Published:
    """Raises CheckpointError when the file is not that method's, damaged, or wants code to be run."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    content = _unpacked(path, data)
    found = _method_of(content)
    if found is None:
        raise CheckpointError(
            f"{path}: holds {_described(content)}, no prompts as the three methods' authors save them"
        )
    if found != method:
        raise CheckpointError(
            f"{path}: holds prompts of {TITLES[found]}, not of {TITLES[method]}: say --method {found}"
        )
    if found == "tipsomaly":
        listed = content["learnable_prompts"] if isinstance(content, Mapping) else content
        prompts, fgp = _tensors(path, "learnable_prompts", _listed(listed)), {}
    else:
        prompts = _tensors(path, "prompt_learner", content["prompt_learner"])
        fgp = _tensors(path, "Zero_try", content.get("Zero_try", {}))
    return Published(path, hashlib.sha256(data).hexdigest(), method, prompts, fgp)


def import_checkpoint(
    published: Published,
    backbone: Backbone,
    out: Path,
    *,
    trained_on: str | None = None,
    class_name: str = "object",
    image_size: int | None = None,
) -> None:
    """Write `out`, whole or not at all. trained_on: a key of DATASETS. image_size: as for a fit.

    Raises EdgeAgentError when the prompts do not fit the backbone, what CoPS was trained on is not said, or nothing can be written.
    """
    side = chosen_side(backbone, image_size)
    method = _method(published, backbone, trained_on, class_name)
    with torch.no_grad():
        tensors = method.tensors()
    if broken := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{published.path}: {broken[0]} is not finite: the file is damaged; download it again")
    source = f"{DATASETS[trained_on]}, by its authors" if trained_on else "what its authors chose"
    header = {
        "method": method.name,
        "backbone": backbone.name,
        "backbone_sha256": backbone.sha256,
        "image_size": side,
        "class_name": class_name,
        "fitted_on": source,
        "imported_from": {"file": published.path.name, "sha256": published.sha256},
        "threshold": THRESHOLD,
        "map_threshold": THRESHOLD,
        "advice": ADVICE,
        **method.settings(),
    }
    with written_or_told(out):
        save_checkpoint(Checkpoint(header, tensors), out)


def fitting(method: str, width: int) -> list[str]:
    """Backbones by name whose text towers take tokens of that width, the one the authors used first; data, not what is here."""
    from open_clip import get_model_config, list_openai_models

    models = [model for model in list_openai_models() if not model.endswith("-quickgelu")]
    configs = {f"{PREFIX}{model}/openai": get_model_config(model) for model in models}
    names = [name for name, one in configs.items() if one and not fault_of(one) and one["text_cfg"]["width"] == width]
    if method == "tipsomaly":
        names = [name for name, one in BACKBONES.items() if one.width == width] + names
    return sorted(names, key=lambda name: name != FITTED_FOR[method])


def _method(published: Published, backbone: Backbone, trained_on: str | None, class_name: str) -> Method:
    _require_width(published, backbone)
    try:
        if published.method == "tipsomaly":
            return Tipsomaly.from_published(backbone, list(published.prompts.values()), class_name)
        if published.method == "vip2clip":
            return vip2clip_from_published(backbone, published.prompts, published.fgp)
        if trained_on is None:
            raise CheckpointError(
                "how CoPS pools patches and weighs scores depends on what it was trained on, which the file does not say:"
                f" say --trained-on {' or '.join(COPS_SETTINGS)} (the authors keep one folder for each)"
            )
        return cops_from_published(backbone, published.prompts, **COPS_SETTINGS[trained_on])
    except CheckpointError as error:
        raise CheckpointError(f"{published.path}: {error}") from None


def _require_width(published: Published, backbone: Backbone) -> None:
    """Of the learned tokens, whichever there are; what is missing altogether is told later, by name."""
    tokens = next((value for name, value in published.prompts.items() if name in ("0", "ctx_pos")), None)
    if tokens is None or not tokens.ndim or tokens.shape[-1] == backbone.text_width:
        return
    width = tokens.shape[-1]
    names = fitting(published.method, width)
    remedy = f"they would fit {', '.join(names)}: say --backbone" if names else "no backbone known here takes those"
    raise CheckpointError(
        f"{published.path}: its prompts are tokens of {width} numbers, {backbone.name} takes {backbone.text_width}; {remedy}"
    )


def _unpacked(path: Path, data: bytes) -> Any:
    """What torch.save wrote, if it is tensors in plain containers or a ParameterList; nothing else is built, and no code run."""
    if data.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path}: is Git LFS's pointer to a file, not the file: run `git lfs pull`, or download it"
        )
    try:
        with torch.serialization.safe_globals([nn.ParameterList]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles it was not made for: it refuses them, too
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly every exception there is
        refused = re.search(r"GLOBAL (\S+)", str(error))
        name = refused[1] if refused else _wanted(data) if isinstance(error, pickle.UnpicklingError) else None
        if name:
            raise CheckpointError(
                f"{path}: would call {name}, which no file of prompts needs: refused, and nothing of it was run;"
                " do not trust this file, take the one that the authors publish"
            ) from None
        told = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0][:200]
        raise CheckpointError(
            f"{path}: not a whole file of torch.save ({told or type(error).__name__}); download or copy it again"
        ) from None


def _wanted(data: bytes) -> str | None:
    """The first name that a pickle torch cannot read would import, or nearly: found by its opcodes, without running it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
    except (zipfile.BadZipFile, StopIteration):
        pass  # the pickle itself, or nothing
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        pass  # no pickle, or cut off
    return None


def _method_of(content: Any) -> str | None:
    if isinstance(content, nn.ParameterList):
        return "tipsomaly"
    if not isinstance(content, Mapping):
        return None
    if "learnable_prompts" in content:
        return "tipsomaly"
    if "prompt_learner" in content:
        return "vip2clip" if "Zero_try" in content else "cops"
    return None


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:5])
    return f"a dict of {keys}" if keys else "an empty dict"


def _listed(content: Any) -> Any:
    """A ParameterList's entries, wherever the torch that saved it kept them, as a dict by their numbers."""
    if isinstance(content, nn.ParameterList):
        return vars(content).get("_parameters")
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        return {str(number): value for number, value in enumerate(content)}
    return None


def _tensors(path: Path, name: str, content: Any) -> dict[str, Tensor]:
    """`content` as a dict of ordinary tensors by name. Raises CheckpointError when it is anything else."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: {name} is no dict of tensors; download it again, or take another file")
    for key, value in content.items():
        ordinary = (
            isinstance(key, str)
            and isinstance(value, Tensor)
            and value.layout is torch.strided
            and value.device.type == "cpu"  # wherever it was saved from: only one without content is elsewhere
            and not value.is_quantized
            and not value.is_complex()
        )
        if not ordinary:
            raise CheckpointError(f"{path}: {name}[{key!r}] is no ordinary tensor; take another file")
    return dict(content)
