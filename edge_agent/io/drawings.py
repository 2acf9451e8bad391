"""Names and marks of the pictures that the agent draws itself, so that none of them is inspected as if it showed a part."""

from __future__ import annotations

import os
import re
import zlib

CONTACT_SHEET = "contact_sheet.jpg"
OVERLAY = "_overlay"  # ends the name of an overlay, before its suffix
MARK = b"drawn by edge-agent"
_NAME = re.compile(rf".+_[0-9a-f]{{12}}{OVERLAY}\.(png|jpg|webp)", re.ASCII)
_START, _HEADER = 2, 33  # where a JPEG's first segment begins, and the chunk behind a PNG's header
_WITHIN = 1024  # bytes of a file in which its mark lies


def is_drawing(path: str) -> bool:
    """Return whether a file has the name of an overlay or a contact sheet."""
    name = os.path.basename(path)
    return name == CONTACT_SHEET or _NAME.fullmatch(name) is not None


def is_marked(data: bytes) -> bool:
    """Return whether the bytes of a file are marked as a drawing, whatever its name."""
    return MARK in data[:_WITHIN]


def marked(data: bytes) -> bytes:
    """Return a JPEG or PNG with a mark in it; other files as they are."""
    if data.startswith(b"\xff\xd8"):
        comment = b"\xff\xfe" + (2 + len(MARK)).to_bytes(2, "big") + MARK
        return data[:_START] + comment + data[_START:]
    if data.startswith(b"\x89PNG"):
        text = b"tEXtComment\0" + MARK
        chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
        return data[:_HEADER] + chunk + data[_HEADER:]
    return data
