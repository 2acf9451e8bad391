"""The files that commands leave behind, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import write_durably


def png(array: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB or (H, W) uint8, without loss."""
    _, data = cv2.imencode(".png", array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def write_whole(path: Path, content: bytes) -> None:
    """Raises EdgeAgentError, which names the file."""
    with written_or_told(path):
        write_durably(path, content)


@contextmanager
def written_or_told(path: Path, remedy: str = "") -> Iterator[None]:
    """What is written in here may fail, for a full disk say: then as EdgeAgentError, with the file and the remedy."""
    try:
        yield
    except OSError as error:
        told = f"{path}: cannot be written: {error.strerror or error}"
        raise EdgeAgentError(f"{told}; {remedy}" if remedy else told) from None
