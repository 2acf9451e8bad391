"""Reads the chunks of PNG files: checks their sums, and leaves out what is not needed for the pixels."""

from __future__ import annotations

import zlib

from edge_agent.errors import DamageError

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


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
