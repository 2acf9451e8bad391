"""Sides in pixels that pictures can be read at."""

from __future__ import annotations

MAX_WINDOWS = 8  # along each side of a picture: 64 of them, and 65 times the work


def whole_patches(side: int, patch: int) -> int:
    """Return the multiple of `patch` nearest to `side`, at least one patch; all in pixels."""
    return max(1, round(side / patch)) * patch
