"""Inspections as the pipeline makes them, for tests of what comes after it."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import uuid6

from edge_agent.core import AlarmEvent, Evaluation, Frame, Inspection, Reading, Region, Trace, Verdict

NOON = datetime(2026, 11, 20, 12, 0, 0, 250, tzinfo=timezone.utc)
SHA256 = "0123456789abcdef" * 4


def inspection(
    evaluation: Evaluation = Evaluation.NOT_OK,
    alarm: AlarmEvent | None = AlarmEvent.RAISED,
    score: float | None = 0.873,
    *,
    station: str = "cam1",
    part_id: str | None = "SN123",
    trigger_id: str | None = None,
    regions: tuple[Region, ...] = (),
    reason: str | None = None,
    simulated: bool = False,
) -> Inspection:
    """A 60 x 40 picture, inspected; score None: it could not be read."""
    return Inspection(
        id=str(uuid6.uuid7()),
        frame=Frame(station, 7, NOON, np.zeros((40, 60, 3), np.uint8), part_id=part_id, trigger_id=trigger_id),
        reading=None if score is None else Reading(score, np.zeros((4, 6), np.float32)),
        verdict=Verdict(evaluation, regions, reason, alarm),
        threshold=0.62,
        map_threshold=0.5,
        trace=Trace("tipsomaly/tips-l14", SHA256, SHA256, "c12", SHA256),
        simulated=simulated,
    )
