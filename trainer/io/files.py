"""The files that commands write, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge_agent.io.files import write_durably, write_errors


def png(array: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 RGB or (H, W) uint8 as PNG, without loss."""
    _, data = cv2.imencode(".png", array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises EdgeAgentError naming it."""
    with write_errors(path):
        write_durably(path, content)
