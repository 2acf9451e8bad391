"""Draws one inspection as an overlay: the picture with its map on a fixed colour scale, outline, regions and a header."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from edge_agent.core import Inspection, Reading, Region, Verdict
from edge_agent.evidence import heat
from edge_agent.evidence.choices import LARGEST
from edge_agent.evidence.header import MAT, card, header, header_height
from edge_agent.line.judge import stretch

SMALLEST = 400  # pixels: one with a shorter long side is scaled up by a whole factor, to between this and twice this
NARROWEST = 480  # pixels: what the header needs; narrower pictures are centred below it

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw(inspection: Inspection, largest: int = LARGEST) -> np.ndarray:
    """Draw the overlay of an inspection by the rules it was judged by, as (H, W, 3) uint8 RGB. largest: see overlay()."""
    return overlay(
        inspection.frame.pixels,
        inspection.reading,
        inspection.verdict,
        threshold=inspection.threshold,
        map_threshold=inspection.map_threshold,
        title=inspection.frame.title,
        largest=largest,
    )


def overlay(
    pixels: np.ndarray,
    reading: Reading | None,
    verdict: Verdict,
    *,
    threshold: float,
    map_threshold: float,
    title: str = "",
    largest: int = LARGEST,
) -> np.ndarray:
    """Draw one inspection as (H, W, 3) uint8 RGB.

    The picture is scaled by fit() and never covered by text: the header is above it.

    Args:
        pixels: (h, w, 3) uint8 RGB of any size; if empty, a gray card with the verdict's reason is drawn instead.
        reading: the detector's output; None, or a map with values that are not finite, draws the picture alone.
        verdict: its evaluation and reason go into the header, its regions are framed.
        threshold: the station's threshold of the score (see judge.Rules).
        map_threshold: the station's threshold of the map, in (0, 1] (see judge.Rules).
        title: any text, shortened to fit; default "".
        largest: pixels of the longer side of the drawn picture, at most; default LARGEST.
    """
    if 0 in pixels.shape[:2]:
        picture, reason = card((360, 640), verdict.reason), None
    else:
        shape = fit(pixels.shape, largest)
        picture, reason = paint(pixels, reading, verdict.regions, map_threshold, shape), verdict.reason
    picture = centred(picture, (picture.shape[0], max(NARROWEST, picture.shape[1])))
    strip = header(
        picture.shape[1],
        verdict.evaluation,
        score=reading.score if reading else None,
        threshold=threshold,
        map_threshold=map_threshold,
        title=title,
        reason=reason,
    )
    return np.vstack([strip, picture])


def paint(
    pixels: np.ndarray,
    reading: Reading | None,
    regions: Sequence[Region],
    map_threshold: float,
    shape: tuple[int, int],
) -> np.ndarray:
    """Draw the picture with tint, outline and a frame around every region, as (H, W, 3) uint8 RGB.

    Below SMALLEST pixels the outline is left out: on a thumbnail it would hide what it encloses.

    Args:
        pixels: (h, w, 3) uint8 RGB, not empty.
        reading: the detector's output; None, or a map with values that are not finite, draws the picture alone.
        regions: boxes in pixels of the original picture.
        map_threshold: the station's threshold of the map, in (0, 1].
        shape: (H, W) to scale to.
    """
    picture = scaled(pixels, shape)
    if reading is None or not reading.heatmap.size or not np.isfinite(reading.heatmap).all():
        return picture
    stroke = 1 + max(shape) // 1000
    if reading.heatmap.max() >= map_threshold / 2:
        surface = stretch(reading.heatmap, shape)
        heat.tint(picture, surface, map_threshold)
        if max(shape) >= SMALLEST:
            _outline(picture, surface >= map_threshold, stroke)
    sy, sx = shape[0] / pixels.shape[0], shape[1] / pixels.shape[1]
    for region in regions:
        x, y, w, h = region.bbox
        corners = math.floor(x * sx), math.floor(y * sy), math.ceil((x + w) * sx), math.ceil((y + h) * sy)
        _frame(picture, corners, stroke)
    return picture


def fit(shape: tuple[int, ...], largest: int = LARGEST) -> tuple[int, int]:
    """Return the (H, W) at which a picture of shape (h, w, ...) is drawn: in proportion, each side at least 1.

    largest: pixels of the longer side, at most; default LARGEST.
    """
    h, w = shape[:2]
    long = max(h, w)
    if long > largest:
        return max(1, round(h * largest / long)), max(1, round(w * largest / long))
    factor = max(1, 2 * SMALLEST // long) if long < SMALLEST else 1
    return h * factor, w * factor


def cut(drawn: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cut an overlay of a picture of shape (h, w, ...) to the picture alone, without header and margins.

    However large it was drawn: its width tells, and that of a picture narrower than the header its height.
    """
    (high, wide), (h, w) = drawn.shape[:2], shape[:2]
    if wide > NARROWEST:
        return drawn[-min(high, max(1, round(h * wide / w))) :]
    H = min(fit(shape, sys.maxsize)[0], high - header_height(wide))
    W = min(wide, max(1, round(w * H / h)))
    left = (wide - W) // 2
    return drawn[-H:, left : left + W]


def scaled(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Copy (h, w, 3) uint8 to shape (H, W): scaled up, pixels stay sharp blocks; scaled down, none is skipped."""
    (h, w), (H, W) = pixels.shape[:2], shape
    pixels = np.ascontiguousarray(pixels)
    if h >= 2 * H or w >= 2 * W:
        # Averaging whole blocks and then interpolating is several times faster than averaging fractions of pixels.
        ky, kx = max(1, h // H), max(1, w // W)
        pixels = cv2.resize(pixels[: h // ky * ky, : w // kx * kx], (w // kx, h // ky), interpolation=cv2.INTER_AREA)
    larger = min(H - h, W - w) >= 0
    return cv2.resize(pixels, (W, H), interpolation=cv2.INTER_NEAREST if larger else cv2.INTER_LINEAR)


def centred(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centre the picture on a plain background of shape (H, W), which must be at least as large."""
    (h, w), (H, W) = picture.shape[:2], shape
    if (h, w) == (H, W):
        return picture
    mat = np.full((H, W, 3), MAT, np.uint8)
    y, x = (H - h) // 2, (W - w) // 2
    mat[y : y + h, x : x + w] = picture
    return mat


def _outline(picture: np.ndarray, mask: np.ndarray, stroke: int) -> None:
    """Draw a white line with a dark border, visible on any background, along the edge of an (H, W) bool mask."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _BLACK, stroke + 2)
    cv2.drawContours(picture, contours, -1, _WHITE, stroke)


def _frame(picture: np.ndarray, corners: tuple[int, int, int, int], stroke: int) -> None:
    """Draw corner brackets around the box (x0, y0, x1, y1), at a small distance so that they hide nothing of it."""
    H, W = picture.shape[:2]
    apart = 3 * stroke + 3
    x0, y0, x1, y1 = corners
    x0, y0, x1, y1 = max(0, x0 - apart), max(0, y0 - apart), min(W, x1 + apart) - 1, min(H, y1 + apart) - 1
    arm = max(3, min(x1 - x0, y1 - y0, 120) // 4)
    strokes = [
        np.array([(x, y + arm * dy), (x, y), (x + arm * dx, y)], np.int32)
        for x, dx in ((x0, 1), (x1, -1))
        for y, dy in ((y0, 1), (y1, -1))
    ]
    cv2.polylines(picture, strokes, False, _BLACK, stroke + 2)
    cv2.polylines(picture, strokes, False, _WHITE, stroke)
