"""Defects of a surface's colour or texture: contamination, stains, spots, discolouration, wear, smears. See Painter."""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.defects import coverage
from trainer.synthesis.defects.brushes import (
    closed_shape,
    colour_shift,
    edge_blur,
    mean_colour,
    over,
    shade_sign,
    tinted,
)
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, log_uniform, relief, turned


def contamination(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a lump, drop, crumb or spilt paint of another colour, flat or raised."""
    if chance(rng, 0.3):
        alpha = blurred(coverage.chunk(rng, site.shape, site.centre, site.extent), edge_blur(rng))
    else:
        alpha = coverage.blob(
            rng, site.shape, site.centre, site.extent, rng.uniform(0, 1), edge_blur(rng) + rng.choice([0.3, 2.0])
        )
    mean = mean_colour(site, alpha)
    if chance(rng, 0.25):
        tone = rng.uniform(0, 255, 3).astype(np.float32)
        changed = over(site.patch, tone, alpha * rng.uniform(0.5, 1))
    else:
        changed = tinted(
            rng, site, alpha, mean + shade_sign(rng, mean, site.contrast) * site.contrast * colour_shift(rng, 0.4)
        )
    if chance(rng, 0.5):
        height = blurred(alpha, max(0.7, site.extent * 0.08)) * site.extent * rng.uniform(0.02, 0.25)
        changed = changed * (1 + (relief(height, rng.uniform(0, 6.28), 0.8) - 1) * alpha)[..., None]
    return changed, alpha


def stain(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a dried fluid: soft, low in contrast and broad, sometimes with a darker rim; the texture shows through."""
    if chance(rng, 0.5):
        alpha = coverage.haze(rng, site.shape, site.centre, site.extent * 1.15)
    else:
        alpha = coverage.blob(
            rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.8), site.extent * rng.uniform(0.03, 0.4)
        )
        if chance(rng, 0.35):
            inner = blurred(alpha, max(1.0, site.extent * 0.05))
            alpha = alpha * (1 - rng.uniform(0.3, 0.8) * inner**3)
    strength = min(site.contrast, 70.0)
    sign = shade_sign(rng, mean_colour(site, alpha), strength, 0.65)
    shift = strength * colour_shift(rng, 0.45)
    if chance(rng, 0.5):
        factor = 1 + sign * alpha[..., None] * shift / np.maximum(mean_colour(site, alpha), 25)
        return site.patch * np.clip(factor, 0.1, 3), alpha
    return site.patch + sign * alpha[..., None] * shift, alpha


def spots(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint spatters of another colour."""
    alpha = blurred(coverage.spatter(rng, site.shape, site.centre, site.extent), edge_blur(rng))
    mean = mean_colour(site, alpha)
    return tinted(
        rng, site, alpha, mean + shade_sign(rng, mean, site.contrast) * site.contrast * colour_shift(rng)
    ), alpha


def discolouration(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Change hue, saturation or contrast of the texture: burnt, faded, bleached, oxidised."""
    alpha = blurred(closed_shape(rng, site), max(0.6, site.extent * rng.uniform(0.01, 0.12)))
    mean = mean_colour(site, alpha)
    gain = np.float32(log_uniform(rng, 0.4, 1.8))
    shift = shade_sign(rng, mean, site.contrast) * site.contrast * colour_shift(rng, 0.6)
    return over(site.patch, mean + (site.patch - mean) * gain + shift, alpha), alpha


def wear(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a rubbed, frayed or rough area: broken-up texture, in flecks or streaks."""
    area = coverage.blob(rng, site.shape, site.centre, site.extent, 0.8, site.extent * rng.uniform(0.05, 0.3))
    cell = log_uniform(rng, 1, max(1.5, site.extent / 8))
    long = cell * log_uniform(rng, 1, 8)
    grain = (
        turned(rng, site.shape, cell, long, rng.uniform(0, math.pi))
        if chance(rng, 0.5)
        else field(rng, site.shape, cell)
    )
    flecks = np.clip(grain * 1.5 + rng.uniform(-0.8, 0.8), 0, 1)
    sign = shade_sign(rng, mean_colour(site, area), site.contrast, 0.45)
    changed = site.patch + (sign * site.contrast * area * flecks)[..., None] * colour_shift(rng, 0.15)
    if chance(rng, 0.4):
        soft = blurred(site.patch, rng.uniform(1, 3))
        changed = changed + (soft - site.patch) * (area * rng.uniform(0.3, 1))[..., None]
    return changed, area


def smear(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Wipe or blur: smear the texture along one direction."""
    alpha = closed_shape(rng, site)
    span = int(np.clip(site.extent * rng.uniform(0.1, 0.5), 3, 41))
    kernel = np.zeros((span, span), np.float32)
    way = rng.uniform(0, math.pi)
    half = (span - 1) / 2
    ends = [(round(half + s * half * math.cos(way)), round(half + s * half * math.sin(way))) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, max(1, span // 8))
    drawn = cv2.filter2D(site.patch, -1, kernel / kernel.sum())
    if chance(rng, 0.6):
        streak = cv2.filter2D(field(rng, site.shape, 1.5), -1, kernel / kernel.sum())
        drawn = drawn + (streak * site.contrast * rng.uniform(0.3, 1.5))[..., None] * colour_shift(rng, 0.2)
    if chance(rng, 0.5):
        drawn = drawn + shade_sign(rng, mean_colour(site, alpha), site.contrast) * site.contrast * rng.uniform(0.2, 0.8)
    return over(site.patch, drawn, alpha), alpha
