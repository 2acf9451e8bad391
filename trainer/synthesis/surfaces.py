"""Flat products that fill the picture: metals, cloths, wood, stone, prints, grids. See Surface."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from trainer.synthesis.materials import Materials
from trainer.synthesis.noise import (
    Array,
    Rng,
    any_colour,
    cells,
    chance,
    colour,
    field,
    log_uniform,
    mix,
    octaves,
    plane,
    relief,
    turned,
    warped,
)

Surface = Callable[[Rng, int], Array]
"""Makes one surface: (rng, side in pixels) to RGB (size, size, 3), about [0, 1]."""


def _gray(values: Array, tint: Array | float = 1.0) -> Array:
    return values[..., None] * (np.ones(3, np.float32) * tint)


def _steel_tint(rng: Rng) -> Array:
    return np.float32(1) + rng.normal(0, 0.02, 3).astype(np.float32) * (2 if chance(rng, 0.3) else 1)


def brushed_metal(rng: Rng, size: int) -> Array:
    """Make fine parallel lines, often crossed by soft bands of light."""
    angle = rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)])
    lines = turned(rng, (size, size), rng.uniform(0.8, 1.6), rng.uniform(20, size + 20), angle)
    coarse = turned(rng, (size, size), rng.uniform(3, 8), size, angle)
    base = rng.uniform(0.3, 0.8)
    value = base + rng.uniform(0.015, 0.07) * lines + rng.uniform(0, 0.03) * coarse
    x, _ = plane((size, size), angle)
    if chance(rng, 0.5):
        value += rng.uniform(0.03, 0.2) * np.exp(
            -(((x - rng.uniform(-0.5, 0.5) * size) / (size * rng.uniform(0.1, 0.5))) ** 2)
        )
    return _gray(value, _steel_tint(rng))


def _bands(rng: Rng, size: int, angle: float, strength: float) -> Array:
    """Make lines and bands (size, size) along `angle` as tools leave them: most faint, a few strong, fading in and out."""
    profile = rng.standard_normal(2 * size).astype(np.float32) ** 3 / 4
    profile = cv2.GaussianBlur(profile[None], (0, 0), rng.uniform(0.4, 1.5))[0]
    broad = np.interp(np.arange(2 * size), np.linspace(0, 2 * size, 12), rng.standard_normal(12))
    profile = profile + broad.astype(np.float32)
    _, y = plane((size, size), angle)
    fade = np.clip(0.6 + turned(rng, (size, size), rng.uniform(1, 8), size * 0.5, angle), 0, 1.5)
    return (strength * profile[np.clip(y + size, 0, 2 * size - 1).astype(int)] * fade).astype(np.float32)


def rolled_steel(rng: Rng, size: int) -> Array:
    """Make a gray strip: rolling streaks, mottled scale, a strong gradient of light."""
    angle = rng.choice([0, math.pi / 2]) + rng.normal(0, 0.03)
    base = rng.uniform(0.25, 0.75)
    value = base + rng.uniform(0.005, 0.05) * octaves(rng, (size, size), size / rng.uniform(3, 16))
    value += rng.uniform(0.005, 0.04) * turned(rng, (size, size), rng.uniform(1, 5), size * rng.uniform(0.3, 2), angle)
    value += rng.uniform(0.01, 0.05) * field(rng, (size, size), rng.uniform(1, 2.5))
    if chance(rng, 0.5):
        value = value + _bands(rng, size, angle, rng.uniform(0.01, 0.07))
    return _gray(value, _steel_tint(rng) if chance(rng, 0.3) else 1.0)


def dark_tile(rng: Rng, size: int) -> Array:
    """Make dark ground ceramic: fine grain, faint grinding marks, sometimes paler rims."""
    base = rng.uniform(0.12, 0.45)
    value = base + rng.uniform(0.005, 0.03) * field(rng, (size, size), rng.uniform(1, 2))
    value += rng.uniform(0.005, 0.03) * octaves(rng, (size, size), size / rng.uniform(2, 6), 3)
    angle = rng.uniform(0, math.pi)
    value += rng.uniform(0, 0.025) * turned(rng, (size, size), rng.uniform(1, 2.5), rng.uniform(10, 60), angle)
    straight = rng.choice([0, math.pi / 2])
    x, _ = plane((size, size), straight + rng.normal(0, 0.03))
    if chance(rng, 0.6):
        value = value + _bands(rng, size, straight + math.pi / 2, rng.uniform(0.01, 0.06))
    if chance(rng, 0.4):
        value += rng.uniform(-0.15, 0.3) * np.clip(
            (np.abs(x) - size * rng.uniform(0.35, 0.48)) / rng.uniform(1, 12), 0, 1
        )
    return _gray(value)


def woven_fabric(rng: Rng, size: int) -> Array:
    """Make a plain weave or twill with uneven yarns."""
    angle = rng.choice([0.0, rng.normal(0, 0.05), rng.uniform(0, math.pi)])
    pitch = log_uniform(rng, 2.5, max(3.0, size / 14))
    x, y = plane((size, size), angle)
    wobble = rng.uniform(0, 0.25) * pitch
    x = x + wobble * field(rng, (size, size), size / 8)
    y = y + wobble * field(rng, (size, size), size / 8)
    u, v = x / pitch, y / pitch
    step = rng.choice([1, 1, 2, 3])
    over = np.mod(np.floor(u) + np.floor(v), step + 1) < 1
    warp_yarn = np.sin(np.pi * np.mod(u, 1)) * (0.6 + 0.4 * np.sin(np.pi * np.mod(v, 1)))
    weft_yarn = np.sin(np.pi * np.mod(v, 1)) * (0.6 + 0.4 * np.sin(np.pi * np.mod(u, 1)))
    yarn = np.where(over, warp_yarn, weft_yarn)
    first = any_colour(rng)
    second = first if chance(rng, 0.5) else any_colour(rng) * 0.5 + first * 0.5
    cloth = np.where(over[..., None], first, second) * (1 - rng.uniform(0.15, 0.7) * (1 - yarn))[..., None]
    uneven = turned(rng, (size, size), pitch, size / 3, angle) + turned(rng, (size, size), size / 3, pitch, angle)
    cloth = cloth * (1 + rng.uniform(0.01, 0.06) * uneven)[..., None]
    return cloth + rng.uniform(0.005, 0.03) * field(rng, (size, size), 1)[..., None]


def knit(rng: Rng, size: int) -> Array:
    """Make columns of V stitches."""
    pitch = log_uniform(rng, 5, max(6.0, size / 8))
    x, y = plane((size, size), rng.choice([0.0, rng.uniform(-0.3, 0.3)]))
    x = x + 0.1 * pitch * field(rng, (size, size), size / 6)
    u = np.mod(x / pitch, 1) - 0.5
    v = y / (pitch * rng.uniform(0.5, 1.0)) + np.abs(u) * rng.uniform(1.2, 2)
    height = np.cos(2 * np.pi * v) * 0.5 + np.cos(4 * np.pi * u) * 0.3
    shade = 0.75 + 0.25 * height + 0.04 * field(rng, (size, size), 1)
    return any_colour(rng) * shade[..., None]


def carpet(rng: Rng, size: int) -> Array:
    """Make tufts seen from above: strong fine clutter."""
    tuft = rng.uniform(1.5, 5)
    value = field(rng, (size, size), tuft) * rng.uniform(0.06, 0.16) + rng.uniform(0.02, 0.06) * field(
        rng, (size, size), 1
    )
    base = any_colour(rng)
    cloth = base + value[..., None]
    if chance(rng, 0.5):
        other = np.clip(field(rng, (size, size), tuft) * 1.5, 0, 1) * rng.uniform(0.3, 0.8)
        cloth = mix(cloth, any_colour(rng) + value[..., None], other)
    return cloth


def leather(rng: Rng, size: int) -> Array:
    """Make a pebbled grain with creases, lit from one side."""
    grain = log_uniform(rng, 3, max(4.0, size / 18))
    distance, _ = cells(rng, (size, size), grain)
    distance = warped(rng, distance, grain * 2, grain * 0.3)
    height = -np.minimum(distance, grain) * rng.uniform(0.3, 0.9)
    height = cv2.GaussianBlur(height, (0, 0), rng.uniform(0.5, 1.2)) + 0.3 * grain * octaves(
        rng, (size, size), grain * 5, 3
    )
    shade = relief(height, rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.8))
    base = colour(rng, [(0.35, 0.2, 0.12), (0.1, 0.1, 0.1), (0.6, 0.45, 0.3), (0.45, 0.1, 0.08)][rng.integers(4)], 0.08)
    base = any_colour(rng) if chance(rng, 0.25) else base
    return base * (shade * (1 + 0.05 * octaves(rng, (size, size), size / 4)))[..., None]


def wood(rng: Rng, size: int) -> Array:
    """Make a grain from stretched, bent rings, with pores and sometimes a knot."""
    angle = rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)])
    x, y = plane((size, size), angle)
    bend = turned(rng, (size, size), size / rng.uniform(2, 6), size * rng.uniform(0.7, 2), angle)
    rings = y / (size / rng.uniform(3, 25)) + rng.uniform(0.5, 2) * bend
    if chance(rng, 0.25):
        kx, ky = rng.uniform(-0.5, 0.5, 2) * size
        rings = rings + 3 * np.exp(-(((x - kx) / (size * 0.15)) ** 2 + ((y - ky) / (size * 0.05)) ** 2))
    late = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    late = late ** rng.uniform(1, 4)
    fibre = turned(rng, (size, size), 1, rng.uniform(15, 60), angle)
    light = colour(rng, [(0.75, 0.58, 0.4), (0.55, 0.38, 0.24), (0.85, 0.75, 0.6), (0.35, 0.22, 0.15)][rng.integers(4)])
    grain = mix(light * np.ones((size, size, 3), np.float32), light * rng.uniform(0.55, 0.85), late)
    grain = grain * (1 + rng.uniform(0.02, 0.09) * fibre)[..., None]
    pores = np.clip(turned(rng, (size, size), 1, rng.uniform(6, 20), angle) - rng.uniform(1.2, 2.2), 0, 1)
    return grain * (1 - rng.uniform(0, 0.5) * pores)[..., None]


def granite(rng: Rng, size: int) -> Array:
    """Make crystals of up to four colours, with fine speckle: terrazzo, granite, stone tile."""
    grain = log_uniform(rng, 1.5, size / 16)
    _, labels = cells(rng, (size, size), grain)
    palette = np.stack(
        [any_colour(rng) if chance(rng, 0.4) else colour(rng, [rng.uniform(0.1, 0.9)] * 3) for _ in range(4)]
    )
    palette = palette * (1 - (calm := rng.uniform(0.0, 0.8))) + palette[0] * calm
    picks = rng.choice(4, labels.max() + 1, p=[0.55, 0.2, 0.15, 0.1])
    stone = palette[picks][labels].astype(np.float32)
    stone = warped(rng, stone, max(grain, 2), grain * 0.4)
    return stone * (1 + rng.uniform(0.01, 0.08) * field(rng, (size, size), 1))[..., None]


def marble(rng: Rng, size: int) -> Array:
    """Make pale stone with soft natural veins, which are not cracks."""
    flow = octaves(rng, (size, size), size / rng.uniform(1.5, 4), 5)
    veins = np.exp(-np.abs(flow) * rng.uniform(3, 14)) * np.clip(0.5 + field(rng, (size, size), size / 3), 0, 1)
    base = colour(rng, [rng.uniform(0.5, 0.9)] * 3)
    stone = base * (1 + 0.04 * octaves(rng, (size, size), size / 3))[..., None]
    return mix(stone, any_colour(rng) * 0.6, veins * rng.uniform(0.15, 0.7))


def concrete(rng: Rng, size: int) -> Array:
    """Make a cloudy gray with sand grain and pores; with coarse grain it looks like asphalt."""
    value = rng.uniform(0.3, 0.75) + rng.uniform(0.02, 0.06) * octaves(
        rng, (size, size), size / rng.uniform(2, 6), 5, 0.7
    )
    grit = field(rng, (size, size), rng.uniform(1, 3.5))
    value += rng.uniform(0.02, 0.12) * grit
    value -= rng.uniform(0, 0.2) * np.clip(field(rng, (size, size), rng.uniform(2, 6)) - 2.0, 0, 1)
    return _gray(value, 1 + rng.normal(0, 0.03, 3).astype(np.float32))


def road(rng: Rng, size: int) -> Array:
    """Make asphalt or pavement: aggregate, a painted line, a seam, darker where wet or oily."""
    ground = concrete(rng, size)
    x, y = plane((size, size), rng.uniform(0, math.pi))
    grit = np.clip(field(rng, (size, size), rng.uniform(1, 3)) - rng.uniform(0.8, 1.8), 0, 1)
    ground = ground * (1 + rng.uniform(0, 0.6) * grit)[..., None]
    if chance(rng, 0.25):
        worn = np.clip(1.2 + 0.6 * field(rng, (size, size), 2), 0, 1) * np.clip(
            size * rng.uniform(0.03, 0.15) - np.abs(x - rng.uniform(-0.4, 0.4) * size), 0, 1
        )
        ground = mix(
            ground, colour(rng, [(0.9, 0.9, 0.9), (0.85, 0.7, 0.25)][rng.integers(2)]), worn * rng.uniform(0.5, 0.95)
        )
    if chance(rng, 0.15):
        seam = np.clip(rng.uniform(1, 4) - np.abs(y - rng.uniform(-0.4, 0.4) * size), 0, 1)
        ground = ground * (1 - rng.uniform(0.3, 0.7) * seam)[..., None]
    if chance(rng, 0.3):
        ground = (
            ground * (1 - rng.uniform(0.1, 0.35) * np.clip(octaves(rng, (size, size), size / 2, 3), 0, 1))[..., None]
        )
    return ground


def ceramic_tiles(rng: Rng, size: int) -> Array:
    """Make tiles or bricks in a bond, with joints."""
    height = size / rng.uniform(1.5, 7)
    width = height * rng.choice([1, 1, 2, 3])
    joint = rng.uniform(1, 5) * size / 256
    x, y = plane((size, size), rng.normal(0, 0.03))
    x, y = x + rng.uniform(0, size), y + rng.uniform(0, size)
    row = np.floor(y / height)
    x = x + row * width * rng.choice([0, 0.5])
    u, v = np.mod(x, width), np.mod(y, height)
    edge = np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))
    inside = np.clip((edge - joint) / 1.2, 0, 1)
    number = (np.floor(x / width) * 7 + row * 13).astype(np.int64) % 64
    tone = (1 + rng.normal(0, rng.uniform(0, 0.08), 64))[number].astype(np.float32)
    face = any_colour(rng) * (tone * (1 + 0.03 * octaves(rng, (size, size), size / 6)))[..., None]
    bevel = np.exp(-np.clip(edge - joint, 0, None) / 2) * rng.uniform(-0.1, 0.15)
    return mix(any_colour(rng) * np.ones((size, size, 3), np.float32), face + bevel[..., None], inside)


def wire_grid(rng: Rng, size: int) -> Array:
    """Make a mesh: bright or dark wires over another ground."""
    angle = rng.choice([0, math.pi / 4, rng.uniform(0, math.pi)])
    pitch = size / rng.uniform(5, 22)
    x, y = plane((size, size), angle)
    x = x + 0.03 * pitch * field(rng, (size, size), size / 5)
    wire = pitch * rng.uniform(0.08, 0.3)
    du = np.abs(np.mod(x, pitch) - pitch / 2)
    dv = np.abs(np.mod(y, pitch * rng.choice([1, 1, 1.7])) - pitch / 2)
    near = np.minimum(du, dv)
    alpha = np.clip((wire - near) + 0.5, 0, 1)
    round_shade = 0.6 + 0.4 * np.sqrt(np.clip(1 - (near / wire) ** 2, 0, 1))
    ground = any_colour(rng) * np.ones((size, size, 3), np.float32)
    return mix(ground, any_colour(rng) * round_shade[..., None], alpha) + 0.015 * field(rng, (size, size), 1)[..., None]


def perforated(rng: Rng, size: int) -> Array:
    """Make a sheet with rows of round or long holes, or of raised dots."""
    pitch = size / rng.uniform(4, 16)
    x, y = plane((size, size), rng.choice([0, rng.uniform(0, math.pi)]))
    x, y = x + rng.uniform(0, pitch), y + rng.uniform(0, pitch)
    x = x + np.mod(np.floor(y / pitch), 2) * pitch * rng.choice([0, 0.5])
    u, v = np.mod(x, pitch) - pitch / 2, np.mod(y, pitch) - pitch / 2
    radius = pitch * rng.uniform(0.18, 0.4)
    distance = np.hypot(u * rng.choice([1, 1, 0.6]), v) - radius
    sheet = rolled_steel(rng, size) if chance(rng, 0.6) else any_colour(rng) * np.ones((size, size, 3), np.float32)
    if chance(rng, 0.35):
        return sheet * relief(-np.minimum(distance, 0) * 0.8, rng.uniform(0, 6.28), 0.9)[..., None]
    rim = np.exp(-np.clip(distance, 0, None) / 1.5) * rng.uniform(-0.1, 0.2) * (1 if chance(rng, 0.5) else u / radius)
    depth = any_colour(rng) * rng.uniform(0.1, 0.9) * (1 + 0.3 * np.clip((u + v) / pitch, -1, 1))[..., None]
    return mix(sheet + rim[..., None], depth, np.clip(0.5 - distance, 0, 1))


def printed(rng: Rng, size: int) -> Array:
    """Make paper, film or plastic with a repeated motif or characters."""
    base = any_colour(rng)
    sheet = np.ones((size, size, 3), np.float32) * base
    ink = any_colour(rng) * 0.7
    motif: Array = np.zeros((size, size), np.uint8)
    pitch = max(6, int(size / rng.uniform(2, 9)))
    form, bold = rng.integers(5), int(rng.integers(1, 3))
    word = "".join(chr(rng.integers(48, 91)) for _ in range(rng.integers(2, 8)))
    height = pitch / 60
    for j, cy in enumerate(range(pitch // 2, size + pitch, pitch)):
        for cx in range(pitch // 2 - (pitch // 2 if j % 2 else 0), size + pitch, pitch):
            at = (cx, cy)
            if form == 0:
                cv2.circle(motif, at, pitch // 4, 255, -1, cv2.LINE_AA)
            elif form == 1:
                cv2.putText(
                    motif, word, (cx - pitch // 2, cy), cv2.FONT_HERSHEY_SIMPLEX, height, 255, bold, cv2.LINE_AA
                )
            elif form == 2:
                cv2.ellipse(motif, at, (pitch // 2, pitch // 4), 30, 0, 300, 255, bold, cv2.LINE_AA)
            elif form == 3:
                cv2.drawMarker(motif, at, 255, j % 3, pitch // 2, bold, cv2.LINE_AA)
            else:
                cv2.rectangle(motif, (cx - pitch // 3, cy - pitch // 4), (cx + pitch // 4, cy + pitch // 4), 255, bold)
    if chance(rng, 0.5):
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-60, 60), 1.3)
        motif = cv2.warpAffine(motif, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    sheet = mix(sheet, ink, motif.astype(np.float32) * np.float32(rng.uniform(0.4, 1) / 255))
    return sheet + rng.uniform(0.003, 0.03) * octaves(rng, (size, size), rng.uniform(2, 20), 3)[..., None]


def plain(rng: Rng, size: int) -> Array:
    """Make a smooth painted, moulded or rubber surface with orange peel."""
    cell = log_uniform(rng, 1.5, size / 10)
    shade = relief(octaves(rng, (size, size), cell, 3) * cell * 0.1, rng.uniform(0, 6.28), rng.uniform(0.1, 1.0))
    return any_colour(rng) * shade[..., None] + rng.uniform(0.002, 0.02) * field(rng, (size, size), 1)[..., None]


def cast_skin(rng: Rng, size: int) -> Array:
    """Make a sand-cast or forged skin: rough relief at several scales."""
    cell = rng.uniform(3, 14)
    height = octaves(rng, (size, size), cell, 4, 0.6) * cell * rng.uniform(0.05, 0.2)
    value = rng.uniform(0.25, 0.65) * relief(height, rng.uniform(0, 6.28), rng.uniform(0.4, 1.3))
    return _gray(value + 0.03 * octaves(rng, (size, size), size / 3, 2), _steel_tint(rng))


def machined(rng: Rng, size: int) -> Array:
    """Make a milled or turned face: arcs of tool marks."""
    x, y = plane((size, size))
    cx, cy = rng.uniform(-1.5, 1.5, 2) * size
    radius = np.hypot(x - cx, y - cy)
    pitch = rng.uniform(2.5, 12)
    marks = np.sin(2 * np.pi * radius / pitch + rng.uniform(0, 2) * field(rng, (size, size), size / 4))
    rough = np.interp(np.mod(radius, 400), np.arange(400), rng.standard_normal(400)).astype(np.float32)
    value = rng.uniform(0.35, 0.75) + rng.uniform(0.01, 0.06) * marks + rng.uniform(0.01, 0.05) * rough
    glow = np.cos(2 * (np.arctan2(y - cy, x - cx) - rng.uniform(0, 6.28)))
    value += rng.uniform(0, 0.12) * glow
    return _gray(value + 0.015 * field(rng, (size, size), 1), _steel_tint(rng))


def corrugated(rng: Rng, size: int) -> Array:
    """Make regular ribs: corrugated board, cable, extrusion, conveyor belt."""
    pitch = size / rng.uniform(4, 30)
    x, _ = plane((size, size), rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)]))
    wave = np.sin(2 * np.pi * (x + 0.04 * pitch * field(rng, (size, size), size / 4)) / pitch)
    wave = np.sign(wave) * np.abs(wave) ** rng.uniform(0.3, 1.5)
    return any_colour(rng) * (1 + rng.uniform(0.05, 0.35) * wave + 0.02 * field(rng, (size, size), 1))[..., None]


SURFACES: tuple[tuple[Surface, tuple[str, ...], float], ...] = (
    (brushed_metal, ("brushed metal", "metal plate", "metal", "steel"), 1.2),
    (rolled_steel, ("steel", "steel strip", "metal sheet", "surface"), 1.8),
    (dark_tile, ("magnet", "tile", "ceramic", "surface"), 1.5),
    (woven_fabric, ("fabric", "cloth", "textile"), 1.2),
    (knit, ("fabric", "knitwear"), 0.5),
    (carpet, ("carpet", "felt"), 0.7),
    (leather, ("leather",), 1.1),
    (wood, ("wood", "wooden board"), 1.2),
    (granite, ("stone", "tile", "granite"), 1.0),
    (marble, ("marble", "stone slab", "tile"), 0.6),
    (concrete, ("concrete", "wall", "stone"), 1.0),
    (road, ("road", "asphalt", "pavement"), 0.9),
    (ceramic_tiles, ("tiled floor", "brick wall"), 0.6),
    (wire_grid, ("grid", "mesh", "wire mesh"), 0.8),
    (perforated, ("perforated sheet", "metal sheet"), 0.6),
    (printed, ("printed paper", "label", "packaging"), 0.8),
    (plain, ("plastic", "painted surface", "rubber", "surface"), 1.2),
    (cast_skin, ("casting", "iron", "surface"), 0.9),
    (machined, ("machined surface", "metal", "steel"), 0.9),
    (corrugated, ("corrugated board", "belt", "cable"), 0.5),
)
"""(maker, nouns for it, how often relative to the others)."""


def surface(rng: Rng, size: int, materials: Materials | None = None) -> tuple[Array, str]:
    """Make one surface, RGB float32 (size, size, 3), about [0, 1], and return it with its noun.

    Args:
        rng: decides everything.
        size: side in pixels.
        materials: photographed ones, used for 55 % of the surfaces; default none.
    """
    if materials is not None and chance(rng, 0.55):
        return materials.piece(rng, rng, size)
    weights = np.array([weight for _, _, weight in SURFACES])
    make, nouns, _ = SURFACES[rng.choice(len(SURFACES), p=weights / weights.sum())]
    return make(rng, size).astype(np.float32), nouns[rng.integers(len(nouns))]
