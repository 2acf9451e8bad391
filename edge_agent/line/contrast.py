"""How much a picture shows: with the lamp off, a cap on the lens or no signal it is of one colour, whatever the part."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 64
_ENOUGH = 64  # pixels of a part, over which noise averages out


def contrast(pixels: np.ndarray) -> float:
    """Return the largest standard deviation of a colour over the area of a picture (H, W, 3) uint8 RGB, in [0, 1].

    Measured on averages of some 64 x 64 parts, so that the noise of a sensor in the dark counts for little.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    parts = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return float(parts.reshape(-1, 3).std(axis=0).max()) / 255


def contrast_below(pixels: np.ndarray, least: float) -> float | None:
    """Return the contrast of a picture if it is below `least`; None if it is not, which some rows tell of most pictures.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        least: in [0, 1].
    """
    every = pixels.size // (3 * _ENOUGH * _SIDE**2)
    if every > 1 and contrast(pixels[::every]) >= 2 * least:
        return None
    shown = contrast(pixels)
    return shown if shown < least else None


def shows_nothing(pixels: np.ndarray, shown: float) -> str:
    """Return the reason why a picture of too little contrast is not decidable.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        shown: its contrast.
    """
    levels = ", ".join(f"{level:.0f}" for level in pixels.mean(axis=(0, 1)))
    return (
        f"the picture shows nothing: it is RGB ({levels}) all over, with a contrast of {255 * shown:.2g} of 255: check lamp, "
        "lens cap, exposure and cable; if good parts look so, calibrate with pictures of them"
    )
