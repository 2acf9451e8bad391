"""Single products seen from above: nuts, screws, pills, castings. See Maker.

Parts are unlit layers on a square canvas; scenes.py turns, lights and places them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis.noise import (
    Array,
    Rng,
    any_colour,
    cells,
    chance,
    colour,
    field,
    mix,
    octaves,
    plane,
    turned,
    warped,
)


@dataclass(frozen=True)
class Part:
    """Layers on a (side, side) canvas: albedo RGB in [0, 1], height in pixels, alpha and gloss in [0, 1]."""

    albedo: Array
    height: Array
    alpha: Array
    gloss: float = 0.2


Maker = Callable[[Rng, Rng, int], Part]
"""Makes one part: (style, own, side in pixels). style decides the design, which all pieces of a product share; own decides
what naturally differs from piece to piece."""


def _inside(distance: Array) -> Array:
    """Return the anti-aliased coverage of a signed distance in pixels, negative inside."""
    return np.clip(0.5 - distance, 0, 1)


def _dome(distance: Array, reach: float, rise: float) -> Array:
    """Return a height that rises from an outline to `rise` pixels over `reach` pixels, as a quarter circle does."""
    t = np.clip(1 + distance / max(reach, 1e-3), 0, 1)
    return np.float32(rise) * np.sqrt(1 - t * t + 1e-4)


def _flat(side: int, tone: Array | list[float]) -> Array:
    return np.ones((side, side, 3), np.float32) * np.asarray(tone, np.float32)


def _metal(style: Rng) -> Array:
    bases = [(0.62, 0.62, 0.63), (0.45, 0.45, 0.46), (0.78, 0.66, 0.42), (0.72, 0.45, 0.32), (0.25, 0.25, 0.27)]
    return colour(style, bases[style.choice(5, p=[0.4, 0.25, 0.15, 0.08, 0.12])], 0.06)


def _grainy(own: Rng, albedo: Array, amount: float, cell: float = 1.0) -> Array:
    return albedo * (1 + np.float32(amount) * field(own, albedo.shape[:2], cell))[..., None]


def _polygon(x: Array, y: Array, sides: int, radius: float) -> Array:
    """Return the signed distance to a regular polygon with an inradius of `radius`."""
    step = 2 * math.pi / sides
    angle = np.mod(np.arctan2(y, x), step) - step / 2
    return np.hypot(x, y) * np.cos(angle) - np.float32(radius)


def _text(own: Rng, side: int, style: Rng, centre: tuple[float, float], height: float, ring: bool = False) -> Array:
    canvas = np.zeros((side, side), np.uint8)
    word = "".join(
        chr(style.choice([style.integers(48, 58), style.integers(65, 91)])) for _ in range(style.integers(1, 7))
    )
    scale, bold = height / 22, max(1, round(height / 12))
    (w, h), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, bold)
    at = (int(centre[0] - w / 2), int(centre[1] + h / 2))
    cv2.putText(canvas, word, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, bold, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def disc(style: Rng, own: Rng, side: int) -> Part:
    """Make a washer, ring, plate or turned disc: concentric steps, sometimes holes on a circle."""
    x, y = plane((side, side))
    r = np.hypot(x, y)
    outer = side * 0.47
    inner = outer * style.choice([0, style.uniform(0.1, 0.85)], p=[0.35, 0.65])
    distance = np.maximum(r - outer, inner - r) if inner else r - outer
    height = _dome(distance, side * style.uniform(0.01, 0.05), side * style.uniform(0.01, 0.04))
    for _ in range(style.integers(0, 4)):
        step = style.uniform(inner, outer)
        height = height + side * style.normal(0, 0.012) * np.clip((step - r) / (side * 0.01) + 0.5, 0, 1)
    albedo = _flat(side, _metal(style) if chance(style, 0.75) else any_colour(style))
    if chance(style, 0.6):
        lines = np.interp(r, np.arange(side), own.standard_normal(side)).astype(np.float32)
        albedo = albedo * (1 + style.uniform(0.01, 0.08) * lines)[..., None]
    holes = style.integers(0, 9) if chance(style, 0.5) else 0
    if holes > 1:
        at, radius = inner + (outer - inner) * style.uniform(0.4, 0.6), (outer - inner) * style.uniform(0.08, 0.25)
        angle = np.arctan2(y, x)
        around = (np.mod(angle, 2 * math.pi / holes) - math.pi / holes) * at
        distance = np.maximum(distance, radius - np.hypot(around, r - at))
    return Part(_grainy(own, albedo, 0.03), height, _inside(distance), style.uniform(0.1, 0.8))


def hex_nut(style: Rng, own: Rng, side: int) -> Part:
    """Make a nut of four to twelve sides with chamfer and threaded hole."""
    x, y = plane((side, side))
    r = np.hypot(x, y)
    flat = _polygon(x, y, int(style.choice([4, 6, 6, 6, 8, 12])), side * 0.41)
    bore = side * style.uniform(0.15, 0.28)
    distance = np.maximum(flat, bore * 0.8 - r) if chance(style, 0.5) else flat
    height = side * 0.08 * np.clip(-flat / (side * 0.03), 0, 1) - np.clip(r - side * 0.4, 0, None) * 0.5
    height = height - side * 0.1 * np.clip((bore - r) / (side * 0.05), 0, 1)
    thread = np.clip((bore - r) / 3, 0, 1) * np.sin(r * 2 * math.pi / max(3.0, side * 0.03) + np.arctan2(y, x))
    albedo = _flat(side, _metal(style)) * (1 + 0.3 * thread - 0.3 * np.clip((bore - r) / 4, 0, 1))[..., None]
    return Part(_grainy(own, albedo, 0.04), height.astype(np.float32), _inside(distance), style.uniform(0.2, 0.8))


def gear(style: Rng, own: Rng, side: int) -> Part:
    """Make a toothed wheel with bore, hub and sometimes windows between spokes."""
    x, y = plane((side, side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    teeth, depth = int(style.integers(8, 40)), side * style.uniform(0.02, 0.06)
    profile = np.clip(np.cos(teeth * angle) * style.uniform(1, 3), -1, 1)
    distance = r - (side * 0.44 + depth * 0.5 * profile)
    distance = np.maximum(distance, side * style.uniform(0.05, 0.15) - r)
    spokes = int(style.integers(3, 8))
    if chance(style, 0.5):
        ring_in, ring_out = side * 0.2, side * 0.33
        window = np.maximum(
            np.maximum(ring_in - r, r - ring_out), (0.35 - np.abs(np.cos(spokes * angle / 2))) * side * 0.2
        )
        distance = np.maximum(distance, -window)
    height = _dome(distance, side * 0.015, side * 0.02) + side * style.normal(0, 0.02) * np.clip(
        (side * 0.22 - r) / 2, 0, 1
    )
    albedo = _flat(side, _metal(style) if chance(style, 0.8) else any_colour(style))
    return Part(_grainy(own, albedo, 0.03), height, _inside(distance), style.uniform(0.1, 0.7))


def screw(style: Rng, own: Rng, side: int) -> Part:
    """Make a screw or bolt lying on its side: head, neck, thread, tip."""
    x, y = plane((side, side))
    t = y / side + 0.5
    head, tip = style.uniform(0.08, 0.2), style.uniform(0.85, 0.97)
    shaft, wide = side * style.uniform(0.05, 0.12), side * style.uniform(0.12, 0.24)
    neck = head + style.uniform(0, 0.3)
    pitch = side * style.uniform(0.025, 0.06)
    slope = style.choice([-0.3, 0.3])
    wave = np.mod((y + slope * x + own.uniform(0, pitch)) / pitch, 1)
    ridge = np.abs(2 * wave - 1) * np.clip((t - neck) * 50, 0, 1)
    taper = (
        np.clip((tip - t) / style.uniform(0.03, 0.2), 0, 1) if chance(style, 0.6) else np.clip((tip - t) * side, 0, 1)
    )
    half = shaft * np.sqrt(taper) * (1 + 0.25 * (ridge - 0.5))
    conical = chance(style, 0.5)
    head_half = wide * np.clip(1.0 - (t - 0.04) / head * (0.75 if conical else 0.05), 0, 1)
    half = np.where(t < head, np.where(t > 0.04, head_half, 0), half)
    distance = np.abs(x) - half
    height = np.sqrt(np.clip(half * half - x * x, 0, None)) * 0.9 + ridge * pitch * 0.35
    albedo = _flat(side, _metal(style)) * (1 - 0.25 * (1 - ridge) * (t > neck))[..., None]
    return Part(_grainy(own, albedo, 0.03), height.astype(np.float32), _inside(distance), style.uniform(0.3, 0.9))


def pill(style: Rng, own: Rng, side: int) -> Part:
    """Make a tablet or capsule, sometimes with score line, imprint or speckles."""
    x, y = plane((side, side))
    radius = side * style.uniform(0.14, 0.46)
    length = side * 0.46 - radius
    distance = np.hypot(x, np.clip(np.abs(y) - length, 0, None)) - radius
    height = _dome(distance, radius * style.uniform(0.2, 1), radius * style.uniform(0.15, 0.6))
    albedo = _flat(side, colour(style, [style.uniform(0.6, 0.95)] * 3) if chance(style, 0.5) else any_colour(style))
    if length > side * 0.1 and chance(style, 0.6):
        albedo = np.where((y > 0)[..., None], any_colour(style), albedo)
    if chance(style, 0.4):
        height = height - side * 0.015 * np.clip(2 - np.abs(y) / (side * 0.008), 0, 1)
    if chance(style, 0.5):
        mark = _text(own, side, style, (side / 2, side / 2 - length * 0.5), radius * 0.6)
        albedo = mix(albedo, any_colour(style) * 0.6, mark) if chance(style, 0.5) else albedo
        height = height - mark * side * 0.01
    if chance(style, 0.3):
        speck = np.clip(field(own, (side, side), max(1.5, side * 0.012)) - 1.6, 0, 1)
        albedo = mix(albedo, any_colour(style), speck * style.uniform(0.3, 0.9))
    return Part(_grainy(own, albedo, 0.015), height.astype(np.float32), _inside(distance), style.uniform(0, 0.8))


def baked(style: Rng, own: Rng, side: int) -> Part:
    """Make a biscuit: uneven outline, crumbly cracked top, chips, browned rim (all of which is normal)."""
    x, y = plane((side, side), own.uniform(0, 6.28))
    stretch = 1 + own.uniform(0, style.uniform(0, 0.35))
    x, y = x / 1.0, y * stretch
    lobe = octaves(own, (side, side), side / style.uniform(1.5, 4), 4, 0.45)
    distance = np.hypot(x, y) - side * 0.42 + side * style.uniform(0.005, 0.035) * lobe
    height = _dome(distance, side * 0.2, side * style.uniform(0.04, 0.09))
    crumb = octaves(own, (side, side), side / 14, 4, 0.75)
    height = height + side * style.uniform(0.003, 0.008) * crumb
    seams = np.abs(octaves(own, (side, side), side / style.uniform(3, 7), 3))
    furrow = np.exp(-seams * style.uniform(8, 25)) * np.clip(field(own, (side, side), side / 3) + 0.3, 0, 1)
    height = height - furrow * side * style.uniform(0, 0.025)
    base = colour(
        style, [(0.78, 0.58, 0.36), (0.6, 0.4, 0.22), (0.35, 0.24, 0.17), (0.88, 0.75, 0.52)][style.integers(4)]
    )
    albedo = _flat(side, base) * (1 + 0.1 * crumb - 0.35 * furrow)[..., None]
    albedo = albedo * (1 - style.uniform(0, 0.4) * np.exp(distance / (side * 0.08)))[..., None].clip(0.2, 1.2)
    if chance(style, 0.65):
        distance_to, labels = cells(own, (side, side), side / style.uniform(4, 9), 1.0)
        size_of = own.uniform(-0.01, 0.045, labels.max() + 1).astype(np.float32)[labels] * side
        chip = warped(own, np.clip((size_of - distance_to) / 1.5, 0, 1), side / 12, side / 60)
        albedo = mix(albedo, colour(style, (0.17, 0.1, 0.07), 0.04), chip * 0.92)
        height = height + chip * side * 0.015
    return Part(_grainy(own, albedo, 0.05), height.astype(np.float32), _inside(distance), 0.08)


def kernel(style: Rng, own: Rng, side: int) -> Part:
    """Make a nut, bean, seed or fruit: a pointed oval with streaks and sometimes a paler cap."""
    x, y = plane((side, side))
    pointed = style.uniform(0, 0.5) + own.uniform(-0.08, 0.08)
    oval = style.uniform(0.75, 1.4) * own.uniform(0.92, 1.08)
    narrow = 1 + pointed * np.clip(y / side * 2, -0.4, 1) ** 2
    lobe = octaves(own, (side, side), side / 2.5, 3, 0.4) * side * style.uniform(0.005, 0.02)
    distance = np.hypot(x * max(oval, 1) * narrow, y * max(1 / oval, 1)) - side * 0.43 + lobe
    height = _dome(distance, side * 0.42, side * style.uniform(0.25, 0.4))
    bumps = octaves(own, (side, side), side / style.uniform(4, 10), 3, 0.5)
    height = height + bumps * side * style.uniform(0.002, 0.012)
    base = colour(
        style,
        [(0.5, 0.3, 0.16), (0.82, 0.72, 0.52), (0.6, 0.42, 0.25), (0.35, 0.2, 0.12), (0.75, 0.25, 0.15)][
            style.integers(5)
        ],
    )
    streak = turned(own, (side, side), side / style.uniform(15, 60), side * 0.7, math.pi / 2)
    patch = np.clip(octaves(own, (side, side), side / 2, 3), -1.5, 1.5)
    albedo = _flat(side, base) * (1 + style.uniform(0.02, 0.1) * streak + style.uniform(0.02, 0.15) * patch)[..., None]
    if chance(style, 0.5):
        cap = np.clip(
            (-y - side * style.uniform(0.05, 0.3) + 0.03 * side * patch) / (side * style.uniform(0.03, 0.2)), 0, 1
        )
        albedo = mix(albedo, colour(style, (0.72, 0.6, 0.42)), cap * style.uniform(0.3, 0.9))
    return Part(_grainy(own, albedo, 0.03, 1.5), height.astype(np.float32), _inside(distance), style.uniform(0, 0.5))


def bottle(style: Rng, own: Rng, side: int) -> Part:
    """Make a bottle, can or cap from above: nested bright and dark rings with reflections at random places."""
    x, y = plane((side, side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    rings = np.sort(style.uniform(0.05, 0.46, style.integers(3, 8))) * side
    tones = np.stack(
        [
            any_colour(style) if chance(style, 0.3) else colour(style, [style.uniform(0.03, 0.9)] * 3)
            for _ in range(len(rings) + 1)
        ]
    )
    wavy = r + side * style.uniform(0, 0.004) * np.sin(angle * own.integers(2, 7) + own.uniform(0, 6.28))
    place = np.arange(0, side, 0.5)
    ramp = np.stack(
        [
            np.interp(
                place,
                np.concatenate(([0], np.repeat(rings, 2) + np.tile([-1.0, 1.0], len(rings)))),
                np.concatenate(([tones[0, c]], np.repeat(tones[:, c], 2)[1:-1])),
            )
            for c in range(3)
        ],
        1,
    )
    albedo = ramp.astype(np.float32)[np.clip(wavy * 2, 0, len(place) - 1).astype(int)]
    for _ in range(style.integers(0, 5)):
        where, thick = style.uniform(0.1, 0.45) * side, side * style.uniform(0.004, 0.02)
        arc = np.exp(-(((r - where) / thick) ** 2)) * np.clip(
            np.cos(angle - own.uniform(0, 6.28)) * 2 - style.uniform(-1, 1.2), 0, 1
        )
        albedo = albedo + (style.uniform(0.2, 0.8) * arc)[..., None]
    serrated = side * 0.01 * np.cos(angle * int(style.choice([0, 21, 48, 90])))
    distance = r - side * 0.465 + serrated
    height = _dome(distance, side * 0.05, side * 0.03)
    if chance(style, 0.3):
        mark = _text(own, side, style, (side / 2, side / 2), side * style.uniform(0.08, 0.2))
        albedo = mix(albedo, any_colour(style), mark)
    return Part(_grainy(own, albedo, 0.02), height, _inside(distance), style.uniform(0, 0.5))


def segmented(style: Rng, own: Rng, side: int) -> Part:
    """Make a commutator or stator: a ring of bars with gaps, hub and bore."""
    x, y = plane((side, side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    bars = int(style.integers(8, 40))
    inner, bore = side * style.uniform(0.2, 0.36), side * style.uniform(0.06, 0.16)
    gap = np.abs(np.mod(angle, 2 * math.pi / bars) - math.pi / bars) * r
    slit = np.clip(side * style.uniform(0.004, 0.012) + 0.5 - gap, 0, 1) * (r > inner)
    distance = np.maximum(r - side * 0.46, bore - r)
    bar_tone = (1 + own.normal(0, style.uniform(0.01, 0.1), bars))[
        np.mod(np.floor((angle + math.pi) * bars / (2 * math.pi) + 0.5), bars).astype(int)
    ]
    albedo = np.where((r > inner)[..., None], _metal(style) * bar_tone[..., None], any_colour(style) * 0.6)
    albedo = albedo * (1 - style.uniform(0.5, 0.95) * slit)[..., None]
    height = _dome(np.maximum(distance, inner - r), 3, 3) - slit * 2
    return Part(
        _grainy(own, albedo.astype(np.float32), 0.05),
        height.astype(np.float32),
        _inside(distance),
        style.uniform(0.1, 0.7),
    )


def casting(style: Rng, own: Rng, side: int) -> Part:
    """Make a casting: rough skin, flanges, ribs, machined bright faces, bores."""
    x, y = plane((side, side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    if chance(style, 0.6):
        distance = r - side * 0.46
    else:
        distance = _polygon(x, y, int(style.choice([3, 4, 6])), side * 0.34) - side * style.uniform(0.01, 0.08)
    height = _dome(distance, side * 0.04, side * 0.04)
    rough = octaves(own, (side, side), side / style.uniform(20, 60), 3, 0.7)
    albedo = _flat(side, [style.uniform(0.25, 0.65)] * 3) * (1 + style.uniform(0.02, 0.1) * rough)[..., None]
    for _ in range(style.integers(1, 4)):
        a, b = np.sort(style.uniform(0.05, 0.45, 2)) * side
        band = _inside(np.maximum(r - b, a - r) / 1.5)
        height = height + band * side * style.normal(0, 0.03)
        if chance(style, 0.5):
            lines = np.interp(r, np.arange(side), own.standard_normal(side)).astype(np.float32)
            albedo = mix(albedo, _flat(side, [style.uniform(0.5, 0.85)] * 3) * (1 + 0.05 * lines)[..., None], band)
    ribs = int(style.integers(0, 9))
    if ribs > 1:
        curve = style.uniform(0, 3) * r / side
        rib = np.abs(np.mod(angle + curve, 2 * math.pi / ribs) - math.pi / ribs) * r
        height = height + side * 0.03 * np.clip((side * 0.02 - rib) / 2, 0, 1) * (r < side * 0.4) * (r > side * 0.1)
    bore = side * style.uniform(0.03, 0.15)
    distance = np.maximum(distance, bore - r)
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), max(0.6, side * 0.006)) + rough * side * style.uniform(
        0.0005, 0.004
    )
    return Part(albedo.astype(np.float32), height, _inside(distance), style.uniform(0.05, 0.5))


def plate(style: Rng, own: Rng, side: int) -> Part:
    """Make a stamped or cut sheet with holes, slots, folds and a mark."""
    x, y = plane((side, side))
    half_x, half_y, corner = side * style.uniform(0.2, 0.44), side * 0.44, side * style.uniform(0, 0.12)
    distance = (
        np.hypot(np.clip(np.abs(x) - half_x + corner, 0, None), np.clip(np.abs(y) - half_y + corner, 0, None)) - corner
    )
    distance = np.maximum(distance, np.maximum(np.abs(x) - half_x, np.abs(y) - half_y))
    for _ in range(style.integers(0, 7)):
        hx, hy, hr = (
            style.uniform(-0.9, 0.9) * half_x,
            style.uniform(-0.9, 0.9) * half_y,
            side * style.uniform(0.015, 0.09),
        )
        slot = style.choice([0, style.uniform(0, 0.1)]) * side
        distance = np.maximum(distance, hr - np.hypot(np.clip(np.abs(x - hx) - slot, 0, None), y - hy))
    height = _dome(distance, 2.5, 2)
    for _ in range(style.integers(0, 3)):
        fold = style.uniform(-0.4, 0.4) * side
        height = height + np.clip((y if chance(style, 0.5) else x) - fold, 0, side * 0.06) * style.uniform(-0.6, 0.6)
    albedo = _flat(side, _metal(style) if chance(style, 0.6) else any_colour(style))
    brush = turned(own, (side, side), 1, side * 0.3, style.choice([0, math.pi / 2]))
    albedo = albedo * (1 + style.uniform(0.005, 0.06) * brush)[..., None]
    if chance(style, 0.4):
        mark = _text(own, side, style, (side / 2, side * style.uniform(0.25, 0.75)), side * style.uniform(0.05, 0.12))
        albedo = mix(albedo, any_colour(style) * 0.7, mark * style.uniform(0.3, 1))
    return Part(_grainy(own, albedo, 0.02), height.astype(np.float32), _inside(distance), style.uniform(0.05, 0.6))


def odd(style: Rng, own: Rng, side: int) -> Part:
    """Make a moulded part of arbitrary smooth outline with raised and sunk features."""
    x, y = plane((side, side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = sum(style.normal(0, 0.25 / k**1.3) * np.cos(k * angle + style.uniform(0, 6.28)) for k in range(1, 7))
    distance = r - side * (0.36 + 0.1 * np.tanh(outline))
    height = _dome(distance, side * style.uniform(0.02, 0.3), side * style.uniform(0.02, 0.12))
    albedo = _flat(side, any_colour(style))
    for _ in range(style.integers(1, 6)):
        fx, fy = style.uniform(-0.25, 0.25, 2) * side
        bound = side * style.uniform(0.02, 0.12)
        d = (
            np.hypot(x - fx, y - fy) - bound
            if chance(style, 0.5)
            else np.maximum(np.abs(x - fx), np.abs(y - fy)) - bound
        )
        height = height + side * style.normal(0, 0.03) * np.clip(0.5 - d / 2, 0, 1)
        if chance(style, 0.3):
            albedo = mix(albedo, any_colour(style), _inside(d))
        elif chance(style, 0.2):
            distance = np.maximum(distance, -d)
    return Part(
        _grainy(own, albedo.astype(np.float32), 0.02),
        height.astype(np.float32),
        _inside(distance),
        style.uniform(0, 0.8),
    )


PARTS: tuple[tuple[Maker, tuple[str, ...], float], ...] = (
    (disc, ("ring", "washer", "disc", "metal part"), 1.3),
    (hex_nut, ("nut", "metal nut", "fastener"), 0.9),
    (gear, ("gear", "wheel", "part"), 0.9),
    (screw, ("screw", "bolt"), 1.3),
    (pill, ("pill", "tablet", "capsule"), 1.2),
    (baked, ("cookie", "biscuit", "food"), 1.1),
    (kernel, ("hazelnut", "nut", "bean", "fruit"), 1.1),
    (bottle, ("bottle", "bottle cap", "can"), 1.1),
    (segmented, ("commutator", "stator", "part"), 0.8),
    (casting, ("casting", "cast part", "metal part"), 1.4),
    (plate, ("metal plate", "bracket", "part"), 1.2),
    (odd, ("part", "plastic part", "product", "object"), 1.2),
)
"""(maker, nouns for it, how often relative to the others)."""
