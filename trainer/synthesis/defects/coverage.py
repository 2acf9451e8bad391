"""Coverages of defects, without colour, float32 (H, W) in [0, 1]: blobs, chunks, strokes, cracks, hairs.

Every shape fits roughly into a box of `extent` pixels around its centre; thin lines have widths below a pixel.

Args of all functions:
    rng: decides the shape.
    shape: (H, W) of the coverage, pixels.
    centre: (x, y), pixels.
    extent: size of the shape, pixels.
    width: of lines, pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.noise import Array, Rng, chance, field, log_uniform, octaves

_FINE = 4
"""Lines are drawn this many times larger, then averaged down: with less, half-pixel cracks turn into dots."""


def polar(shape: tuple[int, int], centre: tuple[float, float], extent: float, angle: float, stretch: float) -> Array:
    """Return the distance from the centre (H, W), 1 on an ellipse whose long axis is `extent` pixels.

    Args (and those of all functions):
        angle: of the long axis, radians.
        stretch: ratio of the axes, at least 1.
    """
    y, x = np.ogrid[0 : shape[0], 0 : shape[1]]
    x, y = (x - centre[0]).astype(np.float32), (y - centre[1]).astype(np.float32)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return np.hypot(c * x + s * y, (c * y - s * x) * np.float32(stretch)) * np.float32(2 / extent)


def blob(
    rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, ragged: float, soft: float
) -> Array:
    """Return a closed shape.

    Args (and those of all functions):
        ragged: 0 for an ellipse to 1 for a torn outline.
        soft: width of its edge, pixels.
    """
    r = polar(shape, centre, extent * 0.9, rng.uniform(0, math.pi), log_uniform(rng, 1, 3))
    if ragged > 0:
        r = r + np.float32(0.35 * ragged) * octaves(rng, shape, max(extent / rng.uniform(1.5, 5), 2), 3, 0.6)
    return np.clip((1 - r) * np.float32(extent / 2 / max(soft, 0.7)) + np.float32(0.5), 0, 1)


def haze(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float) -> Array:
    """Return a cloud without an edge."""
    r = polar(shape, centre, extent, rng.uniform(0, math.pi), log_uniform(rng, 1, 3))
    cloud = np.clip(1 + rng.uniform(0, 0.7) * octaves(rng, shape, max(extent / 3, 2), 3), 0, 1.5)
    return np.clip(np.exp(-((r * 1.3) ** 2) * np.float32(rng.uniform(0.7, 2))) * cloud, 0, 1)


def chunk(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float) -> Array:
    """Return an angular piece: a polygon of 3 to 8 uneven corners."""
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    reach = rng.uniform(0.45, 1, corners) * extent / 2
    points = np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles)], 1)
    return _filled(shape, points)


def box(
    rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, angle: float | None = None
) -> Array:
    """Return a rectangle. angle: radians; default a random one."""
    angle = rng.uniform(0, math.pi) if angle is None else angle
    half = np.array([extent / 2.2, extent / 2.2 / log_uniform(rng, 1, 4)])
    c, s = math.cos(angle), math.sin(angle)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half @ np.array([(c, s), (-s, c)])
    return _filled(shape, corners + centre)


def _filled(shape: tuple[int, int], points: Array) -> Array:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def walk(
    rng: Rng, centre: tuple[float, float], length: float, steps: int, wander: float, angle: float | None = None
) -> Array:
    """Return points (steps + 1, 2) of a path whose bounding box is centred.

    Args:
        rng: decides the path.
        centre: (x, y) in pixels.
        length: of the path in pixels.
        steps: number of its segments.
        wander: standard deviation of the change of direction a step, radians.
        angle: first direction, radians; random where it is None.
    """
    angle = rng.uniform(0, 2 * math.pi) if angle is None else angle
    turns = angle + np.cumsum(rng.normal(0, wander, steps))
    points = np.zeros((steps + 1, 2))
    points[1:] = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0) * (length / steps)
    return points - (points.min(0) + points.max(0)) / 2 + centre


def stroke(shape: tuple[int, int], points: Array, widths: Array) -> Array:
    """Draw a path.

    Args:
        shape: (H, W) of the coverage, pixels.
        points: (N + 1, 2), (x, y) in pixels.
        widths: (N,), of its segments, pixels.
    """
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    _draw(canvas, points, widths)
    return _averaged(canvas, shape)


def _draw(canvas: Array, points: Array, widths: Array) -> None:
    fixed = np.round((points * _FINE + (_FINE - 1) / 2) * 16).astype(np.int32)
    for start, end, width in zip(fixed[:-1].tolist(), fixed[1:].tolist(), widths.tolist(), strict=True):
        cv2.line(canvas, start, end, 255, max(1, round(width * _FINE)), cv2.LINE_8, 4)


def _averaged(canvas: Array, shape: tuple[int, int]) -> Array:
    return cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)


def crack(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, width: float) -> Array:
    """Return a jagged line, `width` pixels wide, that thins out at its ends and may branch."""
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    steps = int(np.clip(extent / rng.uniform(2, 6), 4, 40))
    jag = rng.uniform(0.15, 0.6)
    trunk = walk(rng, centre, extent * 1.1, steps, 0.12, None)
    trunk[1:-1] += rng.normal(0, jag * extent / steps, (steps - 1, 2))
    taper = np.sin(np.linspace(0.15, math.pi - 0.15, steps)) ** rng.uniform(0.3, 1)
    _draw(canvas, trunk, width * taper * rng.uniform(0.6, 1.4, steps))
    for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.45, 0.25, 0.2, 0.1]))):
        at = int(rng.integers(1, steps))
        lead = trunk[at] - trunk[at - 1]
        count = max(3, steps // 3)
        way = math.atan2(lead[1], lead[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        branch = walk(rng, (0, 0), extent * rng.uniform(0.15, 0.45), count, 0.3, way)
        branch += trunk[at] - branch[0]
        _draw(canvas, branch, width * 0.7 * np.linspace(1, 0.3, count))
    return _averaged(canvas, shape)


def scratches(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, width: float) -> Array:
    """Return one straight or bent scratch, or a few side by side, uneven in depth and about `width` pixels wide."""
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    angle, bend = rng.uniform(0, 2 * math.pi), rng.choice([0.0, 0.02, 0.12])
    count = int(rng.choice([1, 2, 3, 6], p=[0.65, 0.15, 0.12, 0.08]))
    for k in range(count):
        steps = 12
        aside = rng.normal(0, extent * 0.08, 2) * min(k, 1)
        path = walk(
            rng,
            (centre[0] + aside[0], centre[1] + aside[1]),
            extent * rng.uniform(0.5, 1),
            steps,
            bend,
            angle + rng.normal(0, 0.04),
        )
        _draw(
            canvas,
            path,
            width * np.clip(np.sin(np.linspace(0.1, math.pi - 0.1, steps)), 0.3, 1) * rng.uniform(0.7, 1.3, steps),
        )
    line = _averaged(canvas, shape)
    if chance(rng, 0.5):
        line = line * np.clip(0.75 + 0.5 * field(rng, shape, max(extent / 6, 2)), 0, 1)
    return line


def hair(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, width: float) -> Array:
    """Return a curled thread, `width` pixels wide."""
    steps = int(np.clip(extent, 12, 48))
    curl = np.cumsum(rng.normal(0, 0.09, steps)) + rng.uniform(-0.12, 0.12)
    turns = rng.uniform(0, 6.28) + np.cumsum(curl * 12 / steps)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)])
    points -= (points.min(0) + points.max(0)) / 2
    points *= extent / max(np.ptp(points, 0).max(), 1e-3)
    return stroke(shape, points + centre, np.full(steps, width))


def spatter(rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float) -> Array:
    """Return 2 to 60 dots of various sizes."""
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    for _ in range(round(log_uniform(rng, 2, 60))):
        spot = np.asarray(centre) + np.clip(rng.normal(0, extent / 5, 2), -extent / 2, extent / 2)
        radius = log_uniform(rng, 0.6, max(1.0, extent / 9))
        axes = (max(1, round(radius * _FINE)), max(1, round(radius * rng.uniform(0.6, 1) * _FINE)))
        at = (round(float(spot[0]) * _FINE), round(float(spot[1]) * _FINE))
        cv2.ellipse(canvas, at, axes, rng.uniform(0, 180), 0, 360, 255, -1)
    return _averaged(canvas, shape)
