"""Defect-free pictures: parts placed on backgrounds, boards, cells and surfaces, all under uneven light."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from trainer.synthesis.boards import BOARDS
from trainer.synthesis.materials import Materials
from trainer.synthesis.noise import (
    Array,
    Rng,
    any_colour,
    chance,
    colour,
    field,
    log_uniform,
    mix,
    octaves,
    plane,
    slopes,
    to_uint8,
)
from trainer.synthesis.parts import PARTS, Part
from trainer.synthesis.surfaces import SURFACES, surface


@dataclass(frozen=True, eq=False)
class Normal:
    """A defect-free picture.

    pixels: uint8 RGB (size, size, 3). foreground: bool (size, size), where the product lies. noun: what it is. parts: how
    many pieces it shows.
    """

    pixels: Array
    foreground: Array
    noun: str
    parts: int = 1


NOUNS: tuple[str, ...] = tuple(sorted({noun for _, nouns, _ in (*SURFACES, *PARTS, *BOARDS) for noun in nouns}))


def _background(rng: Rng, size: int, materials: Materials | None) -> Array:
    kind = rng.random()
    if kind < 0.3:
        value = rng.choice([rng.uniform(0.01, 0.15), rng.uniform(0.8, 1.0), rng.uniform(0.1, 0.9)])
        ground = np.ones((size, size, 3), np.float32) * colour(rng, [value] * 3, 0.02)
        ground += (rng.uniform(0.002, 0.02) * field(rng, (size, size), rng.uniform(1, 2)))[..., None]
    elif kind < 0.55:
        ground = np.ones((size, size, 3), np.float32) * any_colour(rng)
        ground *= (1 + rng.uniform(0.002, 0.06) * field(rng, (size, size), log_uniform(rng, 1, size / 4)))[..., None]
    elif kind < 0.75:
        ground = cv2.GaussianBlur(surface(rng, size, materials)[0], (0, 0), size * rng.uniform(0.005, 0.04))
    else:
        ground = surface(rng, size, materials)[0]
    ground = ground.astype(np.float32)
    if chance(rng, 0.15):
        ground = _with_rail(rng, ground)
    if chance(rng, 0.12):
        ground = _with_crumbs(rng, ground)
    return ground


def _with_rail(rng: Rng, ground: Array) -> Array:
    """Add a tray's rim, a belt's edge or a fixture along one side."""
    size = ground.shape[0]
    x, _ = plane((size, size), rng.choice([0, 1, 2, 3]) * math.pi / 2 + rng.normal(0, 0.05))
    start = size * rng.uniform(0.3, 0.49)
    alpha = np.clip(x - start + 0.5, 0, 1)
    rim = np.exp(-(((x - start) / rng.uniform(1, 6)) ** 2)) * rng.uniform(-0.4, 0.5)
    return mix(ground, any_colour(rng) * np.ones_like(ground), alpha) + rim[..., None].astype(np.float32)


def _with_crumbs(rng: Rng, ground: Array) -> Array:
    """Add dust and crumbs beside the product, which are not defects."""
    size = ground.shape[0]
    dots = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 25))):
        x, y = (int(v) for v in rng.integers(0, size, 2))
        cv2.circle(dots, (x, y), int(log_uniform(rng, 1, max(1.5, size / 100))), 255, -1, cv2.LINE_AA)
    return mix(ground, any_colour(rng), dots.astype(np.float32) * np.float32(rng.uniform(0.3, 0.9) / 255))


@dataclass(frozen=True, eq=False)
class _Light:
    """A lamp at `azimuth` radians and ambient light; glossy parts reflect `room` (32, 32). softness near 1: the lamp is low."""

    azimuth: float
    ambient: float
    softness: float
    room: Array


def _light(rng: Rng) -> _Light:
    room = np.clip(octaves(rng, (32, 32), rng.uniform(6, 16), 3) * rng.uniform(0.3, 1.2), -0.8, 1.5)
    return _Light(rng.uniform(0, 2 * math.pi), rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.8), room.astype(np.float32))


def _lit(part: Part, albedo: Array, height: Array, light: _Light) -> Array:
    azimuth, ambient, softness = light.azimuth, light.ambient, light.softness
    gx, gy = slopes(height)
    up = 1 / np.sqrt(gx * gx + gy * gy + 1)
    lx, ly, lz = math.cos(azimuth) * softness, math.sin(azimuth) * softness, math.sqrt(1 - softness * softness)
    facing = np.clip((lz - gx * lx - gy * ly) * up, 0, None) / lz
    norm = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    mirror = np.clip(((lz + 1) - gx * lx - gy * ly) * up / norm, 0, 1)
    glint = part.gloss * mirror ** (8 + 90 * part.gloss)
    flat_glint = part.gloss * ((lz + 1) / norm) ** (8 + 90 * part.gloss)
    shade = ambient + (1 - ambient) * np.minimum(facing, 1.6)
    if part.gloss > 0.25:
        mirrored = cv2.remap(
            light.room, 15.5 + 15 * gx * up, 15.5 + 15 * gy * up, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        shade = shade + (part.gloss - 0.25) * (mirrored - light.room[15, 15])
    return albedo * np.clip(shade, 0, None)[..., None] + np.clip(glint - flat_glint, -0.2, 0.8)[..., None]


def _place(canvas: Array, cover: Array, part: Part, centre: Array, side: float, turn: float, light: _Light) -> None:
    """Draw one part on the canvas (H, W, 3) and its coverage on `cover` (H, W), in place."""
    size, native = canvas.shape[0], part.alpha.shape[0]
    scale = side / native
    matrix = cv2.getRotationMatrix2D(((native - 1) / 2, (native - 1) / 2), math.degrees(turn), scale)
    reach = math.ceil(side * 0.75) + 2
    left, top = (max(0, math.floor(c - reach)) for c in centre)
    right, bottom = (min(size, math.ceil(c + reach)) for c in centre)
    if right <= left or bottom <= top:
        return
    matrix[:, 2] += np.asarray(centre) - (native - 1) / 2 - (left, top)
    area = (right - left, bottom - top)
    albedo = cv2.warpAffine(part.albedo.astype(np.float32), matrix, area, borderMode=cv2.BORDER_REPLICATE)
    height = cv2.warpAffine((part.height * scale).astype(np.float32), matrix, area, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(part.alpha.astype(np.float32), matrix, area)
    azimuth, ambient, softness = light.azimuth, light.ambient, light.softness
    lit = _lit(part, albedo, height, light)
    patch = canvas[top:bottom, left:right]
    reach_shadow = side * 0.06 * softness
    way = azimuth + math.pi
    move = np.array([[1, 0, math.cos(way) * reach_shadow], [0, 1, math.sin(way) * reach_shadow]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, move, area), (0, 0), max(0.8, side * 0.03))
    patch *= (1 - (1 - ambient) * 0.8 * shadow)[..., None]
    patch[:] = mix(patch, lit, alpha)
    cover[top:bottom, left:right] = np.maximum(cover[top:bottom, left:right], alpha)


def _still_life(rng: Rng, size: int, materials: Materials | None) -> tuple[Array, Array, str, int]:
    """Make 1 to 16 pieces of one product on a background."""
    weights = np.array([weight for _, _, weight in PARTS])
    make, nouns, _ = PARTS[rng.choice(len(PARTS), p=weights / weights.sum())]
    design, noun = int(rng.integers(2**31)), nouns[rng.integers(len(nouns))]
    canvas, cover = _background(rng, size, materials), np.zeros((size, size), np.float32)
    light = _light(rng)
    columns = int(rng.choice([1, 2, 3, 4], p=[0.72, 0.14, 0.09, 0.05]))
    rows = columns if chance(rng, 0.6) else max(1, columns - 1)
    pitch = size / max(columns, rows)
    upright = chance(rng, 0.45)
    base_turn = rng.choice([0, math.pi / 2, rng.uniform(0, 6.28)])
    near = [rng.uniform(0.45, 0.9), rng.uniform(0.85, 1.05), rng.uniform(1.05, 2.3)]
    fill = rng.uniform(0.55, 1.0) if columns > 1 else rng.choice(near, p=[0.48, 0.34, 0.18])
    jitter = (0.1 + 0.35 * max(0.0, fill - 1) if columns == 1 else rng.choice([0.02, 0.12])) * pitch
    side = max(8, round(min(pitch * fill, 1.4 * size)))
    grained = materials if materials is not None and chance(rng, 0.45) else None
    strength = rng.uniform(0.2, 1) if grained else 0.0
    for j in range(rows):
        for i in range(columns):
            part = make(np.random.default_rng(design), rng, side)
            if grained:
                grain = grained.grain(np.random.default_rng([design, 1]), rng, side)
                part = replace(part, albedo=np.clip(part.albedo * (1 + strength * (grain - 1)), 0, 1))
            turn = base_turn + rng.normal(0, 0.03) if upright else rng.uniform(0, 2 * math.pi)
            spot = (
                (np.array([i - (columns - 1) / 2, j - (rows - 1) / 2]) * pitch)
                + size / 2
                + rng.uniform(-jitter, jitter, 2)
            )
            _place(canvas, cover, part, spot, pitch * fill * rng.uniform(0.97, 1.03), turn, light)
    return canvas, cover > 0.5, noun, rows * columns


def _sheet(rng: Rng, size: int, materials: Materials | None) -> tuple[Array, Array, str, int]:
    """Make a surface that fills the picture; in 40 % its edges may show against a background."""
    picture, noun = surface(rng, size, materials)
    foreground = np.ones((size, size), bool)
    if chance(rng, 0.4):
        x, y = plane((size, size), rng.normal(0, 0.02 if chance(rng, 0.6) else 0.05))
        left, right, top, bottom = (size * (0.5 - _margin(rng)) for _ in range(4))
        wavy = rng.uniform(0, 1.5) * field(rng, (size, size), size / 8)
        across = np.maximum(-x - left, x - right)
        along = np.maximum(-y - top, y - bottom)
        distance = np.maximum(across, along)
        if chance(rng, 0.3):
            round_by = np.float32(size * rng.uniform(0.02, 0.15))
            corner = np.hypot(np.maximum(across + round_by, 0), np.maximum(along + round_by, 0)) - round_by
            distance = np.where((across > -round_by) & (along > -round_by), corner, distance)
        distance = (distance + wavy).astype(np.float32)
        alpha = np.clip(0.5 - distance, 0, 1)
        rim = np.exp(-np.clip(-distance, 0, None) / log_uniform(rng, 1, 0.06 * size)) * rng.uniform(-0.3, 0.3)
        beyond = rng.uniform(0, 0.12) * np.ones_like(picture) if chance(rng, 0.4) else _background(rng, size, materials)
        picture = mix(beyond, picture + rim[..., None], alpha)
        foreground = alpha > 0.5
    return picture, foreground, noun, 1


def _margin(rng: Rng) -> float:
    """Choose how far from the picture's border a sheet ends, as a fraction of its side; negative where it does not end."""
    return float(rng.choice([-0.3, log_uniform(rng, 0.004, 0.07), rng.uniform(0.01, 0.2)], p=[0.45, 0.37, 0.18]))


