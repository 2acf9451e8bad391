"""Defects made of lines: scratches, cracks, breaks, streaks, threads. See Painter."""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.defects import coverage
from trainer.synthesis.defects.brushes import beneath, colour_shift, edge_blur, mean_colour, over, shade_sign
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, log_uniform, octaves, relief


def scratch(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint thin scratches, brighter or darker; wide ones may have relief."""
    width = log_uniform(rng, 0.6, max(1.0, site.extent * 0.05))
    alpha = blurred(coverage.scratches(rng, site.shape, site.centre, site.extent, width), edge_blur(rng))
    mean = mean_colour(site, alpha)
    sign = shade_sign(rng, mean, site.contrast, 0.4)
    changed = site.patch + (sign * site.contrast * alpha)[..., None] * colour_shift(rng, 0.15)
    if width > 1.5 and chance(rng, 0.6):
        changed = changed * relief(alpha * width * rng.uniform(-1, 1), rng.uniform(0, 6.28), 1.2)[..., None]
    return changed, alpha


def crack(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a crack, mostly dark, sometimes with a bright rim."""
    width = log_uniform(rng, 0.6, max(1.0, site.extent * 0.05))
    alpha = coverage.crack(rng, site.shape, site.centre, site.extent, width)
    alpha = blurred(alpha, edge_blur(rng) * 0.8)
    sign = -1.0 if float(mean_colour(site, alpha).mean()) > 0.6 * site.contrast else 1.0
    changed = site.patch + (sign * site.contrast * alpha)[..., None]
    if chance(rng, 0.4):
        rim = np.roll(alpha, (int(rng.integers(-2, 3)), int(rng.choice([-1, 1]))), (0, 1)) * (1 - alpha)
        changed = changed + (rng.uniform(0.1, 0.5) * site.contrast * rim)[..., None]
        alpha = np.maximum(alpha, rim)
    return changed, alpha


def broken(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a wide gap with crumbling sides that shows what lies beneath; its edges may have relief."""
    alpha = coverage.crack(
        rng, site.shape, site.centre, site.extent, log_uniform(rng, 1.5, max(2.0, site.extent * 0.16))
    )
    rough = blurred(alpha, max(0.6, site.extent * 0.02)) + 0.12 * octaves(rng, site.shape, max(3.0, site.extent / 8), 3)
    gap = np.clip((rough - 0.35) * 6, 0, 1) * (cv2.dilate(alpha, np.ones((5, 5))) > 0.05)
    under, deep = beneath(rng, site)
    changed = over(site.patch, under, gap)
    if deep:
        changed = changed * relief(-gap * rng.uniform(0.5, 3), rng.uniform(0, 6.28), 0.8)[..., None]
    return changed, gap


def streak(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a soft or sharp line, even or dashed, as rollers, fingers and nozzles leave it."""
    angle = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.02) if chance(rng, 0.75) else rng.uniform(0, math.pi)
    y, x = np.mgrid[0 : site.shape[0], 0 : site.shape[1]].astype(np.float32)
    x, y = x - np.float32(site.centre[0]), y - np.float32(site.centre[1])
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    width = log_uniform(rng, 0.8, max(1.2, site.extent * 0.09))
    edge = rng.choice([2, 2, 6])
    alpha = np.exp(-((np.abs(across) / width) ** edge)) * np.clip(
        (site.extent / 2 - np.abs(along)) / max(1.0, site.extent * rng.uniform(0.02, 0.3)), 0, 1
    )
    if chance(rng, 0.4):
        dashes = cv2.resize(
            rng.standard_normal((1, int(rng.integers(4, 14))), dtype=np.float32),
            (256, 1),
            interpolation=cv2.INTER_CUBIC,
        )[0]
        place = np.clip((along / site.extent + 0.5) * 255, 0, 255).astype(int)
        alpha = alpha * np.clip(0.6 + rng.uniform(0.5, 1.5) * dashes, 0, 1)[place]
    alpha = alpha.astype(np.float32)
    strength = min(site.contrast, 110.0)
    sign = shade_sign(rng, mean_colour(site, alpha), strength, 0.55)
    shift = sign * strength * alpha
    if chance(rng, 0.3):
        shift = shift * (0.6 + 0.4 * field(rng, site.shape, 1.5))
    return site.patch + shift[..., None] * colour_shift(rng, 0.15), alpha


def thread(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a hair, fibre or loose thread lying on top, sometimes with its shadow."""
    width = log_uniform(rng, 0.6, max(1.0, min(site.extent * 0.05, 5.0)))
    line = coverage.hair(rng, site.shape, site.centre, site.extent, width)
    alpha = blurred(line, edge_blur(rng) * 0.8)
    mean = mean_colour(site, alpha)
    changed = site.patch
    cover = alpha
    if chance(rng, 0.4):
        shadow = blurred(np.roll(line, (2, 1), (0, 1)), 1.2) * rng.uniform(0.1, 0.4)
        changed = changed * (1 - shadow)[..., None]
        cover = np.maximum(alpha, np.clip(shadow * 2, 0, 1))
    tone = mean + shade_sign(rng, mean, site.contrast, 0.5) * site.contrast * colour_shift(rng, 0.4)
    return over(changed, tone, alpha), cover
