"""Painting one defect, with its exact mask, on any good picture. The kinds of defect are in kinds.py."""

from __future__ import annotations

import math

import cv2
import numpy as np

from trainer.synthesis.defects.coverage import blob
from trainer.synthesis.defects.kinds import DEFECTS
from trainer.synthesis.defects.site import Site
from trainer.synthesis.noise import Array, Rng, blurred, chance, log_uniform

_TRIES = 8
_KINDS = tuple(DEFECTS)
_SHARES = np.cumsum([defect.weight for defect in DEFECTS.values()]) / sum(defect.weight for defect in DEFECTS.values())
_BOLD = 0.25
"""Share of the defects that are large and strong: broken-off halves, spilt paint, a crack across the picture."""
_FAINTEST = 5.0
"""Gray levels below which a change does not count as visible, however smooth the picture."""


def paint_defect(
    rng: Rng, pixels: Array, foreground: Array, donor: Array | None = None, kind: str | None = None
) -> tuple[Array, Array, str]:
    """Paint one defect, in 12 % of the pictures two to four times.

    Painting is retried with growing strength until the change is visible; after the last try a plain spot is painted.

    Args:
        rng: decides everything.
        pixels: uint8 RGB (H, W, 3), the good picture.
        foreground: bool (H, W), where the product lies.
        donor: another picture, uint8 RGB, to take foreign texture from; default the picture itself.
        kind: a key of DEFECTS; default a random one.

    Returns the picture with the defect, a mask bool (H, W) of the visibly changed pixels, and the kind.
    """
    noise = _noise(pixels)
    donor = pixels if donor is None else donor
    painted, mask, kind = _paint_once(rng, pixels, foreground, donor, kind, noise)
    if chance(rng, 0.12):
        for _ in range(int(rng.integers(1, 4))):
            painted, more, _ = _paint_once(rng, painted, foreground, donor, kind, noise)
            mask = mask | more
    return painted, mask, kind


def _paint_once(
    rng: Rng, pixels: Array, foreground: Array, donor: Array, kind: str | None, noise: float
) -> tuple[Array, Array, str]:
    # A monochrome camera records no coloured defects; the few left coloured are for gray products and colour cameras.
    gray = _is_gray(pixels) and chance(rng, 0.85)
    for attempt in range(_TRIES):
        chosen = kind or _KINDS[int(np.searchsorted(_SHARES, rng.random()))]
        site, top, left = _site(rng, pixels, foreground, donor, chosen, noise, 1.0 + attempt / 2)
        changed, coverage = DEFECTS[chosen].paint(rng, site)
        if not DEFECTS[chosen].strays and chance(rng, 0.9):
            changed = site.patch + (changed - site.patch) * site.ground[..., None]
        if gray:
            changed = np.repeat(changed.mean(2, keepdims=True), 3, axis=2)
        mask = _visible(site, changed, coverage, DEFECTS[chosen].thin)
        if np.count_nonzero(mask) >= max(4, (site.extent * 0.25) ** 2 * 0.2) and _stands_out(
            site, changed, mask, DEFECTS[chosen].swaps
        ):
            return _pasted(pixels, changed, mask, top, left, chosen)
    spot = blob(rng, site.shape, site.centre, site.extent, 0.3, 0.8)
    tone = 235.0 if site.patch.mean() < 127 else 20.0
    changed = site.patch + (tone - site.patch) * spot[..., None]
    mask = np.abs(changed - site.patch).max(2) > _FAINTEST
    if not mask.any():
        mask[int(site.centre[1]), int(site.centre[0])] = True
        changed[mask] = tone
    return _pasted(pixels, changed, mask, top, left, kind or "contamination")


def _pasted(pixels: Array, changed: Array, mask: Array, top: int, left: int, kind: str) -> tuple[Array, Array, str]:
    h, w = mask.shape
    painted, whole_mask = pixels.copy(), np.zeros(pixels.shape[:2], bool)
    painted[top : top + h, left : left + w] = cv2.convertScaleAbs(np.clip(changed, 0, 255).astype(np.float32))
    whole_mask[top : top + h, left : left + w] = mask
    return painted, whole_mask, kind


def _noise(pixels: Array) -> float:
    """Return the typical difference of neighbouring pixels in gray levels, from the green channel of every second row."""
    green = pixels[::2, :, 1].astype(np.int16)
    if green.shape[1] < 2:
        return 1.0
    return float(np.abs(np.diff(green, axis=1)).mean())


