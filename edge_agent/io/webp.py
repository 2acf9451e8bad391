"""Decodes WebP data that is whole (RFC 9649), without the side information beside it.

Nothing in the data of a picture tells that they are right, and libwebp warns of nothing. But it needs whole data to the last
bytes, and of damaged ones nearly always fewer or more: so data are damaged that can still be decoded without the last bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

from edge_agent.errors import DamageError

_PICTURES = (b"VP8 ", b"VP8L")
_SPARE = 5  # bytes at the end without which whole data cannot be decoded: encoders leave up to 3 unused


class Picture(NamedTuple):
    """What a file holds. kind, content: of the chunk of the picture, empty for animations. exif: as it is in the file."""

    kind: bytes
    content: bytes
    exif: bytes
    frames: int

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of the picture itself."""
        return size(_file(self.kind, self.content))


def size(data: bytes) -> tuple[int, int]:
    """Return (width, height) by the first chunk. Raises ValueError."""
    kind = data[12:16] if len(data) >= 30 else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise ValueError(f"unknown WebP chunk {kind!r}")


def picture(data: bytes) -> Picture:
    """Find the picture in a file. Raises DamageError if the file ends before its chunks do, or holds none."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) + 1:  # The byte that fills up an odd chunk is missing in some files.
        raise DamageError(f"its {len(data)} bytes are fewer than the {end} that it says it has")
    at, frames, exif, found = 12, 0, b"", None
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + length]
        if len(content) < length:
            raise DamageError(f"its {len(data)} bytes end before its data do")
        at += 8 + length + (length & 1)
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            exif = content
        elif kind in _PICTURES and found is None:
            found = kind, content
    if frames:
        return Picture(b"", b"", exif, frames)
    if found is None:
        raise DamageError("it holds no picture")
    return Picture(*found, exif, 1)


def decode(found: Picture) -> np.ndarray:
    """Decode a picture to (H, W, 3) uint8 RGB, without alpha. Raises DamageError."""
    pixels = _decode(found.kind, found.content)
    if pixels is None:
        raise DamageError("its WebP data cannot be decoded")
    shorter = (len(found.content) - _SPARE) & ~1  # even, as libwebp may read the byte that fills up an odd chunk
    if _decode(found.kind, found.content[:shorter]) is not None:
        raise DamageError("its WebP data are damaged (bytes are left over)")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(kind: bytes, content: bytes) -> np.ndarray | None:
    """Decode a chunk to BGR; None if that fails."""
    return cv2.imdecode(np.frombuffer(_file(kind, content), np.uint8), cv2.IMREAD_COLOR_BGR)


def _file(kind: bytes, content: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
