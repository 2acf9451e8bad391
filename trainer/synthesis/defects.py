"""Kinds of defect: each paints one on a patch of any picture. Where it lies and what its mask is, `spoil` decides.

A painter is (rng, site) -> (patch changed, coverage): float32 RGB (h, w, 3) in [0, 255] and (h, w) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis import marks
from trainer.synthesis.noise import Array, Rng, blurred, chance, field, log_uniform, octaves, relief, turned


@dataclass(frozen=True, eq=False)
class Site:
    """Where a defect goes: the patch cut out (float32 (h, w, 3), [0, 255]), what of it is product, how it should look.

    ground: float32 (h, w), 1 on the product. centre: (x, y) in the patch. extent: pixels. contrast: gray levels.
    noise: gray levels between neighbouring pixels. pixels, donor: the whole picture and another, uint8 RGB.
    """

    patch: Array
    ground: Array
    centre: tuple[float, float]
    extent: float
    contrast: float
    noise: float
    pixels: Array
    donor: Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.patch.shape[0], self.patch.shape[1]


Painter = Callable[[Rng, Site], tuple[Array, Array]]


def _over(patch: Array, paint: Array, alpha: Array) -> Array:
    return patch + (paint - patch) * alpha[..., None]


def _mean(site: Site, alpha: Array) -> Array:
    """Mean colour (3,) under the coverage."""
    return np.array(cv2.mean(site.patch, (alpha > 0.3).astype(np.uint8))[:3], np.float32)


def _sign(rng: Rng, mean: Array, contrast: float, dark: float = 0.6) -> float:
    """Darker (-1) or brighter (+1), as there is room for."""
    level = float(np.mean(mean))
    if level < 0.7 * contrast:
        return 1.0
    if level > 255 - 0.7 * contrast:
        return -1.0
    return -1.0 if chance(rng, dark) else 1.0


def _hue(rng: Rng, p: float = 0.3) -> Array:
    """Relative strength of a shift in R, G, B: mostly the same, with probability p coloured."""
    if not chance(rng, p):
        return np.ones(3, np.float32)
    hue = rng.uniform(-0.6, 1, 3)
    return (hue / max(np.abs(hue).max(), 1e-3)).astype(np.float32)


def _soft(rng: Rng) -> float:
    return log_uniform(rng, 0.35, 1.1)


def _paint(rng: Rng, site: Site, alpha: Array, tone: Array) -> Array:
    """Something of another colour: see-through (the texture goes on beneath) or opaque with a grain of its own."""
    if chance(rng, 0.45):
        return site.patch + (tone - _mean(site, alpha)) * alpha[..., None]
    keep = rng.uniform(0, 0.5)
    own = tone + keep * (site.patch - _mean(site, alpha))
    grain = (1 - keep) * min(site.noise, 12.0) * field(rng, site.shape, rng.uniform(1, 2))
    return _over(site.patch, own + grain[..., None], alpha)


def scratch(rng: Rng, site: Site) -> tuple[Array, Array]:
    width = log_uniform(rng, 0.6, max(1.0, site.extent * 0.05))
    alpha = blurred(marks.scratches(rng, site.shape, site.centre, site.extent, width), _soft(rng))
    mean = _mean(site, alpha)
    sign = _sign(rng, mean, site.contrast, 0.4)
    changed = site.patch + (sign * site.contrast * alpha)[..., None] * _hue(rng, 0.15)
    if width > 1.5 and chance(rng, 0.6):
        changed = changed * relief(alpha * width * rng.uniform(-1, 1), rng.uniform(0, 6.28), 1.2)[..., None]
    return changed, alpha


def crack(rng: Rng, site: Site) -> tuple[Array, Array]:
    width = log_uniform(rng, 0.6, max(1.0, site.extent * 0.05))
    alpha = marks.crack(rng, site.shape, site.centre, site.extent, width)
    alpha = blurred(alpha, _soft(rng) * 0.8)
    sign = -1.0 if float(_mean(site, alpha).mean()) > 0.6 * site.contrast else 1.0
    changed = site.patch + (sign * site.contrast * alpha)[..., None]
    if chance(rng, 0.4):
        rim = np.roll(alpha, (int(rng.integers(-2, 3)), int(rng.choice([-1, 1]))), (0, 1)) * (1 - alpha)
        changed = changed + (rng.uniform(0.1, 0.5) * site.contrast * rim)[..., None]
        alpha = np.maximum(alpha, rim)
    return changed, alpha


def broken(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A wide gap with crumbling sides that shows what lies beneath; the edges may stand up."""
    alpha = marks.crack(rng, site.shape, site.centre, site.extent, log_uniform(rng, 1.5, max(2.0, site.extent * 0.16)))
    rough = blurred(alpha, max(0.6, site.extent * 0.02)) + 0.12 * octaves(rng, site.shape, max(3.0, site.extent / 8), 3)
    gap = np.clip((rough - 0.35) * 6, 0, 1) * (cv2.dilate(alpha, np.ones((5, 5))) > 0.05)
    under, deep = _beneath(rng, site)
    changed = _over(site.patch, under, gap)
    if deep:
        changed = changed * relief(-gap * rng.uniform(0.5, 3), rng.uniform(0, 6.28), 0.8)[..., None]
    return changed, gap