def _board(rng: Rng, size: int, materials: Materials | None) -> tuple[Array, Array, str, int]:
    weights = np.array([weight for _, _, weight in BOARDS])
    make, nouns, _ = BOARDS[rng.choice(len(BOARDS), p=weights / weights.sum())]
    picture, foreground = make(rng, size)
    return picture.astype(np.float32), foreground, nouns[rng.integers(len(nouns))], 1


def _uneven_light(rng: Rng, picture: Array) -> Array:
    """Apply uneven light that no inspector would call a defect: gradient, hot spot, soft shadow, vignette."""
    size = picture.shape[0]
    light = np.ones((size, size), np.float32)
    x, y = plane((size, size), rng.uniform(0, 2 * math.pi))
    x, y = x / size, y / size
    if chance(rng, 0.6):
        light += rng.uniform(0, 0.9) ** 2 * x
    if chance(rng, 0.3):
        sx, sy = rng.uniform(-0.6, 0.6, 2)
        light += rng.uniform(-0.35, 0.6) * np.exp(
            -((x - sx) ** 2 + ((y - sy) * rng.uniform(0.5, 1)) ** 2) / rng.uniform(0.03, 0.4)
        )
    if chance(rng, 0.12):
        light *= 1 - rng.uniform(0.1, 0.5) * np.clip((x - rng.uniform(-0.3, 0.4)) / rng.uniform(0.02, 0.3), 0, 1)
    if chance(rng, 0.2):
        light *= 1 - rng.uniform(0.1, 0.8) * (x * x + y * y)
    if chance(rng, 0.1):
        steep = rng.uniform(2, 8)  # the shading of something round, seen from the side
        light *= 1 - rng.uniform(0.2, 0.8) * np.clip(np.abs(2 * x + rng.uniform(-0.2, 0.2)), 0, 1) ** steep
    if chance(rng, 0.1):
        burnt_x, burnt_y = rng.choice([-0.5, 0.5, rng.uniform(-0.5, 0.5)], 2)  # too bright: mostly a corner or a side
        away = np.hypot(x - burnt_x, (y - burnt_y) * rng.uniform(0.4, 1)) / rng.uniform(0.05, 0.35)
        light += rng.uniform(0.4, 3) * np.exp(-(away ** rng.uniform(1, 3)))
    return picture * light[..., None]


