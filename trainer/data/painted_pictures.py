"""Labelled pictures made from the user's own good ones: defects painted onto them, as sharp as the pictures, with exact masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, decode
from trainer.data.examples import Skipped
from trainer.data.foreground import foreground
from trainer.synthesis import paint_defect

P_DEFECT = 0.5
_SCALES = (4.0, 3.0, 2.0, 1.5)  # factors by which a picture may be reduced before painting, the largest first
_SOFT = 1.25  # pixels, see softness()
_LEAST_SIDE = 64  # pixels


def painted_pictures(
    good: Sequence[Path], numbers: range, seed: int, skipped: list[Skipped]
) -> Iterator[tuple[np.ndarray, np.ndarray, str | None]]:
    """Yield pictures of an endless series by number, about half of them with a defect, at their own size.

    Picture n is the same whichever others are made.

    Args:
        good: files of good pictures.
        numbers: which pictures of the series.
        seed: of the series.
        skipped: good pictures that cannot be read are added to it, once each.

    Yields pixels (H, W, 3) uint8 RGB, mask (H, W) bool and kind of defect, None for none. Raises EdgeAgentError when no good
    picture can be read.
    """
    broken: set[Path] = set()
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        order = rng.permutation(len(good))
        pixels = _first(good, order, broken, skipped)
        if rng.random() >= P_DEFECT:
            yield pixels, np.zeros(pixels.shape[:2], bool), None
            continue
        yield paint_picture(rng, pixels, _first(good, rng.permutation(order), broken, skipped))


def paint_picture(
    rng: np.random.Generator, pixels: np.ndarray, donor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Paint a defect on a picture, as sharp as the picture is.

    A picture that is not sharp is reduced until it is, painted on, and the change enlarged: on a soft picture, edges
    sharper than the camera's would give the defect away.

    Args:
        rng: decides the defect.
        pixels: (H, W, 3) uint8 RGB, the good picture.
        donor: another picture, of any size, for foreign texture.

    Returns the picture with the defect, its mask (H, W) bool and its kind.
    """
    h, w = pixels.shape[:2]
    scale = _scale(pixels)
    small = pixels if scale == 1 else _shrunk(pixels, (round(w / scale), round(h / scale)))
    changed, mask, kind = paint_defect(rng, small, foreground(small), _shrunk(donor, small.shape[1::-1]))
    if scale == 1:
        return changed, mask, kind
    change = cv2.resize(cv2.subtract(changed, small, dtype=cv2.CV_16S), (w, h), interpolation=cv2.INTER_LINEAR)
    cover = cv2.resize(mask.view(np.uint8) * np.uint8(255), (w, h), interpolation=cv2.INTER_LINEAR)
    return cv2.add(pixels, change, dtype=cv2.CV_8U), cover >= min(128, int(cover.max())), kind


def softness(gray: np.ndarray) -> float:
    """Estimate the sigma in pixels by which the steepest edges of a picture (H, W) uint8 are blurred.

    About 0.8 where they are as steep as pixels allow, less in noise. It follows from how much less steep they get when the
    picture is blurred again by one pixel (Zhuo and Sim, "Defocus map estimation from a single image", 2011).
    """
    plain = gray.astype(np.float32)
    before, after = (_steepness(one) for one in (plain, cv2.GaussianBlur(plain, (0, 0), 1.0)))
    edges = before >= np.quantile(before, 0.995)
    ratio = float(np.median(before[edges] / np.maximum(after[edges], 1e-3)))
    return 1 / max(ratio**2 - 1, 1e-2) ** 0.5


def _steepness(gray: np.ndarray) -> np.ndarray:
    return cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))


def _scale(pixels: np.ndarray) -> float:
    """Return the factor by which the picture can be reduced without loss. At full size its noise would hide that it is soft."""
    h, w = pixels.shape[:2]
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    for scale in _SCALES:
        size = (round(w / scale), round(h / scale))
        if min(size) >= _LEAST_SIDE and softness(_shrunk(gray, size)) > _SOFT:
            return scale
    return 1.0


def _shrunk(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _first(good: Sequence[Path], order: np.ndarray, broken: set[Path], skipped: list[Skipped]) -> np.ndarray:
    """Return the first picture in this order that can be read."""
    for index in order:
        path = good[int(index)]
        if path in broken:
            continue
        try:
            return decode(path, min_side=MIN_SIDE)
        except PictureError as error:
            broken.add(path)
            skipped.append(Skipped.by(error, path))
    raise EdgeAgentError(
        f"{good[0].parent}: none of the {len(good)} good pictures can be read; the first: {skipped[0].path}: {skipped[0].reason}"
    )
