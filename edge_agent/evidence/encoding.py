"""Pixels to the bytes of a picture file, as evidence is kept: originals as PNG, overlays in the format that is asked for."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from edge_agent.evidence.choices import Format
from edge_agent.io import png

JPEG_QUALITY, WEBP_QUALITY = 92, 90


def encode(pixels: np.ndarray, fmt: Format) -> bytes:
    """Encode (H, W, 3) uint8 RGB as the bytes of a file; the interpreter is free meanwhile. Raises ValueError if that fails."""
    if fmt == "png":
        return png.encode(pixels)
    if fmt == "jpg":
        # 4:4:4, as subsampled colour blurs thin outlines of strong colours.
        encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), JPEG_QUALITY, "RGB", "444")
        return encoded
    done, content = cv2.imencode(
        ".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]
    )
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be written as {fmt}")
    return bytes(content)