def _is_gray(pixels: Array) -> bool:
    few = pixels[::4, ::4]
    return bool((few[..., 0] == few[..., 1]).all() and (few[..., 1] == few[..., 2]).all())


def _site(
    rng: Rng, pixels: Array, foreground: Array, donor: Array, kind: str, noise: float, boost: float
) -> tuple[Site, int, int]:
    """Choose a site for a kind of defect; `boost` raises its least size and contrast. Returns also its top and left."""
    h, w = pixels.shape[:2]
    side, defect = min(h, w), DEFECTS[kind]
    smallest = min(max(3.0, side * 0.02) * boost, side * 0.3)
    largest = max(smallest, side * defect.longest)
    extent = max(log_uniform(rng, smallest, largest), log_uniform(rng, smallest, largest) if chance(rng, 0.6) else 0.0)
    if defect.longest > 0.4:
        extent = max(extent, min(side * 0.06, side * defect.longest))
    bold = chance(rng, _BOLD)
    if bold:
        extent = side * rng.uniform(0.3, 1.2 if defect.longest > 0.7 else min(0.8, max(0.4, 1.6 * defect.longest)))
    x, y = _spot(rng, foreground, chance(rng, defect.edge))
    reach = math.ceil(extent * 0.62) + 4
    top, left, bottom, right = max(0, y - reach), max(0, x - reach), min(h, y + reach + 1), min(w, x + reach + 1)
    patch = pixels[top:bottom, left:right].astype(np.float32)
    ground = foreground[top:bottom, left:right].astype(np.float32)
    faint = min(max(12.0, 1.8 * noise) * boost, 90.0)
    contrast = rng.uniform(50, 210) if bold else log_uniform(rng, faint, 160.0)
    centre = (float(x - left), float(y - top))
    return Site(patch, ground, centre, extent, contrast, noise, pixels, donor), top, left


def _spot(rng: Rng, foreground: Array, edge: bool) -> tuple[int, int]:
    """Choose a pixel (x, y) of the product, or with `edge` of its outline; in a few cases anywhere."""
    h, w = foreground.shape
    if edge:
        inside = foreground.astype(np.uint8)
        rim = np.flatnonzero(
            inside != cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        )
        if len(rim):
            at = int(rim[rng.integers(len(rim))])
            return at % w, at // w
    for _ in range(24 if chance(rng, 0.96) else 1):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        if foreground[y, x]:
            return x, y
    inside_at = np.flatnonzero(foreground)
    at = int(inside_at[rng.integers(len(inside_at))]) if len(inside_at) else int(rng.integers(h * w))
    return at % w, at // w


def _stands_out(site: Site, changed: Array, mask: Array, swaps: bool) -> bool:
    """Return whether an inspector could see the change: it must rise above the texture it lies in.

    One that replaces texture by texture (`swaps`) must change something larger than the texture's grain, or its strength.
    """
    before, after = site.patch[..., 1], np.clip(changed[..., 1], 0, 255).astype(np.float32)
    if not swaps:
        grain = before - blurred(before, 2.0)
        rough = 1.48 * float(np.median(np.abs(grain[::2, ::2]))) + 3.0
        shift = float(np.abs(changed - site.patch).max(2)[mask].mean())
        return shift * min(2.0, max(0.6, math.sqrt(np.count_nonzero(mask)) / 9)) > 1.2 * rough
    ratio = (after[mask].std() + 1.5) / (before[mask].std() + 1.5)
    if max(ratio, 1 / ratio) > 1.4:
        return True
    coarse = max(1.0, site.extent / 8)
    moved = blurred(after - before, coarse)[mask]
    return float(np.sqrt((moved * moved).mean())) > 7.0


def _visible(site: Site, after: Array, coverage: Array, thin: bool) -> Array:
    """Return the mask (h, w) of visibly changed pixels; in a solid defect also those that look unchanged by chance."""
    change = np.abs(np.clip(after, 0, 255) - site.patch).max(2)
    floor = min(max(_FAINTEST, 0.6 * site.noise), 16.0)
    core = change[coverage > 0.5]
    level = max(floor, 0.3 * float(core.mean() if core.size else change.max()))
    strong = (blurred(change, 0.6) > level).astype(np.uint8)
    span = 3 if thin else 2 * int(np.clip(site.extent * 0.07, 1, 7)) + 1
    around = cv2.copyMakeBorder(strong, span, span, span, span, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(around, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (span, span)))
    closed = closed[span:-span, span:-span]
    return (closed > 0) & ((coverage > 0.25) | (change > level))