def normal(rng: Rng, size: int, materials: Materials | None = None) -> Normal:
    """Make one defect-free picture of a random product.

    Args:
        rng: decides everything.
        size: side in pixels, at least 8.
        materials: photographed ones for some surfaces and parts; default none, everything is procedural.
    """
    make = (_sheet, _still_life, _board)[rng.choice(3, p=[0.45, 0.43, 0.12])]
    picture, foreground, noun, count = make(rng, size, materials)
    if not foreground.any():
        foreground = np.ones((size, size), bool)
    return Normal(to_uint8(_uneven_light(rng, picture)), foreground, noun, count)


def product(design: int, own: Rng, size: int) -> Normal:
    """Make one picture of a product as a line takes it: design, background and lamp are always those of that product.

    Args:
        design: which product.
        own: decides what differs from picture to picture: the piece, where it lies, how bright the lamp is.
        size: side in pixels, at least 8.
    """
    shared = np.random.default_rng([design, 0])
    make, nouns, _ = PARTS[shared.integers(len(PARTS))]
    canvas, cover = _background(shared, size, None), np.zeros((size, size), np.float32)
    light, fill = _light(shared), size * shared.uniform(0.7, 0.85)
    part = make(np.random.default_rng([design, 1]), own, round(fill))
    spot = size / 2 + own.uniform(-0.015, 0.015, 2) * size
    _place(canvas, cover, part, spot, fill, own.normal(0, 0.02), light)
    lamp = np.float32(own.normal(1, 0.02))
    grain = own.standard_normal((size, size, 1), dtype=np.float32) * np.float32(0.008)
    return Normal(to_uint8(canvas * lamp + grain), cover > 0.5, nouns[0])
