"""How much of an MP4 or MOV video is shown: what is trimmed without encoding again stays in the file behind an edit list.

ISO/IEC 14496-12: boxes of (size, kind, content); moov holds mvhd, which has the time scale, and for each track a trak with
edts/elst, its edit list, and mdia/hdlr, its kind.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

MOST_BYTES = 1 << 24  # of the box that describes the tracks
MOST_BOXES = 10_000

_Box = tuple[bytes, int, int]  # kind, begin and end of the content


def shown_s(path: str) -> float | None:
    """Return the seconds of a video that its edit list shows; None if it has none, or is in another format."""
    try:
        with open(path, "rb") as file:
            moov = _moov(file)
        return _shown_s(moov) if moov else None
    except (OSError, struct.error):  # what is damaged is found when it is played
        return None


def _moov(file: BinaryIO) -> bytes | None:
    at, size = 0, os.fstat(file.fileno()).st_size
    for _ in range(MOST_BOXES):
        if at + 8 > size:
            return None
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", file.read(8))[0], 16
        if kind == b"moov":
            return file.read(min(length - head, MOST_BYTES)) if length >= head else None
        if length < head:  # 0: to the end of the file
            return None
        at += length
    return None


def _shown_s(moov: bytes) -> float | None:
    top = list(_boxes(moov, 0, len(moov)))
    scale = next((_time_scale(moov, begin) for kind, begin, _ in top if kind == b"mvhd"), 0)
    for kind, begin, end in top:
        if kind != b"trak" or not scale:
            continue
        inside = dict(_named(moov, begin, end))
        media = dict(_named(moov, *inside.get(b"mdia", (0, 0))))
        if b"hdlr" not in media or moov[media[b"hdlr"][0] + 8 : media[b"hdlr"][0] + 12] != b"vide":
            continue
        edits = dict(_named(moov, *inside.get(b"edts", (0, 0))))
        if b"elst" not in edits:
            return None
        return sum(_durations(moov, edits[b"elst"][0])) / scale or None
    return None


def _boxes(data: bytes, begin: int, end: int) -> Iterator[_Box]:
    while begin + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, begin)
        if length < 8:
            return
        yield kind, begin + 8, min(begin + length, end)
        begin += length


def _named(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    for kind, first, last in _boxes(data, begin, end):
        yield kind, (first, last)


def _time_scale(data: bytes, at: int) -> int:
    """Return the units a second of a mvhd, which counts its own times in 32 or 64 bits."""
    return int(struct.unpack_from(">I", data, at + (20 if data[at] else 12))[0])


def _durations(data: bytes, at: int) -> Iterator[int]:
    """Yield how long each edit of an elst shows the media; edits from -1 on show nothing."""
    layout = struct.Struct(">QqI" if data[at] else ">IiI")
    (count,) = struct.unpack_from(">I", data, at + 4)
    for index in range(min(count, MOST_BOXES)):
        duration, media_time, _ = layout.unpack_from(data, at + 8 + index * layout.size)
        if media_time >= 0:
            yield duration
