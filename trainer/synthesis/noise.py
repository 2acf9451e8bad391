"""Random fields, colours and light, from which surfaces, parts and defects are made.

Fields are float32 (H, W); colours and pictures are float32 RGB in [0, 1]; heights are in pixels.

Args of all functions:
    rng: decides what is random.
    shape: (H, W) of a field, pixels.
    cell, cell_x: height and width of a field's bumps, pixels; cell_x defaults to cell.
    angle, azimuth: radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

Array = np.ndarray
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a number that is uniform in its logarithm.

    Args:
        rng: random numbers.
        low: above 0.
        high: above 0; where it is below `low`, `low` is returned.
    """
    return float(math.exp(rng.uniform(math.log(low), math.log(max(low, high)))))


def chance(rng: Rng, p: float) -> bool:
    """Return True with probability p."""
    return bool(rng.random() < p)


def field(rng: Rng, shape: tuple[int, int], cell: float, cell_x: float | None = None) -> Array:
    """Make smooth noise (H, W) of about zero mean and unit deviation."""
    h, w = shape
    rows = max(2, min(h, math.ceil(h / max(cell, 1.0)) + 1))
    columns = max(2, min(w, math.ceil(w / max(cell if cell_x is None else cell_x, 1.0)) + 1))
    seeds = rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == (h, w):
        return seeds
    return cv2.resize(seeds, (w, h), interpolation=cv2.INTER_CUBIC)


def octaves(rng: Rng, shape: tuple[int, int], cell: float, steps: int = 4, keep: float = 0.55) -> Array:
    """Make cloud-like noise (H, W), a sum of fields.

    Args (and those of all functions):
        steps: number of fields, each half as coarse as the one before; default 4.
        keep: strength of each beside the one before; default 0.55.
    """
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
    """Make streaky noise (H, W), a field turned by `angle`."""
    h, w = shape
    side = math.ceil(math.hypot(h, w)) + 2
    streaks = field(rng, (side, side), cell, cell_x)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), math.degrees(angle), 1.0)
    turn[:, 2] -= np.array(((side - w) / 2, (side - h) / 2))
    return cv2.warpAffine(streaks, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def warped(rng: Rng, picture: Array, cell: float, reach: float) -> Array:
    """Displace a picture at random and smoothly.

    Args (and those of all functions):
        picture: (H, W) or (H, W, C).
        reach: typical displacement, pixels.
    """
    h, w = picture.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x += np.float32(reach) * field(rng, (h, w), cell)
    y += np.float32(reach) * field(rng, (h, w), cell)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def cells(rng: Rng, shape: tuple[int, int], spacing: float, jitter: float = 1.0) -> tuple[Array, Array]:
    """Scatter points and return the distance to the nearest one in pixels (H, W) and its number int32 (H, W).

    Args (and those of all functions):
        spacing: between points, pixels.
        jitter: 0 for a regular grid to 1; default 1.
    """
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
    """Draw a colour (3,) near another one: mostly lighter or darker, a little different in hue.

    Args (and those of all functions):
        base: three numbers in [0, 1].
        spread: standard deviation of the lightness; default 0.06.
    """
    shift = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    return np.clip(np.asarray(base) + shift, 0.02, 0.98).astype(np.float32)


def any_colour(rng: Rng) -> Array:
    """Draw a colour (3,): gray, muted or in 15 % vivid."""
    value, saturation = rng.uniform(0.08, 0.95), rng.choice([0.0, 0.1, 0.35, 0.8], p=[0.35, 0.25, 0.25, 0.15])
    hue = rng.random(3)
    hue = hue / max(hue.max(), 1e-3)
    return (value * (1 - saturation + saturation * hue)).astype(np.float32)


def mix(a: Array, b: Array, alpha: Array) -> Array:
    """Blend b over a.

    Args:
        a, b: (H, W, 3) or (3,).
        alpha: (H, W) in [0, 1], the share of b.
    """
    return a + (b - a) * alpha[..., None]


def slopes(height: Array) -> tuple[Array, Array]:
    """Return the slopes of a height field (H, W) along x and y, in pixels per pixel."""
    height = height.astype(np.float32, copy=False)
    return cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)


def relief(height: Array, azimuth: float, strength: float = 1.0) -> Array:
    """Return the factor (H, W), around 1, by which a light from one side brightens a height field.

    Args:
        height: (H, W), pixels.
        azimuth: of the light, radians.
        strength: of the relief; default 1.
    """
    gx, gy = slopes(height)
    lean = -(gx * np.float32(math.cos(azimuth)) + gy * np.float32(math.sin(azimuth))) * np.float32(strength)
    return 1 + lean / np.sqrt(1 + lean * lean)


def to_uint8(picture: Array) -> Array:
    """Convert float RGB in [0, 1] to uint8 RGB."""
    return cv2.convertScaleAbs(np.clip(picture, 0, 1), alpha=255)