def _beneath(rng: Rng, site: Site) -> tuple[Array, bool]:
    """What shows where product is gone (the background if near, else a dark or pale inside); whether it is deep."""
    if site.ground.min() < 0.5 and chance(rng, 0.8):
        behind = (1 - site.ground)[..., None]
        blur = max(1.0, site.extent * 0.3)
        total = blurred(1 - site.ground, blur)
        mean = (site.patch * behind).sum((0, 1)) / max(float(behind.sum()), 1e-3)
        filled = (blurred(site.patch * behind, blur) + 0.02 * mean) / (total + 0.02)[..., None]
        grain = min(site.noise, 6.0) * field(rng, site.shape, 1.2)
        return filled + grain[..., None], chance(rng, 0.3)
    mean = site.patch.mean((0, 1))
    sign = _sign(rng, mean, site.contrast, 0.75)
    rough = octaves(rng, site.shape, max(3.0, site.extent / 5), 3) * site.contrast * rng.uniform(0.02, 0.25)
    tone = mean + sign * site.contrast * _hue(rng, 0.2)
    return tone + rough[..., None] + (site.patch - mean) * rng.uniform(0, 0.4), True


def hole(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Pit, pore or blowhole: dark within, one side lit, the other in shade."""
    alpha = marks.blob(rng, site.shape, site.centre, site.extent, rng.choice([0.0, 0.3, 0.7]), _soft(rng) + 0.5)
    mean = _mean(site, alpha)
    tone = mean + _sign(rng, mean, site.contrast, 0.88) * site.contrast
    changed = _over(site.patch, tone + rng.uniform(0, 0.3) * (site.patch - mean), alpha)
    depth = blurred(alpha, max(0.7, site.extent * rng.uniform(0.02, 0.08)))
    lit = relief(-depth * site.extent * rng.uniform(0.02, 0.2), rng.uniform(0, 6.28), rng.uniform(0.3, 1.2))
    return changed * (1 + (lit - 1) * np.clip(depth * 2, 0, 1))[..., None], np.maximum(
        alpha, np.clip(depth * 1.3, 0, 1)
    )


def dent(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A shallow dip or bump: no colour of its own, only light and shade, and a slight bend of the texture."""
    alpha = marks.blob(
        rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.5), site.extent * rng.uniform(0.15, 0.5)
    )
    height = blurred(alpha, max(0.8, site.extent * rng.uniform(0.03, 0.12)))
    shade = relief(height * site.extent, rng.uniform(0, 6.28), rng.uniform(0.2, 1.0)) - 1
    shade = shade * np.float32(1.3 / max(float(np.abs(shade).max()), 1e-3))
    level = np.clip(site.patch, 40, 200) / max(float(np.clip(_mean(site, alpha), 40, 200).mean()), 1.0)
    changed, contrast = site.patch, min(site.contrast, 80.0)
    if chance(rng, 0.5):
        changed = _pushed(site, height, rng.uniform(-0.12, 0.12) * site.extent)
    return changed + contrast * shade[..., None] * level, np.clip(height * 1.5 + np.abs(shade), 0, 1)


