"""Defects of form: holes, dents, deformations, missing pieces, chipped edges. See Painter."""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.defects import coverage
from trainer.synthesis.defects.brushes import beneath, colour_shift, edge_blur, mean_colour, over, shade_sign
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, octaves, relief


def hole(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a pit, pore or blowhole: dark inside, one side lit, the other in shade."""
    alpha = coverage.blob(rng, site.shape, site.centre, site.extent, rng.choice([0.0, 0.3, 0.7]), edge_blur(rng) + 0.5)
    mean = mean_colour(site, alpha)
    tone = mean + shade_sign(rng, mean, site.contrast, 0.88) * site.contrast
    changed = over(site.patch, tone + rng.uniform(0, 0.3) * (site.patch - mean), alpha)
    depth = blurred(alpha, max(0.7, site.extent * rng.uniform(0.02, 0.08)))
    lit = relief(-depth * site.extent * rng.uniform(0.02, 0.2), rng.uniform(0, 6.28), rng.uniform(0.3, 1.2))
    return changed * (1 + (lit - 1) * np.clip(depth * 2, 0, 1))[..., None], np.maximum(
        alpha, np.clip(depth * 1.3, 0, 1)
    )


def dent(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a shallow dip or bump: no colour of its own, only light and shade, and sometimes a slight bend of the texture."""
    alpha = coverage.blob(
        rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.5), site.extent * rng.uniform(0.15, 0.5)
    )
    height = blurred(alpha, max(0.8, site.extent * rng.uniform(0.03, 0.12)))
    shade = relief(height * site.extent, rng.uniform(0, 6.28), rng.uniform(0.2, 1.0)) - 1
    shade = shade * np.float32(1.3 / max(float(np.abs(shade).max()), 1e-3))
    level = np.clip(site.patch, 40, 200) / max(float(np.clip(mean_colour(site, alpha), 40, 200).mean()), 1.0)
    changed, contrast = site.patch, min(site.contrast, 80.0)
    if chance(rng, 0.5):
        changed = _pushed(site, height, rng.uniform(-0.12, 0.12) * site.extent)
    return changed + contrast * shade[..., None] * level, np.clip(height * 1.5 + np.abs(shade), 0, 1)


def _pushed(site: Site, height: Array, reach: float) -> Array:
    """Return the patch pushed away from the centre by up to about `reach` pixels, in proportion to height (h, w)."""
    y, x = np.mgrid[0 : site.shape[0], 0 : site.shape[1]].astype(np.float32)
    aside_x, aside_y = (x - site.centre[0]) / site.extent, (y - site.centre[1]) / site.extent
    move = np.float32(reach * 2) * height
    x, y = (x + aside_x * move).astype(np.float32), (y + aside_y * move).astype(np.float32)
    return cv2.remap(site.patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def warp(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Bulge, pinch, swirl, shift or buckle the texture."""
    alpha = coverage.blob(rng, site.shape, site.centre, site.extent, 0, site.extent * 0.4)
    reach = site.extent * rng.uniform(0.15, 0.5)
    draw = rng.random()
    y, x = np.mgrid[0 : site.shape[0], 0 : site.shape[1]].astype(np.float32)
    dx, dy = x - np.float32(site.centre[0]), y - np.float32(site.centre[1])
    if draw < 0.35:
        move = alpha * rng.uniform(-0.7, 0.6)
        mx, my = dx * move, dy * move
    elif draw < 0.6:
        turn = alpha * rng.choice([-1, 1]) * rng.uniform(0.5, 2.0)
        mx, my = dx * np.cos(turn) - dy * np.sin(turn) - dx, dx * np.sin(turn) + dy * np.cos(turn) - dy
    elif draw < 0.8:
        way = rng.uniform(0, 6.28)
        mx, my = alpha * reach * math.cos(way), alpha * reach * math.sin(way)
    else:
        cell = max(site.extent / rng.uniform(2, 5), 2)
        mx, my = (alpha * reach * 0.35 * field(rng, site.shape, cell) for _ in range(2))
    x, y = (x + mx).astype(np.float32), (y + my).astype(np.float32)
    moved = cv2.remap(site.patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if chance(rng, 0.35):
        moved = moved * (1 + (relief(alpha * site.extent, rng.uniform(0, 6.28), 0.3) - 1) * alpha)[..., None]
    return moved, np.clip(alpha * 3, 0, 1)


def missing(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Take a piece out of the product: background or a rough inside shows."""
    cover = (coverage.blob if chance(rng, 0.6) else _angular)(
        rng, site.shape, site.centre, site.extent, rng.uniform(0.2, 1.0), 1.0
    )
    alpha = cover * site.ground
    under, deep = beneath(rng, site)
    changed = over(site.patch, under, alpha)
    if deep:
        depth = blurred(alpha, max(0.8, site.extent * 0.02))
        changed = (
            changed
            * (1 + (relief(-depth * rng.uniform(0.5, 4), rng.uniform(0, 6.28), 0.7) - 1) * np.clip(depth * 2, 0, 1))[
                ..., None
            ]
        )
    return changed, alpha


def _angular(
    rng: Rng, shape: tuple[int, int], centre: tuple[float, float], extent: float, ragged: float, soft: float
) -> Array:
    return blurred(coverage.chunk(rng, shape, centre, extent), 0.3 + 0.4 * soft)


def chip(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Chip an edge: facets of bare material, lighter or darker than the surface."""
    alpha = blurred(coverage.chunk(rng, site.shape, site.centre, site.extent), edge_blur(rng))
    alpha = alpha * site.ground
    mean = mean_colour(site, alpha)
    sign = shade_sign(rng, mean, site.contrast, 0.35)
    facets = relief(
        octaves(rng, site.shape, max(3.0, site.extent / 3), 3) * site.extent * 0.07, rng.uniform(0, 6.28), 0.6
    )
    tone = (mean + sign * site.contrast * 0.8 * colour_shift(rng, 0.15)) * facets[..., None]
    return over(site.patch, tone + rng.uniform(0, 0.3) * (site.patch - mean), alpha), alpha
