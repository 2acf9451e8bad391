"""Pixel formats of GenICam (PFNC): which are understood, and their samples as 8-bit pictures in OpenCV's order.

A format of more than 8 bits is scaled by its own bit depth, never by what a picture holds, as 16-bit files are.
"""

from __future__ import annotations

import re

import cv2
import numpy as np

from edge_agent.io.pictures import eight_bits

# PFNC names the first two pixels of the first row; OpenCV's name of four pixels does, too.
_BAYER = {
    "BayerRG": cv2.COLOR_BayerRGGB2BGR,
    "BayerGR": cv2.COLOR_BayerGRBG2BGR,
    "BayerGB": cv2.COLOR_BayerGBRG2BGR,
    "BayerBG": cv2.COLOR_BayerBGGR2BGR,
}
_CHANNELS = {"Mono": 1, "RGB": 3, "BGR": 3, "RGBa": 4, "BGRa": 4} | dict.fromkeys(_BAYER, 1)
_FORMAT = re.compile(rf"({'|'.join(sorted(_CHANNELS, key=len, reverse=True))})(8|10|12|14|16)(p|Packed)?")


def is_understood(pixel_format: str) -> bool:
    """Return whether pictures of this format can be converted."""
    return _FORMAT.fullmatch(pixel_format) is not None


def to_bgr(samples: np.ndarray, pixel_format: str, width: int, height: int, padding: int = 0) -> np.ndarray:
    """Return a picture as (H, W) gray, or (H, W, 3) or (H, W, 4) BGR, uint8.

    Args:
        samples: one after the other, uint8 or uint16, unpacked.
        pixel_format: understood; see is_understood().
        width: in pixels.
        height: in pixels.
        padding: samples after each row that belong to no pixel.

    Raises:
        ValueError: there are not as many samples as the size needs.
    """
    found = _FORMAT.fullmatch(pixel_format)
    assert found
    kind, depth = found[1], int(found[2])
    channels = _CHANNELS[kind]
    rows = samples[: height * (width * channels + padding)].reshape(height, width * channels + padding)
    picture = rows[:, : width * channels].reshape(height, width, channels)
    if depth > 8:
        picture = eight_bits(depth)[picture]
    picture = picture[..., 0] if channels == 1 else picture
    if kind in _BAYER:
        return cv2.cvtColor(picture, _BAYER[kind])
    if kind.startswith("RGB"):
        return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGBA2BGR)
    return picture
