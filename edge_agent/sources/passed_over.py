"""Says how many files of which kinds are not looked at, so that nobody waits for their verdicts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping

from edge_agent.io.drawings import is_drawing

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
NO_SUFFIX = "without a suffix"
SUBFOLDERS = "in subfolders"
DRAWINGS = "drawn by edge-agent"
MOST_KINDS = 6  # that are named
MOST_COUNTED = 1000  # files of a subfolder

_PHONE = "phone pictures: switch the phone to JPEG"
_STORE = "store them as png, jpg, bmp, tiff or webp"
_REMEDIES = {
    NO_SUFFIX: "add a suffix such as .png, or name them by patterns",
    SUBFOLDERS: "write recursive: true",
    DRAWINGS: "overlays and contact sheets: they show no part as it is",
    ".heic": _PHONE,
    ".heif": _PHONE,
    **dict.fromkeys((".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".apng", ".tga", ".exr"), _STORE),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm", ".psd", ".dcm", ".fits"), _STORE),
    **dict.fromkeys((".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"), "raw data of a camera: have it store png or jpg"),
}


def kind_of(name: str) -> str:
    """Return the kind of a file: DRAWINGS, its suffix in lower case, or NO_SUFFIX."""
    if is_drawing(name):
        return DRAWINGS
    return os.path.splitext(name)[1].lower() or NO_SUFFIX


def is_likely_picture(kind: str) -> bool:
    """Return whether files of this kind may well be meant to be inspected."""
    return kind in _REMEDIES


def describe(kinds: Mapping[str, int]) -> str:
    """Return how many files of which kinds there are, likely pictures first, each with what to do about it."""
    ordered = sorted(kinds, key=lambda kind: (not is_likely_picture(kind), -kinds[kind], kind))
    parts = [f"{kinds[kind]} {kind}{_remedy(kind)}" for kind in ordered[:MOST_KINDS]]
    if len(ordered) > MOST_KINDS:
        parts.append(f"{sum(kinds[kind] for kind in ordered[MOST_KINDS:])} of other kinds")
    return ", ".join(parts)


def _remedy(kind: str) -> str:
    return f" ({_REMEDIES[kind]})" if kind in _REMEDIES else ""


class PassedOver:
    """What the scans of one folder have passed over: each kind is reported once."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reported: set[str] = set()

    def begin_scan(self) -> None:
        """Start to count anew."""
        self._counts.clear()

    def add(self, kind: str, count: int = 1) -> None:
        """Count files of a kind."""
        self._counts[kind] += count

    def has_reported(self, kind: str) -> bool:
        """Return whether this kind was reported before."""
        return kind in self._reported

    def news(self) -> dict[str, int]:
        """Return the kinds that were not reported before, and how many files each has; they count as reported from now on."""
        fresh = {kind: count for kind, count in self._counts.items() if count and kind not in self._reported}
        self._reported.update(fresh)
        return fresh
