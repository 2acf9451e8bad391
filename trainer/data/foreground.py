"""Where the part lies in a picture that nobody has labelled."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 128  # pixels at which is looked
_LIGHTNESS = 0.5  # against hue: shadows are no part
_COLOURS = 5  # of a background at most: a tray, its edge, a gleam
_RARE = 0.06  # share of the border below which a colour there is not the background's
_APART = 8.0  # CIE Lab: a part that stands out less from its background is taken for texture


def foreground(pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool, where the part lies: what has none of the border's colours; all of the picture where nothing stands out.

    pixels: (H, W, 3) uint8 RGB. The same for the same pixels.
    """
    h, w = pixels.shape[:2]
    whole = np.ones((h, w), bool)
    scale = _SIDE / max(h, w)
    size = (max(8, round(w * scale)), max(8, round(h * scale)))
    small = cv2.GaussianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) * np.array([_LIGHTNESS, 1, 1], np.float32)
    frame: np.ndarray = np.ones(lab.shape[:2], bool)
    frame[3:-3, 3:-3] = False
    distance = np.linalg.norm(lab[:, :, None] - _background(lab[frame]), axis=3).min(axis=2)
    level, _ = cv2.threshold(np.clip(distance * 4, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    found = distance > level / 4
    if found.any():  # what stands out far less than the rest is a shadow
        found = distance > max(level / 4, 0.4 * float(distance[found].mean()))
    part = _solid(found.astype(np.uint8))
    if not 0.05 < part.mean() < 0.95 or part[frame].mean() > 0.4:
        return whole
    inside, outside = float(distance[part].mean()), float(distance[~part].mean())
    if inside < max(_APART, 4 * outside):
        return whole
    return cv2.resize(part.view(np.uint8) * np.uint8(255), (w, h), interpolation=cv2.INTER_LINEAR) > 127


def _background(border: np.ndarray) -> np.ndarray:
    """The colours (n, 3) of the border (N, 3) float32 that are no rarity there."""
    cv2.setRNGSeed(0)
    enough = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    none: np.ndarray = np.empty(0, np.int32)
    _, labels, centres = cv2.kmeans(border, _COLOURS, none, enough, 2, cv2.KMEANS_PP_CENTERS)
    shares = np.bincount(np.asarray(labels).ravel(), minlength=_COLOURS) / len(border)
    return np.asarray(centres)[shares > _RARE]


def _solid(found: np.ndarray) -> np.ndarray:
    """(H, W) bool: without specks and slivers, its holes filled. found: uint8, 0 or 1."""
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(found)
    cv2.drawContours(filled, [one for one in contours if cv2.contourArea(one) >= 0.02 * found.size], -1, 1, -1)
    return filled > 0
