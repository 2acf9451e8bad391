"""Prompt checkpoints: safetensors files with a JSON header that says what they hold, and for which backbone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edge_agent.detectors.header import FORMAT, UNFITTED_THRESHOLD, parse_header, require_backbone
from edge_agent.detectors.methods import METHODS, lookup, unfitted_methods
from edge_agent.errors import CheckpointError
from edge_agent.io.files import write_durably

if TYPE_CHECKING:
    from edge_agent.backbones.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's content.

    header: see header.py. tensors: the learned prompts and the text features made from them. sha256: of the file.
    """

    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    sha256: str = ""
    path: Path | None = field(default=None)

    @property
    def class_name(self) -> str:
        """What the pictures show that it was fitted on; "object" where it does not say."""
        return str(self.header.get("class_name", "object"))

    def require_backbone(self, name: str, sha256: str) -> None:
        """Raise CheckpointError unless the checkpoint was made for exactly this backbone."""
        require_backbone(self.header, self.path, name, sha256)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError when the file is missing, damaged, or no prompt checkpoint of edge-agent."""
    try:
        return decoded(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def decoded(data: bytes, path: Path | None) -> Checkpoint:
    """Read the bytes of a checkpoint's file. path: for messages. Raises CheckpointError, as load_checkpoint does."""
    path = path or Path("checkpoint")
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a prompt checkpoint of edge-agent, or damaged ({error}); copy it again or refit"
        ) from None
    header_bytes = int.from_bytes(data[:8], "little")  # safetensors reads metadata from paths alone
    header = parse_header(data[8 : 8 + header_bytes], path)
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(f"{path}: holds numbers that are not finite; refit")
    return Checkpoint(header, tensors, hashlib.sha256(data).hexdigest(), path)


def class_name_of(path: Path | None) -> str:
    """Return what the pictures show that a checkpoint was fitted on, "object" without a checkpoint. Raises CheckpointError."""
    return load_checkpoint(path).class_name if path else "object"


def unfitted_checkpoint(method: str, backbone: Backbone) -> Checkpoint:
    """Make what stands for a checkpoint where a method needs none.

    Its digest changes with whatever changes scores: the header and the method's facts(), such as its sentences.
    Raises CheckpointError for an unknown method, and for one whose prompts are fitted.
    """
    own = lookup(method)
    if METHODS[method].fitted:
        raise CheckpointError(
            f"{method} inspects with fitted prompts: name a checkpoint, or take one of {', '.join(unfitted_methods())}"
        )
    header = {
        "format": FORMAT,
        "method": method,
        "backbone": backbone.name,
        "backbone_sha256": backbone.sha256,
        "image_size": backbone.image_size,
        "fitted_on": "nothing",
        "threshold": UNFITTED_THRESHOLD,
        "map_threshold": UNFITTED_THRESHOLD,
    }
    facts = json.dumps([header, own.facts()], sort_keys=True)
    return Checkpoint(header, {}, hashlib.sha256(facts.encode()).hexdigest())


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all: beside `path`, flushed, then renamed."""
    write_durably(path, encoded(checkpoint))


def encoded(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint's file; the same header and tensors give the same ones."""
    return safetensors.torch.save(
        {key: tensor.detach().cpu().contiguous() for key, tensor in checkpoint.tensors.items()},
        metadata={"header": json.dumps({"format": FORMAT, **checkpoint.header}, sort_keys=True)},
    )
