"""Draws the header above an overlay, and the card that replaces a missing picture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge_agent.core import Evaluation
from edge_agent.evidence.heat import bar
from edge_agent.evidence.text import line_height, shorten, width, wrap, write
from edge_agent.io.digits import told_apart

Colour = tuple[int, int, int]

INK: Colour = (238, 240, 242)
FAINT: Colour = (164, 170, 177)
PAPER: Colour = (26, 29, 33)
MAT: Colour = (44, 48, 53)
CARD: Colour = (96, 100, 105)

# Word and sign repeat what the colour says: one man in twelve cannot tell red from green.
_COLOURS = {
    Evaluation.OK: (20, 120, 84),
    Evaluation.NOT_OK: (208, 42, 36),
    Evaluation.NOT_DECIDABLE: (166, 104, 0),
    Evaluation.UNDEFINED: (96, 100, 105),
}
_SIGNS = {  # strokes in a square of 10 x 10
    Evaluation.OK: (((1, 5), (4, 8), (9, 2)),),
    Evaluation.NOT_OK: (((2, 2), (8, 8)), ((8, 2), (2, 8))),
    Evaluation.NOT_DECIDABLE: (((5, 1), (5, 6)), ((5, 9), (5, 9))),
    Evaluation.UNDEFINED: (((2, 5), (8, 5)),),
}


def header(
    wide: int,
    evaluation: Evaluation,
    *,
    score: float | None,
    threshold: float,
    map_threshold: float,
    title: str,
    reason: str | None,
) -> np.ndarray:
    """Draw the header as (H, wide, 3) uint8 RGB; its height depends on the width and on the lines of the reason.

    Args:
        wide: pixels, at least 480.
        evaluation: shown as a badge.
        score: image score; None or not finite reads "no score".
        threshold: the station's threshold of the score.
        map_threshold: the station's threshold of the map, in (0, 1]; marked on the colour scale.
        title: any text, shortened to fit.
        reason: any text, in up to three lines; None for none.
    """
    size = text_size(wide)
    line, gap = line_height(size), size // 2
    reasons = wrap(reason, size, wide - 2 * gap, lines=3) if reason else []
    strip = np.full((header_height(wide) + len(reasons) * line, wide, 3), PAPER, np.uint8)
    strip[-4:] = _COLOURS[evaluation]

    scale_wide = 8 * size
    right = wide - gap - scale_wide
    badge(strip, gap, gap, evaluation, size)
    x = 2 * gap + badge_width(evaluation, size)
    write(strip, x, gap, shorten(title, size, right - gap - x), size, INK)
    if score is not None and math.isfinite(score):
        numbers = "score {}   threshold {}".format(*told_apart(score, threshold))
    else:
        numbers = f"no score   threshold {threshold:.3f}"
    write(strip, gap, 2 * gap + line, shorten(numbers, size, right - 2 * gap), size, INK)
    _scale(strip[gap : 2 * gap + 2 * line, right : right + scale_wide], map_threshold, size)
    for i, text in enumerate(reasons):
        write(strip, gap, 2 * gap + (2 + i) * line, text, size, FAINT)
    return strip


def header_height(wide: int) -> int:
    """Return the height in pixels of a header of this width without a reason."""
    size = text_size(wide)
    return 3 * (size // 2) + 2 * line_height(size) + 4


def card(shape: tuple[int, int], reason: str | None) -> np.ndarray:
    """Draw a gray picture of shape (H, W) with the reason why there is no picture."""
    picture = np.full((*shape, 3), CARD, np.uint8)
    size = text_size(shape[1])
    text = wrap(reason or "no reason given", size, shape[1] - 4 * size, lines=8)
    y = (shape[0] - line_height(size) * (len(text) + 2)) // 2
    write(picture, 2 * size, y, "No picture", size * 5 // 4, INK)
    for i, line in enumerate(text, 2):
        write(picture, 2 * size, y + i * line_height(size), line, size, INK)
    return picture


def badge(canvas: np.ndarray, x: int, y: int, evaluation: Evaluation, size: int) -> None:
    """Draw the evaluation as word, sign and colour, line_height(size) high and badge_width() wide.

    Args:
        canvas: (H, W, 3) uint8 RGB, drawn on in place.
        x: left edge in pixels.
        y: top edge in pixels.
        evaluation: what to show.
        size: text size in pixels.
    """
    high, wide = line_height(size), badge_width(evaluation, size)
    canvas[y : y + high, x : x + wide] = _COLOURS[evaluation]
    unit, left, top = 0.075 * size, x + size // 2, y + (high - 0.75 * size) / 2
    for stroke in _SIGNS[evaluation]:
        points = [((left + px * unit) * 8, (top + py * unit) * 8) for px, py in stroke]
        cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, INK, max(2, size // 9), cv2.LINE_AA, 3)
    write(canvas, x + size // 2 + size, y, evaluation.value, size, INK)


def badge_width(evaluation: Evaluation, size: int) -> int:
    """Return the width of a badge in pixels."""
    return 2 * size + width(evaluation.value, size)


def text_size(wide: int) -> int:
    """Return the text size in pixels that is easy to read on a picture of this width, scaled to a screen."""
    return max(16, min(26, wide // 44))


def _scale(room: np.ndarray, map_threshold: float, size: int) -> None:
    """Draw the colour scale across the width of `room`, with map_threshold marked and its value below."""
    high, wide = line_height(size) * 5 // 8, room.shape[1]
    top = (line_height(size) - high) // 2
    room[top : top + high] = bar((high, wide), map_threshold, CARD)
    at = min(wide - 1, round(map_threshold * (wide - 1)))
    room[top - 2 : top + high + 5, max(0, at - 1) : at + 1] = INK

    small = size * 13 // 16
    name = f"{map_threshold:.2f}"
    y, middle = line_height(size) + 2, min(max(0, at - width(name, small) // 2), wide - width(name, small))
    write(room, middle, y, name, small, INK)
    if middle > width("0", small) + small:
        write(room, 0, y, "0", small, FAINT)
    if wide - width("1", small) > middle + width(name, small) + small:
        write(room, wide - width("1", small), y, "1", small, FAINT)
