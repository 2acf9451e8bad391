"""The few charts of a report as inline SVG: no script, no fonts of their own, the same on paper. Every one says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

GOOD, BAD, OURS, OTHER, INK, FAINT, GRID = "#1d5fa8", "#b3400a", "#5b2a86", "#6b7280", "#1f2933", "#4b5563", "#dfe3e8"
RANGE = "#b9a3cf"
_WIDE, _HIGH = 340, 276
_DASHED = ' stroke-dasharray="5 4"'
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 22, 44


@dataclass(frozen=True, slots=True)
class Line:
    """points: (n, 2) in [0, 1]. dashed lines are what others are compared with."""

    name: str
    points: np.ndarray
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of intervals(): a value with its interval in percent, and another value to hold it against, if there is one."""

    name: str
    value: float
    low: float
    high: float
    other: float | None = None


def curves(lines: Sequence[Line], across: str, up: str, words: str) -> str:
    """Lines over a unit square; axes in percent, named `across` and `up`. words: the chart for who cannot see it."""
    parts = [_grid(across, up)]
    x = float(_LEFT)
    for line in sorted(lines, key=lambda one: one.dashed):
        look = f'stroke="{OTHER if line.dashed else OURS}" stroke-width="2.2"' + (_DASHED if line.dashed else "")
        points = " ".join(f"{_x(px):.1f},{_y(py):.1f}" for px, py in line.points.tolist())
        parts.append(f'<polyline points="{points}" fill="none" {look}/>')
        if len(lines) > 1:  # a legend above
            parts.append(f'<path d="M{x} 8H{x + 26}" {look}/>')
            parts.append(_text(x + 32, 12, line.name))
            x += 48 + 6.5 * len(line.name)
    return _svg(parts, _WIDE, _HIGH, words)


def histogram(good: np.ndarray, bad: np.ndarray, threshold: float | None, words: str, bins: int = 32) -> str:
    """Scores in [0, 1]: of good pictures upwards, of defective ones downwards, and where the threshold lies."""
    low, high = _span(np.concatenate([good, bad, [] if threshold is None else [threshold]]))
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(scores, edges)[0] / max(1, len(scores)) for scores in (good, bad)]
    tallest = max(float(share.max()) for share in shares)
    middle, room = (_TOP + _HIGH - _BOTTOM) / 2, (_HIGH - _TOP - _BOTTOM) / 2 - 18
    width = _WIDE - _LEFT - _RIGHT
    parts = []
    for share, colour, upwards in ((shares[0], GOOD, True), (shares[1], BAD, False)):
        for number in np.flatnonzero(share).tolist():
            tall = room * float(share[number]) / tallest
            top = middle - tall if upwards else middle
            parts.append(_box(_LEFT + number * width / bins + 0.5, top, width / bins - 1, tall, colour))
    parts.append(_rule(_LEFT, middle, _WIDE - _RIGHT, middle, INK))
    parts.append(_text(_LEFT, _TOP + 8, f"good ({len(good)})", colour=GOOD, weight=600))
    parts.append(_text(_LEFT, _HIGH - _BOTTOM - 2, f"defective ({len(bad)})", colour=BAD, weight=600))
    for value in _ticks(low, high):
        x = _LEFT + (value - low) / (high - low) * width
        parts.append(_text(x, _HIGH - _BOTTOM + 16, f"{value:g}", anchor="middle", colour=FAINT))
    parts.append(_text(_LEFT + width / 2, _HIGH - 8, "score of the picture", anchor="middle", colour=FAINT))
    if threshold is not None:
        x = _LEFT + (threshold - low) / (high - low) * width
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HIGH - _BOTTOM}" stroke="{INK}" stroke-width="1.6"{_DASHED}/>')
        left = x > _WIDE / 2
        where, anchor = (x - 5, "end") if left else (x + 5, "start")
        parts.append(_text(where, _TOP + 24, f"threshold {threshold:.3f}", anchor=anchor))
    return _svg(parts, _WIDE, _HIGH, words)


def intervals(rows: Sequence[Bar], words: str) -> str:
    """A dot with its interval a row, in percent, and a hollow one for what it is held against."""
    wide, left, right, step = 680, 170, 60, 26
    low = 40 if all(min(one.low, one.value, one.other or 100) >= 40 for one in rows) else 0
    high = len(rows) * step

    def at(value: float) -> float:
        return left + (value - low) / (100 - low) * (wide - left - right)

    parts = []
    for value in range(low, 101, 10):
        parts.append(_rule(at(value), 4, at(value), high + 4, FAINT if value == 50 else GRID))
        parts.append(_text(at(value), high + 20, f"{value}", anchor="middle", colour=FAINT))
    for number, one in enumerate(rows):
        y = 4 + step * (number + 0.5)
        name = one.name if len(one.name) < 24 else f"{one.name[:20]}..."
        parts.append(_text(left - 10, y + 4, name, anchor="end"))
        parts.append(_box(at(one.low), y - 3, max(1.0, at(one.high) - at(one.low)), 6, RANGE))
        if one.other is not None:
            parts.append(
                f'<circle cx="{at(one.other):.1f}" cy="{y}" r="5" fill="#fff" stroke="{OTHER}" stroke-width="2"/>'
            )
        parts.append(f'<circle cx="{at(one.value):.1f}" cy="{y}" r="5" fill="{OURS}"/>')
        parts.append(_text(wide - right + 12, y + 4, f"{one.value:.1f}", weight=600))
    return _svg(parts, wide, high + 28, words)


def _grid(across: str, up: str) -> str:
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts += [_rule(_x(value), _y(0), _x(value), _y(1), GRID), _rule(_x(0), _y(value), _x(1), _y(value), GRID)]
        parts.append(_text(_x(value), _y(0) + 15, f"{100 * value:g}", anchor="middle", colour=FAINT))
        parts.append(_text(_x(0) - 6, _y(value) + 4, f"{100 * value:g}", anchor="end", colour=FAINT))
    parts.append(_text(_x(0.5), _HIGH - 8, f"{across}, %", anchor="middle", colour=FAINT))
    turned = _text(0, 0, f"{up}, %", anchor="middle", colour=FAINT)
    return "".join([*parts, f'<g transform="translate(12 {_y(0.5):.1f}) rotate(-90)">{turned}</g>'])


def _x(share: float) -> float:
    return _LEFT + share * (_WIDE - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HIGH - _TOP - _BOTTOM)


def _span(scores: np.ndarray) -> tuple[float, float]:
    """From where to where an axis reaches that shows them all, within [0, 1]."""
    low, high = float(scores.min()), float(scores.max())
    pad = max(0.02, 0.04 * (high - low))
    return max(0.0, low - pad), min(1.0, high + pad)


def _ticks(low: float, high: float) -> list[float]:
    step = next(one for one in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / one <= 7)
    return [round(number * step, 2) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _rule(x0: float, y0: float, x1: float, y1: float, colour: str) -> str:
    return f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="{colour}"/>'


def _box(x: float, y: float, wide: float, high: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, weight: int = 400) -> str:
    look = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def _svg(parts: Sequence[str], wide: int, high: int, words: str) -> str:
    return f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(words)}" font-size="12">{"".join(parts)}</svg>'
