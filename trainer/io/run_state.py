"""The state of a run that may be killed at any moment: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import write_durably, write_errors

AGAIN = "free space, and give the same command again: it continues from the state that was saved last"


def write_state(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write the state of a run.

    Args:
        path: its file; folders above it are made.
        key: names the run.
        state: tensors, numbers, and dicts and lists of them.

    Raises EdgeAgentError when the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({**state, "key": key}, buffer)
    with write_errors(path, AGAIN):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, buffer.getvalue())


def read_state(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state of the run `key`, None where there is none. Raises EdgeAgentError when it is another run's, or damaged."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["key"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise EdgeAgentError(
            f"{path}: not the state of a run, or damaged ({reason}): delete it to start again"
        ) from None
    if found != key:
        raise EdgeAgentError(
            f"{path} belongs to a run with other settings, pictures or weights: continue with those, name another --out, or delete"
            f" {path.parent} to start again"
        )
    return state
