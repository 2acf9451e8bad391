"""A page that shows every picture that a station gets wrong. It loads nothing and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_agent.core import Reading
from edge_agent.evidence.overlay import overlay
from edge_agent.line.judge import Rules, judge
from trainer.report.rendering import render
from trainer.station.choice import Measured
from trainer.station.pictures import PictureSet
from trainer.station.table import notes, rows

WIDEST = 640  # pixels of a picture on the page
MOST = 60  # pictures of a kind that the page shows, the worst first


@dataclass(frozen=True, slots=True)
class Wrong:
    """One picture on the page: its name, score and a JPEG as a data address."""

    name: str
    score: str
    picture: str


def station_page(
    name: str, chosen: Measured, found: Sequence[Measured], pictures: PictureSet, map_threshold: float
) -> str:
    """Render the page as HTML.

    Args:
        name: of the station.
        chosen: what the station looks with.
        found: all that were measured.
        pictures: that they were measured on.
        map_threshold: of the overlays, in (0, 1].
    """
    rules = Rules(chosen.threshold, map_threshold)
    candidate = chosen.candidate
    rejected = sorted(np.flatnonzero(chosen.rejected), key=lambda at: -candidate.scores[at])
    missed = sorted(np.flatnonzero(chosen.missed), key=lambda at: candidate.bad[at])

    def good(at: int) -> Wrong:
        pixels = pictures.as_seen_again(at)
        return _wrong(pictures.paths[at].name, pixels, candidate.reader(at).read([pixels])[0], rules)

    def bad(at: int) -> Wrong:
        one = pictures.bad[at]
        detector = candidate.detector if one.painted_on is None else candidate.reader(one.painted_on)
        pixels = one.decode()
        words = one.path.name if one.painted_on is None else f"{one.path.name}, with a painted defect"
        return _wrong(words, pixels, detector.read([pixels])[0], rules)

    return render(
        "station.html",
        name=name,
        rows=list(rows(found, chosen)),
        notes=list(notes(found, chosen, pictures)),
        rejected=[good(int(at)) for at in rejected[:MOST]],
        missed=[bad(int(at)) for at in missed[:MOST]],
        more_rejected=max(0, len(rejected) - MOST),
        more_missed=max(0, len(missed) - MOST),
        skipped=pictures.skipped,
    )


def _wrong(name: str, pixels: np.ndarray, reading: Reading, rules: Rules) -> Wrong:
    verdict = judge(reading, rules, pixels.shape)
    drawn = overlay(pixels, reading, verdict, threshold=rules.threshold, map_threshold=rules.map_threshold, title=name)
    scale = WIDEST / max(drawn.shape[:2])
    if scale < 1:
        drawn = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return Wrong(name, f"{reading.score:.4f}", f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}")
