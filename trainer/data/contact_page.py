"""A page with some pictures of a labelled set: each whole with its defect outlined, and beside it the defect enlarged, unmarked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.evidence.header import FAINT, INK, PAPER
from edge_agent.evidence.overlay import centred, scaled
from edge_agent.evidence.text import line_height, shorten, write
from trainer.data.outline import outline

_TILE = (180, 240)  # (H, W) in pixels
_GAP, _SEPARATOR, _TEXT = 14, 4, 15
_WIDTH = 2 * _TILE[1] + _SEPARATOR
_HEIGHT = _TILE[0] + 6 + line_height(_TEXT)
_COLUMNS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry of the page: both views side by side, (180, 484, 3) uint8 RGB, and a title, which is shortened to fit."""

    views: np.ndarray
    title: str


def make_entry(pixels: np.ndarray, mask: np.ndarray, title: str) -> Entry:
    """Make the entry of one picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, of at least one pixel.
        title: text below it.
    """
    whole = scaled(pixels, _shape(pixels))
    outline(whole, mask)
    detail = _detail(pixels, mask)
    between = np.full((_TILE[0], _SEPARATOR, 3), PAPER, np.uint8)
    views = [centred(whole, _TILE), between, centred(scaled(detail, _shape(detail)), _TILE)]
    return Entry(np.hstack(views), title)


def contact_page(entries: Sequence[Entry], title: str, subtitle: str) -> np.ndarray:
    """Return the page, (H, W, 3) uint8 RGB.

    Args:
        entries: in the order of the page.
        title: its first line.
        subtitle: its second line.
    """
    lines = ((title, _TEXT + 5, INK), (subtitle, _TEXT + 1, FAINT))
    top = 2 * _GAP + sum(line_height(size) for _, size, _ in lines)
    rows = -(-len(entries) // _COLUMNS)
    width = _GAP + _COLUMNS * (_WIDTH + _GAP)
    page = np.full((top + rows * (_HEIGHT + _GAP), width, 3), PAPER, np.uint8)
    y = _GAP
    for text, size, colour in lines:
        write(page, _GAP, y, shorten(text, size, width - 2 * _GAP), size, colour)
        y += line_height(size)
    for number, one in enumerate(entries):
        y, x = top + number // _COLUMNS * (_HEIGHT + _GAP), _GAP + number % _COLUMNS * (_WIDTH + _GAP)
        page[y : y + _TILE[0], x : x + _WIDTH] = one.views
        write(page, x, y + _TILE[0] + 6, shorten(one.title, _TEXT, _WIDTH), _TEXT, INK)
    return page


def _detail(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a cut around the defect with some surroundings, of the tile's shape where the picture is large enough."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    size = max(1.5 * h / _TILE[0], 1.5 * w / _TILE[1], 0.5)  # never more than doubled
    cut = []
    for start, long, side, tile in zip((y, x), (h, w), mask.shape, _TILE, strict=True):
        span = min(side, round(size * tile))
        first = min(max(0, start + long // 2 - span // 2), side - span)
        cut.append(slice(first, first + span))
    return pixels[tuple(cut)]


def _shape(pixels: np.ndarray) -> tuple[int, int]:
    """Return the largest (H, W) of the picture's shape that fits into a tile."""
    (h, w), (H, W) = pixels.shape[:2], _TILE
    scale = min(H / h, W / w)
    return max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale)))
