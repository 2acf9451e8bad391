"""Where the part lies in an unlabelled picture."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 128  # pixels of the longer side at which the picture is analysed
_LIGHTNESS = 0.5  # weight of lightness beside hue, as shadows do not belong to the part
_COLOURS = 5  # most colours of a background: a tray, its edge, a reflection
_RARE = 0.06  # share of the border below which a colour does not belong to the background
_LEAST_DISTANCE = 8.0  # CIE Lab: what differs less from its background counts as texture, not as a part


def foreground(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) bool, where the part lies: where colours are not those of the border; everywhere if nothing stands out.

    pixels: (H, W, 3) uint8 RGB. The result depends on them alone.
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
    if found.any():  # what differs far less than the rest is a shadow
        found = distance > max(level / 4, 0.4 * float(distance[found].mean()))
    part = _solid(found.astype(np.uint8))
    if not 0.05 < part.mean() < 0.95 or part[frame].mean() > 0.4:
        return whole
    inside, outside = float(distance[part].mean()), float(distance[~part].mean())
    if inside < max(_LEAST_DISTANCE, 4 * outside):
        return whole
    return cv2.resize(part.view(np.uint8) * np.uint8(255), (w, h), interpolation=cv2.INTER_LINEAR) > 127


def _background(border: np.ndarray) -> np.ndarray:
    """Return the frequent colours (n, 3) of the border (N, 3) float32."""
    cv2.setRNGSeed(0)
    enough = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    none: np.ndarray = np.empty(0, np.int32)
    _, labels, centres = cv2.kmeans(border, _COLOURS, none, enough, 2, cv2.KMEANS_PP_CENTERS)
    shares = np.bincount(np.asarray(labels).ravel(), minlength=_COLOURS) / len(border)
    return np.asarray(centres)[shares > _RARE]


def _solid(found: np.ndarray) -> np.ndarray:
    """Remove specks and slivers and fill holes. found: (H, W) uint8, 0 or 1. Returns (H, W) bool."""
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(found)
    cv2.drawContours(filled, [one for one in contours if cv2.contourArea(one) >= 0.02 * found.size], -1, 1, -1)
    return filled > 0
