"""Polygons become the mask of what is inspected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.polygons import fault_of
from edge_agent.errors import ConfigError
from edge_agent.line.mask import keep_mask

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
MIDDLE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))


def test_without_polygons_everything_counts() -> None:
    assert keep_mask((), (), 64) is None


def test_an_ignored_half_is_not_inspected() -> None:
    keep = keep_mask((), (LEFT,), 100)
    assert keep is not None
    assert (keep.shape, keep.dtype) == ((100, 100), bool)
    assert not keep[:, :50].any()
    assert keep[:, 51:].all()  # column 50 is touched by the outline


def test_only_what_is_included_counts_less_what_is_ignored() -> None:
    keep = keep_mask((LEFT,), (MIDDLE,), 100)
    assert keep is not None
    assert keep[50, 10]
    assert not keep[50, 40]
    assert not keep[50, 90]


def test_overlapping_polygons_add_up() -> None:
    keep = keep_mask((), (LEFT, MIDDLE), 100)
    assert keep is not None
    assert not keep[50, 40]


def test_an_included_polygon_smaller_than_a_pixel_still_counts() -> None:
    keep = keep_mask((((0.5, 0.5), (0.501, 0.5), (0.501, 0.501)),), (), 32)
    assert keep is not None
    assert keep.any()


def test_to_ignore_everything_is_an_error() -> None:
    with pytest.raises(ConfigError, match="leave nothing of the picture to inspect"):
        keep_mask((MIDDLE,), (WHOLE,), 64)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
def test_points_in_order_round_their_middle_make_a_polygon_or_have_no_area(points: list[tuple[float, float]]) -> None:
    points = sorted({(round(x, 3), round(y, 3)) for x, y in points})
    if len(points) < 3:
        return
    hull = _hull(points)
    assert (fault_of(hull) is None) == (len(hull) >= 3)


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Andrew's monotone chain, on points in order of x."""

    def half(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for p in points:
            while len(chain) > 1 and _area(chain[-2], chain[-1], p) <= 1e-7:
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return half(points) + half(points[::-1])


def _area(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
