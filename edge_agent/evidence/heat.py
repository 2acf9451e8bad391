"""The colour scale of anomaly maps: fixed by map_threshold, the same for every picture, never scaled to one.

Below half of map_threshold nothing is drawn; from there to map_threshold a cool tint grows, from there to 1.0 a warm one.
"""

from __future__ import annotations

import cv2
import numpy as np

# (level, RGB, opacity): levels 1 to 127 stand for values below map_threshold, 128 to 255 for values from it to 1.0.
# Blue and orange to red stay apart for every kind of colour-blind eye; the jump is where OK ends.
_STOPS = ((0, (60, 120, 255), 0.0), (127, (40, 90, 255), 0.36), (128, (255, 140, 0), 0.44), (255, (235, 0, 40), 0.60))


def levels(heatmap: np.ndarray, map_threshold: float) -> np.ndarray:
    """Convert (H, W) float32 in [0, 1] to (H, W) uint8: 0 below map_threshold / 2, at least 128 from map_threshold on."""
    above = heatmap - np.float32(map_threshold)
    cool, warm = np.float32(254 / map_threshold), np.float32(127 / max(1e-6, 1 - map_threshold))
    level = np.minimum(above, 0) * cool
    level += np.maximum(above, 0) * warm
    level += 128
    return np.clip(level, 0, 255, out=level).astype(np.uint8)


def tint(picture: np.ndarray, heatmap: np.ndarray, map_threshold: float) -> None:
    """Tint a picture with its map, in place; each pixel depends only on its own value.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heatmap: (H, W) float32 in [0, 1].
        map_threshold: where the cool tint ends and the warm one begins, in (0, 1].
    """
    lit = heatmap >= np.float32(map_threshold / 2)
    x, y, w, h = cv2.boundingRect(lit.view(np.uint8))
    if not w:
        return
    part = picture[y : y + h, x : x + w]
    level = levels(heatmap[y : y + h, x : x + w], map_threshold)
    paint, keep = _tables()
    shown = cv2.multiply(part, cv2.applyColorMap(level, keep), scale=1 / 255)
    part[:] = cv2.add(shown, cv2.applyColorMap(level, paint))


def bar(shape: tuple[int, int], map_threshold: float, ground: tuple[int, int, int]) -> np.ndarray:
    """Draw the scale from 0 (left) to 1 (right) as (H, W, 3) uint8 RGB.

    Args:
        shape: (H, W) in pixels.
        map_threshold: where the cool tint ends and the warm one begins, in (0, 1].
        ground: RGB colour under the tint, 0 to 255 each.
    """
    picture = np.full((*shape, 3), ground, np.uint8)
    values = np.linspace(0, 1, shape[1], dtype=np.float32)
    tint(picture, np.tile(values, (shape[0], 1)), map_threshold)
    return picture


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return for each level, as (256, 1, 3) uint8, the colour to add and the share (of 255) of the picture to keep."""
    at = [stop[0] for stop in _STOPS]
    alpha = np.interp(np.arange(256), at, [stop[2] for stop in _STOPS])
    rgb = np.stack([np.interp(np.arange(256), at, [stop[1][i] for stop in _STOPS]) for i in range(3)], axis=1)
    paint = np.rint(rgb * alpha[:, None]).astype(np.uint8)
    keep = np.rint(255 * (1 - alpha)).astype(np.uint8)
    return paint[:, None], np.repeat(keep[:, None, None], 3, axis=2)
