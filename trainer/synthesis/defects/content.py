"""Defects of content: something foreign, missing, misplaced or misprinted. See Painter."""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.defects import coverage
from trainer.synthesis.defects.brushes import closed_shape, colour_shift, edge_blur, mean_colour, over, shade_sign
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, log_uniform, relief


def patchwork(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paste a piece of this or another picture, sometimes matched in brightness or partly transparent."""
    piece = _elsewhere(rng, site, site.donor if chance(rng, 0.5) else site.pixels, chance(rng, 0.7))
    alpha = closed_shape(rng, site)
    if chance(rng, 0.5):
        inside = (alpha > 0.3).astype(np.uint8)
        shift = np.asarray(cv2.mean(site.patch, inside)[:3]) - np.asarray(cv2.mean(piece, inside)[:3])
        offset = shade_sign(rng, mean_colour(site, alpha), site.contrast) * site.contrast * rng.uniform(0, 0.7)
        piece = piece + shift.astype(np.float32) + np.float32(offset)
    return over(site.patch, piece, alpha * (1 if chance(rng, 0.7) else rng.uniform(0.4, 0.9))), alpha


def _elsewhere(rng: Rng, site: Site, source: Array, turn: bool) -> Array:
    """Return a piece (h, w, 3) of the source from anywhere, with `turn` turned and scaled."""
    h, w = site.shape
    scale = log_uniform(rng, 0.6, 1.7) if turn else 1.0
    angle = rng.choice([0, 90, 180, 270, rng.uniform(0, 360)]) if turn else 0.0
    at = (rng.uniform(0.2, 0.8) * source.shape[1], rng.uniform(0.2, 0.8) * source.shape[0])
    matrix = cv2.getRotationMatrix2D(at, angle, scale)
    matrix[:, 2] += (w / 2 - at[0], h / 2 - at[1])
    return cv2.warpAffine(source, matrix, (w, h), borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)


def misprint(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Print ink where none belongs: doubled marks, letters or bars."""
    draw = rng.random()
    if draw < 0.35:
        dx, dy = (int(v) for v in np.round(rng.normal(0, max(1.5, site.extent * 0.08), 2)))
        moved = np.roll(site.patch, (dy, dx), (0, 1))
        alpha = closed_shape(rng, site)
        return over(site.patch, np.minimum(site.patch, moved) if chance(rng, 0.7) else moved, alpha), alpha
    canvas = np.zeros(site.shape, np.uint8)
    if draw < 0.7:
        word = "".join(chr(rng.integers(48, 91)) for _ in range(int(rng.integers(1, 5))))
        scale = site.extent / 20 / max(1, len(word)) ** 0.8
        at = (round(site.centre[0] - site.extent * 0.45), round(site.centre[1] + site.extent * 0.15))
        cv2.putText(canvas, word, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, max(1, round(scale * 2)), cv2.LINE_AA)
    else:
        angle, gap = rng.uniform(0, math.pi), rng.uniform(2.5, 7)
        for k in range(-4, 5):
            mid = np.asarray(site.centre) + k * gap * np.array([-math.sin(angle), math.cos(angle)])
            along = site.extent / 2 * np.array([math.cos(angle), math.sin(angle)]) * rng.uniform(0.7, 1)
            cv2.line(
                canvas,
                np.round(mid - along).astype(int).tolist(),
                np.round(mid + along).astype(int).tolist(),
                255,
                1,
                cv2.LINE_AA,
            )
    alpha = blurred(canvas.astype(np.float32) / 255, edge_blur(rng))
    mean = site.patch.mean((0, 1))
    return site.patch + (shade_sign(rng, mean, site.contrast) * site.contrast * alpha)[..., None] * colour_shift(
        rng
    ), alpha


def extra(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Paint a foreign object lying there: a washer, ball, rod or chip, shaded and with a shadow."""
    draw = rng.random()
    if draw < 0.4:
        alpha = coverage.blob(rng, site.shape, site.centre, site.extent, 0, 0.8)
        if chance(rng, 0.5):
            alpha = (
                alpha - coverage.blob(rng, site.shape, site.centre, site.extent * rng.uniform(0.3, 0.7), 0, 0.8) * alpha
            )
    elif draw < 0.7:
        alpha = coverage.box(rng, site.shape, site.centre, site.extent)
    else:
        alpha = coverage.chunk(rng, site.shape, site.centre, site.extent)
    alpha = blurred(alpha, edge_blur(rng))
    mean = mean_colour(site, alpha)
    azimuth = rng.uniform(0, 6.28)
    height = blurred(alpha, max(0.8, site.extent * rng.uniform(0.03, 0.15))) * site.extent * rng.uniform(0.05, 0.3)
    tone = mean + shade_sign(rng, mean, site.contrast, 0.5) * site.contrast * colour_shift(rng, 0.4)
    body = tone * relief(height, azimuth, 0.8)[..., None] + (2 * field(rng, site.shape, 1.2))[..., None]
    away = max(1, round(site.extent * 0.05))
    shadow = np.roll(alpha, (-round(away * math.sin(azimuth)), -round(away * math.cos(azimuth))), (0, 1))
    shadow = blurred(shadow, max(0.8, away * 0.7)) * rng.uniform(0, 0.6)
    changed = site.patch * (1 - shadow)[..., None]
    return over(changed, body, alpha), np.maximum(alpha, np.clip(shadow * 2, 0, 1))


def absent(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Remove something that should be there: fill its place from what surrounds it."""
    alpha = closed_shape(rng, site)
    blur = max(1.5, site.extent * 0.35)
    around = np.clip(1 - cv2.dilate(alpha, np.ones((3, 3), np.uint8)) * 1.5, 0, 1)
    total = blurred(around, blur)
    mean = (site.patch * around[..., None]).sum((0, 1)) / max(float(around.sum()), 1e-3)
    fill = (blurred(site.patch * around[..., None], blur) + 0.02 * mean) / (total + 0.02)[..., None]
    grain = min(site.noise, 8.0) * field(rng, site.shape, 1)
    return over(site.patch, fill + grain[..., None], alpha), alpha


def misplaced(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Turn or shift what is there."""
    alpha = closed_shape(rng, site)
    draw = rng.random()
    if draw < 0.5:
        angle = rng.choice([90, 180, -90, rng.uniform(15, 165)])
        matrix = cv2.getRotationMatrix2D(site.centre, angle, 1.0)
    else:
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        matrix[:, 2] = (
            rng.uniform(0.1, 0.4) * site.extent * np.array([math.cos(a := rng.uniform(0, 6.28)), math.sin(a)])
        )
    moved = cv2.warpAffine(site.patch, matrix, site.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
    return over(site.patch, moved, alpha), alpha
