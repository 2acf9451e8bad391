"""The charts of a report as inline SVG: no script, no fonts of their own, the same on paper, each with a description in words.

Here are the coordinates; chart.svg turns them into markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from trainer.report.rendering import render

GOOD, BAD, OURS, OTHER, INK, FAINT, GRID = "#1d5fa8", "#b3400a", "#5b2a86", "#6b7280", "#1f2933", "#4b5563", "#dfe3e8"
RANGE = "#b9a3cf"
_WIDTH, _HEIGHT = 340, 276
_DASHES = {"stroke-dasharray": "5 4"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 22, 44


@dataclass(frozen=True, slots=True)
class Line:
    """points: (n, 2) in [0, 1]. Dashed lines are the ones to compare with."""

    name: str
    points: np.ndarray
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of intervals(): a value with its interval, and another value to compare with, if any; all in percent."""

    name: str
    value: float
    low: float
    high: float
    other: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One element of an SVG: its tag, its attributes, and the text inside."""

    tag: str
    attributes: Mapping[str, str | float]
    text: str = ""


def curves(lines: Sequence[Line], x_name: str, y_name: str, description: str) -> Markup:
    """Draw lines over a unit square, with axes in percent.

    Args:
        lines: at least one; two or more get a legend.
        x_name, y_name: names of the axes.
        description: the chart in words, for readers who cannot see it.
    """
    marks = _grid(x_name, y_name)
    x = float(_LEFT)
    for line in sorted(lines, key=lambda one: one.dashed):
        style = {"stroke": OTHER if line.dashed else OURS, "stroke-width": "2.2", **(_DASHES if line.dashed else {})}
        points = " ".join(f"{_x(px):.1f},{_y(py):.1f}" for px, py in line.points.tolist())
        marks.append(Mark("polyline", {"points": points, "fill": "none", **style}))
        if len(lines) > 1:  # a legend above
            marks.append(Mark("path", {"d": f"M{x} 8H{x + 26}", **style}))
            marks.append(_text(x + 32, 12, line.name))
            x += 48 + 6.5 * len(line.name)
    return _svg(marks, _WIDTH, _HEIGHT, description)


def histogram(good: np.ndarray, bad: np.ndarray, threshold: float | None, description: str, bins: int = 32) -> Markup:
    """Draw a histogram of scores, of good pictures upwards and of defective ones downwards, with the threshold.

    Args:
        good, bad: scores of good and defective pictures, (n,) and (m,) in [0, 1].
        threshold: in [0, 1], or None.
        description: the chart in words, for readers who cannot see it.
        bins: number of bins; default 32.
    """
    low, high = _span(np.concatenate([good, bad, [] if threshold is None else [threshold]]))
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(scores, edges)[0] / max(1, len(scores)) for scores in (good, bad)]
    tallest = max(float(share.max()) for share in shares)
    middle, room = (_TOP + _HEIGHT - _BOTTOM) / 2, (_HEIGHT - _TOP - _BOTTOM) / 2 - 18
    width = _WIDTH - _LEFT - _RIGHT
    marks = []
    for share, colour, upwards in ((shares[0], GOOD, True), (shares[1], BAD, False)):
        for number in np.flatnonzero(share).tolist():
            tall = room * float(share[number]) / tallest
            top = middle - tall if upwards else middle
            marks.append(_box(_LEFT + number * width / bins + 0.5, top, width / bins - 1, tall, colour))
    marks.append(_rule(_LEFT, middle, _WIDTH - _RIGHT, middle, INK))
    marks.append(_text(_LEFT, _TOP + 8, f"good ({len(good)})", colour=GOOD, weight=600))
    marks.append(_text(_LEFT, _HEIGHT - _BOTTOM - 2, f"defective ({len(bad)})", colour=BAD, weight=600))
    for value in _ticks(low, high):
        x = _LEFT + (value - low) / (high - low) * width
        marks.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{value:g}", anchor="middle", colour=FAINT))
    marks.append(_text(_LEFT + width / 2, _HEIGHT - 8, "score of the picture", anchor="middle", colour=FAINT))
    if threshold is not None:
        x = _LEFT + (threshold - low) / (high - low) * width
        style = {"stroke": INK, "stroke-width": "1.6", **_DASHES}
        marks.append(Mark("path", {"d": f"M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}", **style}))
        right_half = x > _WIDTH / 2
        label_x, anchor = (x - 5, "end") if right_half else (x + 5, "start")
        marks.append(_text(label_x, _TOP + 24, f"threshold {threshold:.3f}", anchor=anchor))
    return _svg(marks, _WIDTH, _HEIGHT, description)


def intervals(rows: Sequence[Bar], description: str) -> Markup:
    """Draw one row a bar: a dot with its interval, in percent, and a hollow dot for the value to compare with.

    The axis ends at 100 and begins at 40, or at 0 when anything lies below 40. description: the chart in words.
    """
    width, left, right, step = 680, 170, 60, 26
    low = 40 if all(min(one.low, one.value, one.other or 100) >= 40 for one in rows) else 0
    high = len(rows) * step

    def x_of(value: float) -> float:
        return left + (value - low) / (100 - low) * (width - left - right)

    marks = []
    for value in range(low, 101, 10):
        marks.append(_rule(x_of(value), 4, x_of(value), high + 4, FAINT if value == 50 else GRID))
        marks.append(_text(x_of(value), high + 20, f"{value}", anchor="middle", colour=FAINT))
    for number, one in enumerate(rows):
        y = 4 + step * (number + 0.5)
        name = one.name if len(one.name) < 24 else f"{one.name[:20]}..."
        marks.append(_text(left - 10, y + 4, name, anchor="end"))
        marks.append(_box(x_of(one.low), y - 3, max(1.0, x_of(one.high) - x_of(one.low)), 6, RANGE))
        if one.other is not None:
            hollow = {"fill": "#fff", "stroke": OTHER, "stroke-width": "2"}
            marks.append(Mark("circle", {"cx": f"{x_of(one.other):.1f}", "cy": y, "r": "5", **hollow}))
        marks.append(Mark("circle", {"cx": f"{x_of(one.value):.1f}", "cy": y, "r": "5", "fill": OURS}))
        marks.append(_text(width - right + 12, y + 4, f"{one.value:.1f}", weight=600))
    return _svg(marks, width, high + 28, description)


def _grid(x_name: str, y_name: str) -> list[Mark]:
    marks = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        marks += [_rule(_x(value), _y(0), _x(value), _y(1), GRID), _rule(_x(0), _y(value), _x(1), _y(value), GRID)]
        marks.append(_text(_x(value), _y(0) + 15, f"{100 * value:g}", anchor="middle", colour=FAINT))
        marks.append(_text(_x(0) - 6, _y(value) + 4, f"{100 * value:g}", anchor="end", colour=FAINT))
    marks.append(_text(_x(0.5), _HEIGHT - 8, f"{x_name}, %", anchor="middle", colour=FAINT))
    upright = _text(0, 0, f"{y_name}, %", anchor="middle", colour=FAINT)
    turn = {"transform": f"translate(12 {_y(0.5):.1f}) rotate(-90)"}
    return [*marks, Mark("text", {**upright.attributes, **turn}, upright.text)]


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)


def _span(scores: np.ndarray) -> tuple[float, float]:
    """Return the ends of an axis that shows all scores, within [0, 1]."""
    low, high = float(scores.min()), float(scores.max())
    pad = max(0.02, 0.04 * (high - low))
    return max(0.0, low - pad), min(1.0, high + pad)


def _ticks(low: float, high: float) -> list[float]:
    step = next(one for one in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / one <= 7)
    return [round(number * step, 2) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _rule(x0: float, y0: float, x1: float, y1: float, colour: str) -> Mark:
    return Mark("path", {"d": f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}", "stroke": colour})


def _box(x: float, y: float, width: float, height: float, colour: str) -> Mark:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return Mark("rect", {**place, "fill": colour})


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, weight: int = 400) -> Mark:
    style: dict[str, str | float] = {"text-anchor": anchor, "fill": colour, "font-weight": weight}
    return Mark("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **style}, words)


def _svg(marks: Sequence[Mark], width: int, height: int, description: str) -> Markup:
    return render("chart.svg", marks=marks, width=width, height=height, description=description)
