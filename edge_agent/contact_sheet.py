"""Many inspections on one picture, the worst first; keeps a bounded number of small ones and counts the rest."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from edge_agent.core import Evaluation, Reading, Verdict
from edge_agent.header import FAINT, INK, PAPER, badge, badge_width
from edge_agent.lettering import line_height, shorten, write
from edge_agent.overlay import centred, paint

_TILE = (180, 240)  # pixels, (H, W)
_GAP, _TEXT = 12, 15
_ROW = _TILE[0] + 2 * line_height(_TEXT) + 6 + 2 * _GAP
_FEWEST, _MOST = 3, 8  # columns: the fewest leave room for the words on top

# What a person should look at first: defects, then pictures nothing could be said of, then good parts.
_ORDER = (Evaluation.UNDEFINED, Evaluation.OK, Evaluation.NOT_DECIDABLE, Evaluation.NOT_OK)


@dataclass(frozen=True, slots=True, order=True)
class _Rank:
    evaluation: int
    score: float
    newness: int  # of equals the first added comes first

    def __str__(self) -> str:
        return f"score {self.score:.3f}" if self.score >= 0 else "no score"


class ContactSheet:
    """Collects inspections for one overview: NotOK first, then NotDecidable, then OK, each by falling score.

    It holds the first `limit` (at least 1) in that order, some 130 kB each however large the pictures, and forgets
    the others.
    """

    def __init__(self, limit: int = 200) -> None:
        self._limit = limit
        self._counts: Counter[Evaluation] = Counter()
        self._tiles: list[tuple[_Rank, np.ndarray, str]] = []  # a heap, the least important one on top

    def add(
        self, pixels: np.ndarray, reading: Reading | None, verdict: Verdict, *, map_threshold: float, title: str = ""
    ) -> None:
        """Take in one inspection; the arguments are those of overlay()."""
        known = reading is not None and math.isfinite(reading.score)
        score = float(reading.score) if reading is not None and known else -1.0
        rank = _Rank(_ORDER.index(verdict.evaluation), score, -self._counts.total())
        self._counts[verdict.evaluation] += 1
        if len(self._tiles) == self._limit and rank < self._tiles[0][0]:
            return
        entry = (rank, _tile(pixels, reading, verdict, map_threshold), title)
        if len(self._tiles) < self._limit:
            heapq.heappush(self._tiles, entry)
        else:
            heapq.heapreplace(self._tiles, entry)

    def render(self) -> np.ndarray:
        """The sheet so far: (H, W, 3) uint8 RGB, what was counted on top and how many were left out."""
        tiles = sorted(self._tiles, key=lambda tile: tile[0], reverse=True)
        columns = max(_FEWEST, min(_MOST, math.ceil(math.sqrt(len(tiles)))))
        wide = _GAP + columns * (_TILE[1] + _GAP)
        top = 2 * _GAP + 2 * line_height(_TEXT + 5)
        sheet = np.full((top + math.ceil(len(tiles) / columns) * _ROW, wide, 3), PAPER, np.uint8)
        for i, text in enumerate(self.summary()):
            write(sheet, _GAP, _GAP + i * line_height(_TEXT + 5), text, _TEXT + 5 - 3 * i, (INK, FAINT)[i])
        for i, (rank, picture, title) in enumerate(tiles):
            y, x = top + i // columns * _ROW, _GAP + i % columns * (_TILE[1] + _GAP)
            sheet[y : y + _TILE[0], x : x + _TILE[1]] = picture
            y += _TILE[0] + 6
            evaluation = _ORDER[rank.evaluation]
            badge(sheet, x, y, evaluation, _TEXT)
            write(sheet, x + badge_width(evaluation, _TEXT) + _GAP, y, str(rank), _TEXT, INK)
            write(sheet, x, y + line_height(_TEXT) + 2, shorten(title, _TEXT, _TILE[1]), _TEXT, FAINT)
        return sheet

    def summary(self) -> tuple[str, str]:
        """The two lines on top of the sheet: what was counted, and how much of it is shown in which order."""
        seen, shown = self._counts.total(), len(self._tiles)
        counted = ", ".join(f"{self._counts[e]} {e.value}" for e in reversed(_ORDER) if self._counts[e])
        order = "NotOK first, then by score"
        left_out = f"{shown} shown, {seen - shown} left out" if shown < seen else "all shown"
        pictures = f"{seen} picture{'' if seen == 1 else 's'}"
        return (f"{pictures}: {counted}", f"{left_out}; {order}") if seen else ("No pictures", "")


def _tile(pixels: np.ndarray, reading: Reading | None, verdict: Verdict, map_threshold: float) -> np.ndarray:
    (h, w), (H, W) = pixels.shape[:2], _TILE
    if 0 in (h, w):
        return np.full((H, W, 3), 96, np.uint8)
    scale = min(H / h, W / w)
    shape = max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale)))
    return centred(paint(pixels, reading, verdict.regions, map_threshold, shape), _TILE)
