"""Random fields, colours and light, from which surfaces, parts and defects are made.

Fields are float32 (H, W); colours and pictures are float32 RGB in [0, 1]; heights are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

Array = np.ndarray
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a number between low and high, uniform in its logarithm; low where high is below it."""
    return float(math.exp(rng.uniform(math.log(low), math.log(max(low, high)))))


def chance(rng: Rng, p: float) -> bool:
    """Return True with probability p."""
    return bool(rng.random() < p)


def field(rng: Rng, shape: tuple[int, int], cell: float, cell_x: float | None = None) -> Array:
    """Make smooth noise (H, W) of about zero mean and unit deviation, its bumps `cell` pixels high and `cell_x` wide."""
    h, w = shape
    rows = max(2, min(h, math.ceil(h / max(cell, 1.0)) + 1))
    columns = max(2, min(w, math.ceil(w / max(cell if cell_x is None else cell_x, 1.0)) + 1))
    seeds = rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == (h, w):
        return seeds
    return cv2.resize(seeds, (w, h), interpolation=cv2.INTER_CUBIC)


def octaves(rng: Rng, shape: tuple[int, int], cell: float, steps: int = 4, keep: float = 0.55) -> Array:
    """Make cloud-like noise (H, W): `steps` fields, each half as coarse and `keep` times as strong as the one before."""
    total, weight, norm = field(rng, shape, cell), 1.0, 1.0
    for _ in range(steps - 1):
        cell /= 2
        weight *= keep
        if cell < 0.75:
            break
        total = total + np.float32(weight) * field(rng, shape, cell)
        norm += weight * weight
    return total / np.float32(math.sqrt(norm))


def plane(shape: tuple[int, int], angle: float = 0.0) -> tuple[Array, Array]:
    """Return coordinates x, y (H, W) in pixels from the picture's middle, turned by `angle` radians."""
    h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x -= (w - 1) / 2
    y -= (h - 1) / 2
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return c * x + s * y, c * y - s * x


def turned(rng: Rng, shape: tuple[int, int], cell: float, cell_x: float, angle: float) -> Array:
    """Make streaky noise (H, W) whose long direction lies at `angle` radians; cell, cell_x: see field."""
    h, w = shape
    side = math.ceil(math.hypot(h, w)) + 2
    streaks = field(rng, (side, side), cell, cell_x)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), math.degrees(angle), 1.0)
    turn[:, 2] -= np.array(((side - w) / 2, (side - h) / 2))
    return cv2.warpAffine(streaks, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def warped(rng: Rng, picture: Array, cell: float, reach: float) -> Array:
    """Displace the picture (H, W[, C]) at random by about `reach` pixels, smoothly over `cell` pixels."""
    h, w = picture.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x += np.float32(reach) * field(rng, (h, w), cell)
    y += np.float32(reach) * field(rng, (h, w), cell)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def cells(rng: Rng, shape: tuple[int, int], spacing: float, jitter: float = 1.0) -> tuple[Array, Array]:
    """Scatter points about `spacing` pixels apart; return the distance to the nearest in pixels (H, W) and its number int32 (H, W)."""
    h, w = shape
    rows, columns = max(1, round(h / spacing)), max(1, round(w / spacing))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    y = (y + 0.5 + jitter * (rng.random(y.shape, dtype=np.float32) - 0.5)) * (h / rows)
    x = (x + 0.5 + jitter * (rng.random(x.shape, dtype=np.float32) - 0.5)) * (w / columns)
    seeds = np.full((h, w), 255, np.uint8)
    seeds[np.clip(y, 0, h - 1).astype(int), np.clip(x, 0, w - 1).astype(int)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return distance, labels


def blurred(picture: Array, sigma: float) -> Array:
    """Blur with a Gaussian of `sigma` pixels; a broad one is applied to a smaller copy, which is many times as fast."""
    if sigma <= 4:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    h, w = picture.shape[:2]
    small = (max(1, round(w * 2.5 / sigma)), max(1, round(h * 2.5 / sigma)))
    coarse = cv2.GaussianBlur(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (0, 0), 2.4)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR)


def colour(rng: Rng, base: Sequence[float], spread: float = 0.06) -> Array:
    """Draw a colour (3,) near `base`: mostly lighter or darker, a little different in hue."""
    shift = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    return np.clip(np.asarray(base) + shift, 0.02, 0.98).astype(np.float32)


def any_colour(rng: Rng) -> Array:
    """Draw a colour (3,): gray, muted or in 15 % vivid."""
    value, saturation = rng.uniform(0.08, 0.95), rng.choice([0.0, 0.1, 0.35, 0.8], p=[0.35, 0.25, 0.25, 0.15])
    hue = rng.random(3)
    hue = hue / max(hue.max(), 1e-3)
    return (value * (1 - saturation + saturation * hue)).astype(np.float32)


def mix(a: Array, b: Array, alpha: Array) -> Array:
    """Blend b over a, both (H, W, 3) or (3,), with alpha (H, W) in [0, 1]."""
    return a + (b - a) * alpha[..., None]


def slopes(height: Array) -> tuple[Array, Array]:
    """Return the slopes of a height field (H, W) along x and y, in pixels per pixel."""
    height = height.astype(np.float32, copy=False)
    return cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)


def relief(height: Array, azimuth: float, strength: float = 1.0) -> Array:
    """Return the factor (H, W), around 1, by which a light from `azimuth` radians brightens a height field."""
    gx, gy = slopes(height)
    lean = -(gx * np.float32(math.cos(azimuth)) + gy * np.float32(math.sin(azimuth))) * np.float32(strength)
    return 1 + lean / np.sqrt(1 + lean * lean)


def to_uint8(picture: Array) -> Array:
    """Convert float RGB in [0, 1] to uint8 RGB."""
    return cv2.convertScaleAbs(np.clip(picture, 0, 1), alpha=255)
