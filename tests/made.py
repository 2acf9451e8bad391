"""Pictures with known pixels, and a folder to be in without privileges."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

NOBODY = 65534


def gradient(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 RGB, smooth, with another pattern in each channel; `seed` shifts it."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = x * 200 // width, y * 200 // height, 200 - (x + y) * 200 // (width + height)
    return np.dstack([red + seed % 50, green, blue]).astype(np.uint8)


def png(samples: np.ndarray) -> bytes:
    """A PNG of (H, W) or (H, W, 2 to 4) uint8 or uint16 samples, written chunk by chunk as the specification says."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    rows = samples.astype(f">u{samples.itemsize}")
    raw = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in rows)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png_of(samples.shape[1], samples.shape[0], 8 * samples.itemsize, colour_type, zlib.compress(raw, 1))


def png_of(width: int, height: int, bits: int, colour_type: int, compressed_rows: bytes) -> bytes:
    """A PNG with any header, whether it fits the rows or not."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed_rows) + chunk(b"IEND", b"")


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """Give a folder that is our own; where we are root, drop to nobody's rights meanwhile, as root may read everything."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)
