"""Pictures of other things than the part: how far a bank lies from them tells how far it may lie from the next good part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edge_agent
from edge_agent.io.pictures import decode

SAMPLES = Path(edge_agent.__file__).parent / "samples"  # pictures of many products
COUNT = 6  # of them that are read
# How far another good part lies from a bank of a single one, as a share of how far other things do. On four sets of real parts
# with three trunks it was 0.53 to 0.72, by the picture's distance and by its highest patch alike.
NEXT_PART = 0.64


def other_things() -> list[np.ndarray]:
    """Return the pictures, (H, W, 3) uint8 RGB."""
    return [decode(path) for path in sorted(SAMPLES.glob("*.jpg"))[:COUNT]]
