"""Sides that pictures can be read at."""

from __future__ import annotations

MOST_WINDOWS = 8  # along each side of a picture: 64 of them, and 65 times the work


def whole_patches(side: int, patch: int) -> int:
    """The side in pixels nearest to `side` that is whole patches, of one at least."""
    return max(1, round(side / patch)) * patch
