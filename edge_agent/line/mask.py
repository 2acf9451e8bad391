"""Include and ignore polygons to the mask of what is inspected."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_agent.errors import ConfigError

MASK_SIDE = 512  # pixels that stations' polygons are drawn on
Polygon = Sequence[tuple[float, float]]  # (x, y) fractions of the picture, (0, 0) top left, (1, 1) bottom right

_SHIFT = 8  # fillPoly takes fixed-point coordinates: 8 bits below the pixel


def keep_mask(include: Sequence[Polygon], ignore: Sequence[Polygon], size: int) -> np.ndarray | None:
    """Return which part of a picture counts: inside any `include` polygon and outside all of `ignore`.

    Args:
        include: polygons of (x, y) fractions of the picture; none means all of it.
        ignore: polygons of (x, y) fractions.
        size: side of the mask in pixels.

    Returns:
        (size, size) bool, True is inspected, stretched over the whole picture whatever its shape; or None, as detectors take
        it, when everything counts. Pixels that an outline touches belong to its polygon.

    Raises:
        ConfigError: nothing would be left, so the station could never find a defect.
    """
    if not include and not ignore:
        return None
    keep = _filled(include, size) if include else np.ones((size, size), bool)
    keep &= ~_filled(ignore, size)
    if not keep.any():
        raise ConfigError(
            "include and ignore leave nothing of the picture to inspect: make the ignore polygons smaller"
        )
    return keep


def _filled(polygons: Sequence[Polygon], size: int) -> np.ndarray:
    """(size, size) bool, True inside any of the polygons."""
    canvas = np.zeros((size, size), np.uint8)
    for polygon in polygons:
        centres = np.asarray(polygon, np.float64) * size - 0.5  # the centre of the first pixel is 0, not its corner
        # One call each: in a single call overlapping polygons would cancel out (even-odd rule).
        cv2.fillPoly(canvas, [np.rint(centres * (1 << _SHIFT)).astype(np.int32)], 1, shift=_SHIFT)
    return canvas.astype(bool)
