"""A picture of a good part that a bank is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class GoodPicture:
    """One picture of a good part: its file's name and SHA-256 (hex), and what decodes it to (H, W, 3) uint8 RGB."""

    name: str
    sha256: str
    decode: Callable[[], np.ndarray]
