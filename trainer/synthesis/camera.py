"""A camera model for any picture, good or defective: blur, noise, exposure, colour, compression. It makes no defects."""

from __future__ import annotations

import cv2
import numpy as np

from trainer.synthesis.noise import Array, Rng, chance


def camera(rng: Rng, pixels: Array) -> Array:
    """Return the picture, uint8 RGB (H, W, 3), as some camera might have taken it: same shape, nothing moved."""
    h, w = pixels.shape[:2]
    if chance(rng, 0.3):
        pixels = cv2.merge([cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)] * 3)
    if chance(rng, 0.15) and min(h, w) >= 16:
        small = (max(8, int(w * (scale := rng.uniform(0.45, 0.9)))), max(8, int(h * scale)))
        pixels = cv2.resize(
            cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), (w, h), interpolation=cv2.INTER_LINEAR
        )
    if chance(rng, 0.3):
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.1) * max(1.0, min(h, w) / 256))
    elif chance(rng, 0.15):
        soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
        amount = rng.uniform(0.2, 1.0)
        pixels = cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0)
    pixels = _toned(rng, pixels)
    if chance(rng, 0.15):
        pixels = _vignetted(rng, pixels)
    if chance(rng, 0.5):
        pixels = _noisy(rng, pixels)
    if chance(rng, 0.3):
        pixels = _compressed(rng, pixels)
    return pixels


def _toned(rng: Rng, pixels: Array) -> Array:
    """Apply exposure, gamma and contrast to all channels and a white balance to each, in one table."""
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    gamma, gain, lift = np.exp(rng.normal(0, 0.22)), np.exp(rng.normal(0, 0.13)), rng.normal(0, 0.025)
    balance = np.exp(rng.normal(0, 0.05, 3)) if chance(rng, 0.4) else np.ones(3)
    table = (levels**gamma * gain + lift)[:, None] * balance
    return cv2.LUT(pixels, np.clip(table * 255 + 0.5, 0, 255).astype(np.uint8)[None])


def _vignetted(rng: Rng, pixels: Array) -> Array:
    h, w = pixels.shape[:2]
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)[None]
    fall = 1 - np.float32(rng.uniform(0.05, 0.35)) * (x * x + y * y) / 2
    return cv2.multiply(pixels, cv2.merge([fall] * 3), dtype=cv2.CV_8U)


def _noisy(rng: Rng, pixels: Array) -> Array:
    """Add sensor noise, mostly in brightness, sometimes in colour; one field of noise serves all channels, shifted."""
    h, w = pixels.shape[:2]
    sigma = 1 + abs(rng.normal(0, 3.5))
    grain = rng.standard_normal((h, w), dtype=np.float32) * np.float32(sigma)
    if chance(rng, 0.3):
        noise = cv2.merge([grain, np.roll(grain, (7, 11), (0, 1)), np.roll(grain, (13, 3), (0, 1))])
    else:
        noise = cv2.merge([grain] * 3)
    return cv2.add(pixels, noise, dtype=cv2.CV_8U)


def _compressed(rng: Rng, pixels: Array) -> Array:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
