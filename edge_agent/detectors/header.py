"""The header of a prompt checkpoint, read without torch: what it holds, for which backbone, and what it recommends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.errors import CheckpointError

FORMAT = "edge-agent/checkpoint/1"
UNFITTED_THRESHOLD = 0.5  # of scores and of maps, by methods without a checkpoint: nobody has measured a better one
MAX_BYTES = 100_000_000  # of a header; safetensors itself takes no longer one

HEADER_KEYS = {
    "format",
    "method",
    "backbone",
    "backbone_sha256",
    "image_size",
    "fitted_on",
    "threshold",
    "map_threshold",
}


KINDS = {
    "method": str,
    "backbone": str,
    "backbone_sha256": str,
    "image_size": int,
    "threshold": int | float,
    "map_threshold": int | float,
}


def read_header(path: Path) -> Mapping[str, Any]:
    """Read the header of a checkpoint; it has at least HEADER_KEYS. Raises CheckpointError, as load_checkpoint does."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            content = file.read(min(size, MAX_BYTES))
            header = parse_header(content, path)
            _require_whole(content, path)
            return header
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def parse_header(content: bytes, path: Path) -> Mapping[str, Any]:
    """Parse the JSON with which a safetensors file begins, after its length.

    Args:
        content: of the file.
        path: of the file, for messages.

    Returns:
        The checkpoint's header.

    Raises:
        CheckpointError: it is no checkpoint of this program, or damaged.
    """
    try:
        header = json.loads(json.loads(content)["__metadata__"]["header"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a prompt checkpoint of edge-agent, or damaged ({error}); copy it again or refit"
        ) from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a prompt checkpoint of edge-agent, or damaged; copy it again or refit")
    missing = HEADER_KEYS - header.keys()
    if missing or header["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: header is {header.get('format', 'without a format')} and lacks {sorted(missing)}; this program reads {FORMAT}"
        )
    wrong = [key for key, kind in KINDS.items() if not isinstance(header[key], kind)]
    wrong += [key for key in ("threshold", "map_threshold") if key not in wrong and not 0 <= header[key] <= 1]
    if wrong:
        raise CheckpointError(f"{path}: header says {wrong[0]}: {header[wrong[0]]!r}; copy it again or refit")
    return header


def _require_whole(content: bytes, path: Path) -> None:
    """Raise CheckpointError where a file is shorter than the places of its tensors say, as after an interrupted copy."""
    try:
        ends = [int(one["data_offsets"][1]) for key, one in json.loads(content).items() if key != "__metadata__"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of edge-agent, or damaged ({error}); copy it again or refit"
        ) from None
    expected, there = 8 + len(content) + max(ends, default=0), path.stat().st_size
    if there != expected:
        raise CheckpointError(
            f"{path}: damaged: {there} bytes where its header says {expected}; copy it again or refit"
        )


def require_backbone(header: Mapping[str, Any], path: Path | None, name: str, sha256: str) -> None:
    """Raise CheckpointError unless a checkpoint was made for exactly this backbone.

    Args:
        header: of the checkpoint.
        path: of the checkpoint, for the message.
        name: of the backbone.
        sha256: digest (hex) of the backbone's weights.
    """
    wanted, made_for = header["backbone_sha256"], header["backbone"]
    if wanted == sha256:
        return
    verb, change = "fitted", "refit the prompts, or change the station's model"
    if "good" in header:  # of good parts: there is nothing to fit
        verb = "made"
        change = (
            f"set the station's model to {made_for}, or show {name} the good parts: `trainer bank --model {name}`, or"
            " `trainer station`"
        )
    raise CheckpointError(
        f"{path} was {verb} for {made_for} ({wanted[:12]}); the station uses {name} ({sha256[:12]}): {change}"
    )
