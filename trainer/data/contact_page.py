"""Some pictures of a labelled set on one page: each whole, its defect outlined, and beside it the defect from near, unmarked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.evidence.header import FAINT, INK, PAPER
from edge_agent.evidence.overlay import centred, scaled
from edge_agent.evidence.text import line_height, shorten, write
from trainer.data.outline import outline

_TILE = (180, 240)  # pixels, (H, W)
_GAP, _NEAR, _TEXT = 14, 4, 15
_WIDE = 2 * _TILE[1] + _NEAR
_TALL = _TILE[0] + 6 + line_height(_TEXT)
_COLUMNS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One place on the page: both views, (180, 484, 3) uint8 RGB, and any text, shortened to fit."""

    views: np.ndarray
    title: str


def shown(pixels: np.ndarray, mask: np.ndarray, title: str) -> Shown:
    """pixels: (H, W, 3) uint8 RGB. mask: (H, W) bool, of some pixel at least."""
    whole = scaled(pixels, _shape(pixels))
    outline(whole, mask)
    near = _near(pixels, mask)
    between = np.full((_TILE[0], _NEAR, 3), PAPER, np.uint8)
    views = [centred(whole, _TILE), between, centred(scaled(near, _shape(near)), _TILE)]
    return Shown(np.hstack(views), title)


def contact_page(places: Sequence[Shown], title: str, subtitle: str) -> np.ndarray:
    """The page (H, W, 3) uint8 RGB, under two lines of text."""
    lines = ((title, _TEXT + 5, INK), (subtitle, _TEXT + 1, FAINT))
    top = 2 * _GAP + sum(line_height(size) for _, size, _ in lines)
    rows = -(-len(places) // _COLUMNS)
    wide = _GAP + _COLUMNS * (_WIDE + _GAP)
    page = np.full((top + rows * (_TALL + _GAP), wide, 3), PAPER, np.uint8)
    y = _GAP
    for text, size, colour in lines:
        write(page, _GAP, y, shorten(text, size, wide - 2 * _GAP), size, colour)
        y += line_height(size)
    for number, one in enumerate(places):
        y, x = top + number // _COLUMNS * (_TALL + _GAP), _GAP + number % _COLUMNS * (_WIDE + _GAP)
        page[y : y + _TILE[0], x : x + _WIDE] = one.views
        write(page, x, y + _TILE[0] + 6, shorten(one.title, _TEXT, _WIDE), _TEXT, INK)
    return page


def _near(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A cut around the defect with some of what surrounds it, of the tile's shape where the picture is large enough."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    size = max(1.5 * h / _TILE[0], 1.5 * w / _TILE[1], 0.5)  # never more than doubled
    cut = []
    for start, long, side, tile in zip((y, x), (h, w), mask.shape, _TILE, strict=True):
        span = min(side, round(size * tile))
        first = min(max(0, start + long // 2 - span // 2), side - span)
        cut.append(slice(first, first + span))
    return pixels[tuple(cut)]


def _shape(pixels: np.ndarray) -> tuple[int, int]:
    (h, w), (H, W) = pixels.shape[:2], _TILE
    scale = min(H / h, W / w)
    return max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale)))