def _pushed(site: Site, height: Array, reach: float) -> Array:
    y, x = np.mgrid[0 : site.shape[0], 0 : site.shape[1]].astype(np.float32)
    aside_x, aside_y = (x - site.centre[0]) / site.extent, (y - site.centre[1]) / site.extent
    move = np.float32(reach * 2) * height
    x, y = (x + aside_x * move).astype(np.float32), (y + aside_y * move).astype(np.float32)
    return cv2.remap(site.patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def contamination(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A lump, drop, crumb or paint of another colour, flat or raised, sometimes with a shadow or a gleam."""
    if chance(rng, 0.3):
        alpha = blurred(marks.chunk(rng, site.shape, site.centre, site.extent), _soft(rng))
    else:
        alpha = marks.blob(
            rng, site.shape, site.centre, site.extent, rng.uniform(0, 1), _soft(rng) + rng.choice([0.3, 2.0])
        )
    mean = _mean(site, alpha)
    if chance(rng, 0.25):
        tone = rng.uniform(0, 255, 3).astype(np.float32)
        changed = _over(site.patch, tone, alpha * rng.uniform(0.5, 1))
    else:
        changed = _paint(rng, site, alpha, mean + _sign(rng, mean, site.contrast) * site.contrast * _hue(rng, 0.4))
    if chance(rng, 0.5):
        height = blurred(alpha, max(0.7, site.extent * 0.08)) * site.extent * rng.uniform(0.02, 0.25)
        changed = changed * (1 + (relief(height, rng.uniform(0, 6.28), 0.8) - 1) * alpha)[..., None]
    return changed, alpha


def stain(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Soft, low and broad: a fluid that dried, sometimes with a darker rim; the texture shows through."""
    if chance(rng, 0.5):
        alpha = marks.haze(rng, site.shape, site.centre, site.extent * 1.15)
    else:
        alpha = marks.blob(
            rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.8), site.extent * rng.uniform(0.03, 0.4)
        )
        if chance(rng, 0.35):
            inner = blurred(alpha, max(1.0, site.extent * 0.05))
            alpha = alpha * (1 - rng.uniform(0.3, 0.8) * inner**3)
    strength = min(site.contrast, 70.0)
    sign = _sign(rng, _mean(site, alpha), strength, 0.65)
    shift = strength * _hue(rng, 0.45)
    if chance(rng, 0.5):
        factor = 1 + sign * alpha[..., None] * shift / np.maximum(_mean(site, alpha), 25)
        return site.patch * np.clip(factor, 0.1, 3), alpha
    return site.patch + sign * alpha[..., None] * shift, alpha


def spots(rng: Rng, site: Site) -> tuple[Array, Array]:
    alpha = blurred(marks.spatter(rng, site.shape, site.centre, site.extent), _soft(rng))
    mean = _mean(site, alpha)
    return _paint(rng, site, alpha, mean + _sign(rng, mean, site.contrast) * site.contrast * _hue(rng)), alpha


def streak(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A soft or sharp line along the picture, as rollers, fingers and nozzles leave: even, or broken into dashes."""
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
    sign = _sign(rng, _mean(site, alpha), strength, 0.55)
    shift = sign * strength * alpha
    if chance(rng, 0.3):
        shift = shift * (0.6 + 0.4 * field(rng, site.shape, 1.5))
    return site.patch + shift[..., None] * _hue(rng, 0.15), alpha


def _cover(rng: Rng, site: Site) -> Array:
    """A closed shape with a clean or faded edge."""
    draw = rng.random()
    if draw < 0.45:
        alpha = marks.blob(rng, site.shape, site.centre, site.extent, rng.uniform(0, 0.9), _soft(rng) + 0.4)
    elif draw < 0.75:
        alpha = marks.chunk(rng, site.shape, site.centre, site.extent)
    else:
        alpha = marks.box(rng, site.shape, site.centre, site.extent)
    blur = _soft(rng) if chance(rng, 0.7) else max(0.6, site.extent * rng.uniform(0.02, 0.1))
    return blurred(alpha, blur)


def _elsewhere(rng: Rng, site: Site, source: Array, turn: bool) -> Array:
    """A piece (h, w, 3) of the source from anywhere, maybe turned and scaled."""
    h, w = site.shape
    scale = log_uniform(rng, 0.6, 1.7) if turn else 1.0
    angle = rng.choice([0, 90, 180, 270, rng.uniform(0, 360)]) if turn else 0.0
    at = (rng.uniform(0.2, 0.8) * source.shape[1], rng.uniform(0.2, 0.8) * source.shape[0])
    matrix = cv2.getRotationMatrix2D(at, angle, scale)
    matrix[:, 2] += (w / 2 - at[0], h / 2 - at[1])
    return cv2.warpAffine(source, matrix, (w, h), borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)


def patchwork(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A piece of this or another picture where it does not belong, sometimes matched in brightness or see-through."""
    piece = _elsewhere(rng, site, site.donor if chance(rng, 0.5) else site.pixels, chance(rng, 0.7))
    alpha = _cover(rng, site)
    if chance(rng, 0.5):
        inside = (alpha > 0.3).astype(np.uint8)
        shift = np.asarray(cv2.mean(site.patch, inside)[:3]) - np.asarray(cv2.mean(piece, inside)[:3])
        offset = _sign(rng, _mean(site, alpha), site.contrast) * site.contrast * rng.uniform(0, 0.7)
        piece = piece + shift.astype(np.float32) + np.float32(offset)
    return _over(site.patch, piece, alpha * (1 if chance(rng, 0.7) else rng.uniform(0.4, 0.9))), alpha


def smear(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Wiped or blurred: texture drawn out along one direction."""
    alpha = _cover(rng, site)
    span = int(np.clip(site.extent * rng.uniform(0.1, 0.5), 3, 41))
    kernel = np.zeros((span, span), np.float32)
    way = rng.uniform(0, math.pi)
    half = (span - 1) / 2
    ends = [(round(half + s * half * math.cos(way)), round(half + s * half * math.sin(way))) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, max(1, span // 8))
    drawn = cv2.filter2D(site.patch, -1, kernel / kernel.sum())
    if chance(rng, 0.6):
        streak = cv2.filter2D(field(rng, site.shape, 1.5), -1, kernel / kernel.sum())
        drawn = drawn + (streak * site.contrast * rng.uniform(0.3, 1.5))[..., None] * _hue(rng, 0.2)
    if chance(rng, 0.5):
        drawn = drawn + _sign(rng, _mean(site, alpha), site.contrast) * site.contrast * rng.uniform(0.2, 0.8)
    return _over(site.patch, drawn, alpha), alpha


def warp(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Bulge, pinch, swirl or buckle of what is there."""
    alpha = marks.blob(rng, site.shape, site.centre, site.extent, 0, site.extent * 0.4)
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
    """A bite out of the product: background, or a rough inside, shows."""
    cover = (marks.blob if chance(rng, 0.6) else _angular)(
        rng, site.shape, site.centre, site.extent, rng.uniform(0.2, 1.0), 1.0
    )
    alpha = cover * site.ground
    under, deep = _beneath(rng, site)
    changed = _over(site.patch, under, alpha)
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
    return blurred(marks.chunk(rng, shape, centre, extent), 0.3 + 0.4 * soft)


def chip(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A splinter off an edge: facets of bare material, lighter or darker than the skin."""
    alpha = blurred(marks.chunk(rng, site.shape, site.centre, site.extent), _soft(rng))
    alpha = alpha * site.ground
    mean = _mean(site, alpha)
    sign = _sign(rng, mean, site.contrast, 0.35)
    facets = relief(
        octaves(rng, site.shape, max(3.0, site.extent / 3), 3) * site.extent * 0.07, rng.uniform(0, 6.28), 0.6
    )
    tone = (mean + sign * site.contrast * 0.8 * _hue(rng, 0.15)) * facets[..., None]
    return _over(site.patch, tone + rng.uniform(0, 0.3) * (site.patch - mean), alpha), alpha


def discolouration(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Another hue, saturation or contrast of the same texture: burnt, faded, bleached, oxidised."""
    alpha = blurred(_cover(rng, site), max(0.6, site.extent * rng.uniform(0.01, 0.12)))
    mean = _mean(site, alpha)
    gain = np.float32(log_uniform(rng, 0.4, 1.8))
    shift = _sign(rng, mean, site.contrast) * site.contrast * _hue(rng, 0.6)
    return _over(site.patch, mean + (site.patch - mean) * gain + shift, alpha), alpha


def wear(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Rubbed, frayed or rough: a patch of broken-up texture, in flecks or streaks."""
    area = marks.blob(rng, site.shape, site.centre, site.extent, 0.8, site.extent * rng.uniform(0.05, 0.3))
    cell = log_uniform(rng, 1, max(1.5, site.extent / 8))
    long = cell * log_uniform(rng, 1, 8)
    grain = (
        turned(rng, site.shape, cell, long, rng.uniform(0, math.pi))
        if chance(rng, 0.5)
        else field(rng, site.shape, cell)
    )
    flecks = np.clip(grain * 1.5 + rng.uniform(-0.8, 0.8), 0, 1)
    sign = _sign(rng, _mean(site, area), site.contrast, 0.45)
    changed = site.patch + (sign * site.contrast * area * flecks)[..., None] * _hue(rng, 0.15)
    if chance(rng, 0.4):
        soft = blurred(site.patch, rng.uniform(1, 3))
        changed = changed + (soft - site.patch) * (area * rng.uniform(0.3, 1))[..., None]
    return changed, area


def thread(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Hair, fibre or loose thread lying on top, perhaps with its shadow."""
    width = log_uniform(rng, 0.6, max(1.0, min(site.extent * 0.05, 5.0)))
    line = marks.hair(rng, site.shape, site.centre, site.extent, width)
    alpha = blurred(line, _soft(rng) * 0.8)
    mean = _mean(site, alpha)
    changed = site.patch
    cover = alpha
    if chance(rng, 0.4):
        shadow = blurred(np.roll(line, (2, 1), (0, 1)), 1.2) * rng.uniform(0.1, 0.4)
        changed = changed * (1 - shadow)[..., None]
        cover = np.maximum(alpha, np.clip(shadow * 2, 0, 1))
    tone = mean + _sign(rng, mean, site.contrast, 0.5) * site.contrast * _hue(rng, 0.4)
    return _over(changed, tone, alpha), cover


def misprint(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Ink where none belongs, doubled or smudged marks, bars and letters."""
    draw = rng.random()
    if draw < 0.35:
        dx, dy = (int(v) for v in np.round(rng.normal(0, max(1.5, site.extent * 0.08), 2)))
        moved = np.roll(site.patch, (dy, dx), (0, 1))
        alpha = _cover(rng, site)
        return _over(site.patch, np.minimum(site.patch, moved) if chance(rng, 0.7) else moved, alpha), alpha
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
    alpha = blurred(canvas.astype(np.float32) / 255, _soft(rng))
    mean = site.patch.mean((0, 1))
    return site.patch + (_sign(rng, mean, site.contrast) * site.contrast * alpha)[..., None] * _hue(rng), alpha


def extra(rng: Rng, site: Site) -> tuple[Array, Array]:
    """A foreign thing lies there: a washer, ball, rod or chip, shaded and with a shadow."""
    draw = rng.random()
    if draw < 0.4:
        alpha = marks.blob(rng, site.shape, site.centre, site.extent, 0, 0.8)
        if chance(rng, 0.5):
            alpha = (
                alpha - marks.blob(rng, site.shape, site.centre, site.extent * rng.uniform(0.3, 0.7), 0, 0.8) * alpha
            )
    elif draw < 0.7:
        alpha = marks.box(rng, site.shape, site.centre, site.extent)
    else:
        alpha = marks.chunk(rng, site.shape, site.centre, site.extent)
    alpha = blurred(alpha, _soft(rng))
    mean = _mean(site, alpha)
    azimuth = rng.uniform(0, 6.28)
    height = blurred(alpha, max(0.8, site.extent * rng.uniform(0.03, 0.15))) * site.extent * rng.uniform(0.05, 0.3)
    tone = mean + _sign(rng, mean, site.contrast, 0.5) * site.contrast * _hue(rng, 0.4)
    body = tone * relief(height, azimuth, 0.8)[..., None] + (2 * field(rng, site.shape, 1.2))[..., None]
    away = max(1, round(site.extent * 0.05))
    shadow = np.roll(alpha, (-round(away * math.sin(azimuth)), -round(away * math.cos(azimuth))), (0, 1))
    shadow = blurred(shadow, max(0.8, away * 0.7)) * rng.uniform(0, 0.6)
    changed = site.patch * (1 - shadow)[..., None]
    return _over(changed, body, alpha), np.maximum(alpha, np.clip(shadow * 2, 0, 1))


def absent(rng: Rng, site: Site) -> tuple[Array, Array]:
    """Something that should be there is gone: filled in with what surrounds it."""
    alpha = _cover(rng, site)
    blur = max(1.5, site.extent * 0.35)
    around = np.clip(1 - cv2.dilate(alpha, np.ones((3, 3), np.uint8)) * 1.5, 0, 1)
    total = blurred(around, blur)
    mean = (site.patch * around[..., None]).sum((0, 1)) / max(float(around.sum()), 1e-3)
    fill = (blurred(site.patch * around[..., None], blur) + 0.02 * mean) / (total + 0.02)[..., None]
    grain = min(site.noise, 8.0) * field(rng, site.shape, 1)
    return _over(site.patch, fill + grain[..., None], alpha), alpha


def misplaced(rng: Rng, site: Site) -> tuple[Array, Array]:
    """What is there sits turned, mirrored or shifted."""
    alpha = _cover(rng, site)
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
    return _over(site.patch, moved, alpha), alpha


@dataclass(frozen=True)
class Defect:
    """How a kind of defect is painted, called and placed.

    longest: of the picture's side. edge: how often it sits on the outline. strays: may leave the product.
    swaps: puts texture for texture, so that a plain difference of pixels says little about whether one sees it.
    thin: made of lines or dots, whose gaps are no part of it.
    """

    paint: Painter
    adjective: str
    noun: str
    weight: float = 1.0
    longest: float = 0.34
    edge: float = 0.0
    strays: bool = False
    swaps: bool = False
    thin: bool = False


DEFECTS: dict[str, Defect] = {
    "scratch": Defect(scratch, "scratched", "scratch", 1.3, 0.8, thin=True),
    "crack": Defect(crack, "cracked", "crack", 1.4, 1.0, 0.15, thin=True),
    "broken": Defect(broken, "broken", "break", 1.0, 0.9, 0.35),
    "hole": Defect(hole, "punctured", "hole", 1.1),
    "dent": Defect(dent, "dented", "dent", 1.0),
    "contamination": Defect(contamination, "contaminated", "contamination", 1.4, 0.34, 0.0, True),
    "streak": Defect(streak, "streaked", "streak", 0.9, 1.1),
    "stain": Defect(stain, "stained", "stain", 1.4, 0.45),
    "spots": Defect(spots, "spotted", "spots", 0.8, 0.5, thin=True),
    "patchwork": Defect(patchwork, "flawed", "foreign patch", 1.3, swaps=True),
    "smear": Defect(smear, "smeared", "smear", 0.8, swaps=True),
    "warp": Defect(warp, "deformed", "deformation", 0.8, swaps=True),
    "missing piece": Defect(missing, "incomplete", "missing piece", 1.1, 0.6, 0.6),
    "chip": Defect(chip, "chipped", "chipped edge", 0.9, 0.25, 0.7),
    "discolouration": Defect(discolouration, "discoloured", "discolouration", 1.2, 0.45),
    "wear": Defect(wear, "worn", "rough patch", 1.0, 0.4, 0.2),
    "thread": Defect(thread, "dirty", "thread", 0.8, 0.5, 0.0, True, thin=True),
    "misprint": Defect(misprint, "misprinted", "print error", 0.7, thin=True),
    "extra part": Defect(extra, "cluttered", "foreign object", 0.8, 0.3, 0.0, True),
    "missing part": Defect(absent, "incomplete", "missing part", 0.7, swaps=True),
    "misplaced part": Defect(misplaced, "misassembled", "misplaced part", 0.7, swaps=True),
}
