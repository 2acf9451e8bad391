"""The chunks of PNG files: reads them, checks their sums and leaves out what is not needed for the pixels; writes a picture."""

from __future__ import annotations

import zlib

import numpy as np

from edge_agent.errors import DamageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS, _RGB, _LEFT = (
    8,
    2,
    1,
)  # bit depth, colour type, and the filter that stores differences from the pixel on the left

_FRAMES, _EXIF, _TEXTS = b"acTL", b"eXIf", (b"tEXt", b"zTXt")
_EXIF_PREFIX, _EXIF_TEXT, _MOST_TEXT = b"Exif\0\0", b"Raw profile type exif\0", 1 << 13


def frames(data: bytes) -> int:
    """Return how many frames a whole PNG has; more than 1 only in animations."""
    at = data.find(_FRAMES, 8, data.find(b"IDAT"))
    return int.from_bytes(data[at + 4 : at + 8], "big") if at > 0 else 1


def needed(data: bytes) -> bytes:
    """Return the file with the chunks of its pixels and its orientation alone, as decoders refuse other chunks for their length.

    Raises DamageError if a checksum is wrong, or the end is missing.
    """
    at, kept = 8, [data[:8]]
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], memoryview(data)[at + 8 : end - 4]
        if end > len(data):
            break
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
            raise DamageError(f"the checksum of its bytes from {at} to {end} is wrong")
        if kind[:1].isupper():
            kept.append(data[at:end])
        elif kind == _EXIF:
            kept.append(_chunk(kind, _without_prefix(bytes(body))))
        elif kind in _TEXTS and len(body) <= _MOST_TEXT and bytes(body[: len(_EXIF_TEXT)]) == _EXIF_TEXT:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise DamageError(f"its {len(data)} bytes have no end")


def _without_prefix(exif: bytes) -> bytes:
    """Return EXIF data as PNG wants them: some programs write the prefix that JPEG wants before them."""
    while exif.startswith(_EXIF_PREFIX):
        exif = exif[len(_EXIF_PREFIX) :]
    return exif


def encode(pixels: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) uint8 RGB as a PNG file, fast: a sixth of the processor time of OpenCV's level 1.

    ISA-L compresses at its level 1, which gives as few bytes as zlib's, and releases the interpreter meanwhile.
    """
    from isal import isal_zlib  # 5 ms of a start that may never need it

    height, width = pixels.shape[:2]
    samples = np.ascontiguousarray(pixels).reshape(height, 3 * width)
    rows = np.empty((height, 3 * width + 1), np.uint8)
    rows[:, 0] = _LEFT
    rows[:, 1:4] = samples[:, :3]
    np.subtract(samples[:, 3:], samples[:, :-3], out=rows[:, 4:])
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((_EIGHT_BITS, _RGB, 0, 0, 0))
    chunks = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(rows, 1)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join((len(body).to_bytes(4, "big"), kind, body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")))
