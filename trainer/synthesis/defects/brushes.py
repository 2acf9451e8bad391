"""What several kinds of defect are painted with: colours, blending, closed shapes, the inside of a product."""

from __future__ import annotations

import cv2
import numpy as np

from trainer.synthesis.defects import coverage
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, log_uniform, octaves


def over(patch: Array, paint: Array, alpha: Array) -> Array:
    """Blend paint over a patch.

    Args:
        patch: (h, w, 3), gray levels.
        paint: (h, w, 3) or (3,), gray levels.
        alpha: (h, w) in [0, 1], the share of paint.
    """
    return patch + (paint - patch) * alpha[..., None]


def mean_colour(site: Site, alpha: Array) -> Array:
    """Return the patch's mean colour (3,) where alpha is above 0.3."""
    return np.array(cv2.mean(site.patch, (alpha > 0.3).astype(np.uint8))[:3], np.float32)


def shade_sign(rng: Rng, mean: Array, contrast: float, dark: float = 0.6) -> float:
    """Choose darker (-1) or brighter (+1).

    Args:
        rng: decides where there is room for both.
        mean: colour (3,) that is changed, in gray levels.
        contrast: size of the change in gray levels.
        dark: probability of darker where there is room for both; default 0.6.
    """
    level = float(np.mean(mean))
    if level < 0.7 * contrast:
        return 1.0
    if level > 255 - 0.7 * contrast:
        return -1.0
    return -1.0 if chance(rng, dark) else 1.0


def colour_shift(rng: Rng, p: float = 0.3) -> Array:
    """Return the relative strength (3,) of a shift in R, G, B: the same for all, or with probability p coloured."""
    if not chance(rng, p):
        return np.ones(3, np.float32)
    hue = rng.uniform(-0.6, 1, 3)
    return (hue / max(np.abs(hue).max(), 1e-3)).astype(np.float32)


def edge_blur(rng: Rng) -> float:
    """Return the sigma in pixels by which the edge of a defect is blurred."""
    return log_uniform(rng, 0.35, 1.1)


def tinted(rng: Rng, site: Site, alpha: Array, tone: Array) -> Array:
    """Return the patch with a covering of another colour, either transparent or opaque with a grain of its own.

    Args:
        rng: chooses between the two, and the grain.
        site: its patch is covered.
        alpha: (h, w) in [0, 1], the covering.
        tone: its colour (3,), in gray levels.
    """
    if chance(rng, 0.45):
        return site.patch + (tone - mean_colour(site, alpha)) * alpha[..., None]
    keep = rng.uniform(0, 0.5)
    own = tone + keep * (site.patch - mean_colour(site, alpha))
    grain = (1 - keep) * min(site.noise, 12.0) * field(rng, site.shape, rng.uniform(1, 2))
    return over(site.patch, own + grain[..., None], alpha)


def closed_shape(rng: Rng, site: Site) -> Array:
    """Return the coverage of a closed shape with a sharp or faded edge."""
    draw = rng.random()
    if draw < 0.45:
        alpha = coverage.blob(rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.9), edge_blur(rng) + 0.4)
    elif draw < 0.75:
        alpha = coverage.chunk(rng, site.shape, site.centre, site.extent)
    else:
        alpha = coverage.box(rng, site.shape, site.centre, site.extent)
    blur = edge_blur(rng) if chance(rng, 0.7) else max(0.6, site.extent * rng.uniform(0.02, 0.1))
    return blurred(alpha, blur)


def beneath(rng: Rng, site: Site) -> tuple[Array, bool]:
    """Return what shows where product is gone (a near background, or a dark or pale inside), and whether it lies deeper."""
    if site.ground.min() < 0.5 and chance(rng, 0.8):
        behind = (1 - site.ground)[..., None]
        blur = max(1.0, site.extent * 0.3)
        total = blurred(1 - site.ground, blur)
        mean = (site.patch * behind).sum((0, 1)) / max(float(behind.sum()), 1e-3)
        filled = (blurred(site.patch * behind, blur) + 0.02 * mean) / (total + 0.02)[..., None]
        grain = min(site.noise, 6.0) * field(rng, site.shape, 1.2)
        return filled + grain[..., None], chance(rng, 0.3)
    mean = site.patch.mean((0, 1))
    sign = shade_sign(rng, mean, site.contrast, 0.75)
    rough = octaves(rng, site.shape, max(3.0, site.extent / 5), 3) * site.contrast * rng.uniform(0.02, 0.25)
    tone = mean + sign * site.contrast * colour_shift(rng, 0.2)
    return tone + rough[..., None] + (site.patch - mean) * rng.uniform(0, 0.4), True
