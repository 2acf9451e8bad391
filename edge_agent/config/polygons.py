"""Validates the polygons of a station's `include` and `ignore`; line/mask.py rasterises them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from edge_agent.settings.values import Fraction, invalid

Point = tuple[float, float]

MAX_POINTS = 200
_TINY = 1e-9  # of the picture's area: less than rounding of decimal fractions can leave


def without_closing_point(polygon: Sequence[Point]) -> tuple[Point, ...]:
    """Return the polygon without a last point that repeats the first one."""
    points = tuple(polygon)
    return points[:-1] if len(points) > 1 and points[0] == points[-1] else points


def fault_of(polygon: Sequence[Point]) -> str | None:
    """Return why this is no simple polygon with an area, or None if it is one. polygon: (x, y) fractions of the picture."""
    n = len(polygon)
    if n < 3:
        return f"has {n} points; a polygon needs at least 3"
    if n > MAX_POINTS:
        return f"has {n} points; at most {MAX_POINTS} are supported"
    if len(set(polygon)) < n:
        return "has the same point twice"
    edges = [(polygon[i], polygon[(i + 1) % n]) for i in range(n)]
    for (i, one), (j, other) in combinations(enumerate(edges), 2):
        neighbours = j - i == 1 or (i == 0 and j == n - 1)
        if not neighbours and _meet(*one, *other):
            return f"crosses itself: the sides after points {i + 1} and {j + 1} meet; list the points in order round it"
    if area(polygon) < _TINY:
        return "has no area: its points lie on one line"
    return None


def area(polygon: Sequence[Point]) -> float:
    """Return the area of a simple polygon, as a fraction of the picture's."""
    following = (*polygon[1:], polygon[0])
    return abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(polygon, following, strict=True))) / 2


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the segments a-b and c-d have a point in common."""
    turns = [_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)]
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _in_box(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(a: Point, b: Point, c: Point) -> int:
    """Return 1 if a, b, c turn left, -1 if right, 0 if they lie on one line."""
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return 0 if abs(area) < _TINY else (1 if area > 0 else -1)


def _in_box(a: Point, b: Point, c: Point) -> bool:
    """Return whether c lies in the axis-aligned box of a and b."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    points = without_closing_point(points)
    fault = fault_of(points)
    if fault:
        raise invalid(fault)
    return points


def _check_is_list(value: Any) -> Any:
    """Refuse `ignore: [[0, 0], [1, 0], [1, 1]]`: one polygon where a list of them is required."""
    if isinstance(value, list) and value and all(isinstance(x, list) and _flat(x) for x in value):
        raise invalid("is a single polygon: wants a list of them, so put one more pair of brackets around it")
    return value


def _flat(items: list[Any]) -> bool:
    return bool(items) and not any(isinstance(item, list | dict) for item in items)


Polygon = Annotated[tuple[tuple[Fraction, Fraction], ...], AfterValidator(_polygon)]
Polygons = Annotated[tuple[Polygon, ...], BeforeValidator(_check_is_list)]
