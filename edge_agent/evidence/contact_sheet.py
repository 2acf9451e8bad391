"""Draws many inspections on one contact sheet, the worst first; keeps a bounded number of tiles and counts the rest.

Each picture is shown as it is, and beside it with its map: a map alone may hide the defect that it marks.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.core import Evaluation, Reading, Verdict
from edge_agent.evidence.header import FAINT, INK, PAPER, badge, badge_width
from edge_agent.evidence.overlay import centred, cut, paint, scaled
from edge_agent.evidence.text import line_height, shorten, write
from edge_agent.io.digits import told_apart

_TILE = (180, 240)  # pixels, (H, W)
_GAP, _TEXT = 12, 15
_PAIR = 2 * _TILE[1] + 4  # pixels, the width of a picture and its map
_ROW = _TILE[0] + 2 * line_height(_TEXT) + 6 + 2 * _GAP
_MIN_COLUMNS, _MAX_COLUMNS = 2, 5  # fewer columns would leave too little width for the summary on top
_BORDERLINE = 5  # one tile in so many is kept for the OK pictures of the highest scores, however many are NotOK

# Rising order of importance: defects are shown first, then undecidable pictures, then good parts.
_ORDER = (Evaluation.UNDEFINED, Evaluation.OK, Evaluation.NOT_DECIDABLE, Evaluation.NOT_OK)

Drawn = Callable[[], np.ndarray]  # returns a tile of _TILE pixels, (H, W, 3) uint8 RGB
_Tile = tuple["_Rank", Drawn, Drawn, str]  # rank, the picture as it is, the picture with its map, title


@dataclass(frozen=True, slots=True, order=True)
class _Rank:
    evaluation: int
    score: float
    newness: int  # of equal inspections the first added comes first


class ContactSheet:
    """Collects inspections for one overview: NotOK first, then NotDecidable, then OK, each by falling score.

    It keeps a bounded number of them, some 260 kB each whatever the size of the pictures, and discards the others.
    """

    def __init__(self, limit: int = 200, *, threshold: float | None = None) -> None:
        """Start an empty sheet.

        Args:
            limit: the most pictures that are shown, at least 1; a fifth is for the OK ones that nearly were none.
            threshold: the station's threshold of the score, to be shown; None shows scores alone.
        """
        self._limit, self._threshold = limit, threshold
        self._counts: Counter[Evaluation] = Counter()
        self._ok: list[_Tile] = []  # heaps, the least important one on top
        self._others: list[_Tile] = []

    def add(
        self, pixels: np.ndarray, reading: Reading | None, verdict: Verdict, *, map_threshold: float, title: str = ""
    ) -> None:
        """Add one inspection.

        Args:
            pixels: (h, w, 3) uint8 RGB of any size; empty for no picture.
            reading: the detector's output; None draws the picture without a map.
            verdict: its evaluation decides the place on the sheet, its regions are framed.
            map_threshold: the station's threshold of the map, in (0, 1].
            title: text under the tile, shortened to fit; default "".
        """
        rank = self._counted(verdict.evaluation, reading.score if reading else None)
        if self._has_room(rank):
            picture = tile_of_picture(pixels)
            tile = _tile(pixels, reading, verdict, map_threshold)
            self._put(rank, lambda: picture, lambda: tile, title)

    def add_drawn(
        self, evaluation: Evaluation, score: float | None, picture: Drawn, drawn: Drawn, *, title: str = ""
    ) -> None:
        """Add one inspection that is drawn by the caller.

        Args:
            evaluation: decides the place on the sheet.
            score: image score; None when there was no reading.
            picture: returns the tile of the picture as it is, (180, 240, 3) uint8 RGB; called by render(), and only if the
                tile is shown.
            drawn: the same of the picture with its map.
            title: text under the tile, shortened to fit; default "".
        """
        rank = self._counted(evaluation, score)
        if self._has_room(rank):
            self._put(rank, picture, drawn, title)

    def _counted(self, evaluation: Evaluation, score: float | None) -> _Rank:
        known = score is not None and math.isfinite(score)
        rank = _Rank(
            _ORDER.index(evaluation), float(score) if score is not None and known else -1.0, -self._counts.total()
        )
        self._counts[evaluation] += 1
        return rank

    def _heap(self, rank: _Rank) -> list[_Tile]:
        return self._ok if _ORDER[rank.evaluation] is Evaluation.OK else self._others

    def _fullest(self, rank: _Rank) -> list[_Tile]:
        """Return the heap whose least important tile goes for one of this rank."""
        reserved = self._limit // _BORDERLINE
        if not self._others or len(self._ok) > reserved:
            return self._ok
        return self._others if self._heap(rank) is self._others or len(self._ok) < reserved else self._ok

    def _has_room(self, rank: _Rank) -> bool:
        if len(self._ok) + len(self._others) < self._limit:
            return True
        heap = self._fullest(rank)
        return heap is not self._heap(rank) or rank > heap[0][0]

    def _put(self, rank: _Rank, picture: Drawn, drawn: Drawn, title: str) -> None:
        if len(self._ok) + len(self._others) >= self._limit:
            heapq.heappop(self._fullest(rank))
        heapq.heappush(self._heap(rank), (rank, picture, drawn, title))

    def render(self) -> np.ndarray:
        """Draw the sheet as (H, W, 3) uint8 RGB, with the counts on top."""
        tiles = sorted([*self._ok, *self._others], key=lambda tile: tile[0], reverse=True)
        columns = max(_MIN_COLUMNS, min(_MAX_COLUMNS, math.ceil(math.sqrt(len(tiles)))))
        wide = _GAP + columns * (_PAIR + _GAP)
        top = 2 * _GAP + 2 * line_height(_TEXT + 5)
        sheet = np.full((top + math.ceil(len(tiles) / columns) * _ROW, wide, 3), PAPER, np.uint8)
        for i, text in enumerate(self.summary()):
            write(sheet, _GAP, _GAP + i * line_height(_TEXT + 5), text, _TEXT + 5 - 3 * i, (INK, FAINT)[i])
        for i, (rank, picture, drawn, title) in enumerate(tiles):
            y, x = top + i // columns * _ROW, _GAP + i % columns * (_PAIR + _GAP)
            sheet[y : y + _TILE[0], x : x + _TILE[1]] = picture()
            sheet[y : y + _TILE[0], x + _PAIR - _TILE[1] : x + _PAIR] = drawn()
            y += _TILE[0] + 6
            evaluation = _ORDER[rank.evaluation]
            badge(sheet, x, y, evaluation, _TEXT)
            write(sheet, x + badge_width(evaluation, _TEXT) + _GAP, y, self._said(rank.score), _TEXT, INK)
            write(sheet, x, y + line_height(_TEXT) + 2, shorten(title, _TEXT, _PAIR), _TEXT, FAINT)
        return sheet

    def _said(self, score: float) -> str:
        if score < 0:
            return "no score"
        if self._threshold is None:
            return f"score {score:.3f}"
        return "score {} of {}".format(*told_apart(score, self._threshold))

    def summary(self) -> tuple[str, str]:
        """Return the two lines on top of the sheet: the counts, and how many are shown in which order."""
        seen, shown = self._counts.total(), len(self._ok) + len(self._others)
        counted = ", ".join(f"{self._counts[e]} {e.value}" for e in reversed(_ORDER) if self._counts[e])
        order = "NotOK first, then by score; left the picture, right its map"
        if self._threshold is not None:
            order = f"threshold {self._threshold:.3f}; {order}"
        left_out = f"{shown} shown, {seen - shown} left out" if shown < seen else "all shown"
        pictures = f"{seen} picture{'' if seen == 1 else 's'}"
        return (f"{pictures}: {counted}", f"{left_out}; {order}") if seen else ("No pictures", "")


def tile_of_overlay(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Make a tile of an overlay (H, W, 3) uint8 RGB of a picture of shape (h, w), without its header."""
    if 0 in shape:
        return blank()
    return _fitted(shape, lambda size: scaled(cut(picture, shape), size))


def tile_of_picture(pixels: np.ndarray) -> np.ndarray:
    """Make a tile of a picture (H, W, 3) uint8 RGB as it is."""
    return blank() if 0 in pixels.shape[:2] else _fitted(pixels.shape, lambda shape: scaled(pixels, shape))


def blank() -> np.ndarray:
    """Return the tile of an inspection without a picture."""
    return np.full((*_TILE, 3), 96, np.uint8)


def _tile(pixels: np.ndarray, reading: Reading | None, verdict: Verdict, map_threshold: float) -> np.ndarray:
    if 0 in pixels.shape[:2]:
        return blank()
    return _fitted(pixels.shape, lambda shape: paint(pixels, reading, verdict.regions, map_threshold, shape))


def _fitted(shape: tuple[int, ...], paint_at: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """Paint a picture of that shape (h, w, ...) as large as fits into a tile, and centre it."""
    (h, w), (H, W) = shape[:2], _TILE
    scale = min(H / h, W / w)
    return centred(paint_at((max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale))))), _TILE)
