"""The files that commands leave behind, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from edge_agent.durable import write_durably
from edge_agent.errors import EdgeAgentError


def write_whole(path: Path, content: bytes) -> None:
    """Raises EdgeAgentError, which names the file."""
    try:
        write_durably(path, content)
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be written: {error.strerror}") from None
