"""A journal with pictures for the page to show, small and whole."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_agent.core import AlarmEvent, Evaluation, Inspection
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.journal.rows import RecordedInspection
from tests.line import inspected
from tests.made import gradient

TEN = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


def part(minute: int, evaluation: Evaluation, score: float, **more: object) -> Inspection:
    """Build an inspection of a picture with known pixels, so many minutes after ten o'clock."""
    alarm = AlarmEvent.RAISED if evaluation is Evaluation.NOT_OK else None
    return inspected(
        alarm,
        evaluation=evaluation,
        score=score,
        pixels=gradient(48, 64, seed=minute),
        taken_at=TEN.replace(hour=10 + minute // 60, minute=minute % 60),
        **more,  # type: ignore[arg-type]
    )


def shift() -> list[Inspection]:
    """Build two hours of two stations: good parts, one of them borderline, defects, and one that could not be judged."""
    return [
        part(0, Evaluation.OK, 0.1),
        part(5, Evaluation.NOT_OK, 0.9, part_id="SN-bad-1"),
        part(10, Evaluation.OK, 0.6, part_id="SN-border"),
        part(15, Evaluation.OK, 0.2, station="cam2"),
        part(20, Evaluation.NOT_OK, 0.8, part_id="SN-bad-2", station="cam2"),
        part(65, Evaluation.NOT_OK, 0.7, part_id="SN-bad-3"),
    ]


def journal_of(folder: Path, inspections: Sequence[Inspection]) -> list[RecordedInspection]:
    """Record inspections with their pictures in FOLDER/journal.db, and return them as recorded, in their order."""
    store = EvidenceStore(folder / "evidence", originals="all", overlays="all")
    with closing(Journal.open(f"sqlite:///{folder}/journal.db")) as journal:
        for one in inspections:
            assert journal.record(one, store.save(one), [])
        by_id = {one.id: one for one in journal.inspections()}
    return [by_id[one.id] for one in inspections]


def mean(pixels: np.ndarray) -> list[int]:
    """Return the mean colour of a picture."""
    return [round(value) for value in pixels.reshape(-1, 3).mean(axis=0)]
