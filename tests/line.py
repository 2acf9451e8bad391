"""Inspections, their files, evidence and messages as the line makes them, made up but whole."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import EllipsisType
from uuid import uuid4

import numpy as np
from uuid6 import UUID, uuid7

from edge_agent.core import (
    AgentIdentity,
    AgentNow,
    AlarmEvent,
    AlarmKind,
    Evaluation,
    Evidence,
    Frame,
    Inspection,
    Message,
    Outbox,
    Reading,
    Region,
    SavedFile,
    SinkContext,
    SourceState,
    StationNow,
    StoredFile,
    Trace,
    Verdict,
)

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=timezone.utc)
TRACE = Trace("tipsomaly/tips-l14", "a" * 64, "b" * 64, "c12", "d" * 64)
DEFECTS = (Region((10, 20, 40, 30), 0.91, 812), Region((0, 0, 3, 2), 0.75, 5))
_count = itertools.count()


def stored_file(
    path: str = "/pictures/a.png", content: str = "a", inode: int = 7, mtime_ns: int = 10**18
) -> StoredFile:
    return StoredFile(path, inode, len(content), mtime_ns, hashlib.sha256(content.encode()).hexdigest())


def inspected(
    alarm: AlarmEvent | None = None,
    station: str = "cam1",
    file: StoredFile | None = None,
    taken_at: datetime | None = None,
    simulated: bool = False,
    *,
    evaluation: Evaluation | None = None,
    score: float | None = None,
    regions: tuple[Region, ...] | None = None,
    reason: str | None = None,
    part_id: str | EllipsisType | None = ...,
    trigger_id: str | None = None,
    pixels: np.ndarray | None = None,
    at: datetime | None = None,
) -> Inspection:
    """Build an inspection as the pipeline makes it. Each has a number, counted over all, as its seq and its part's name.

    Args:
        alarm: What it did to the station's alarm.
        station: The station's name.
        file: The file that the picture was read from.
        taken_at: When the picture was taken; default as many seconds after NOON as its number.
        simulated: Whether a replay made it.
        evaluation: Default NotOK when the alarm is raised or repeated, else OK.
        score: In [0, 1]; default 0.875 for NotOK, 0.25 for OK, and no reading for NotDecidable.
        regions: What is wrong; default DEFECTS for NotOK, else none.
        reason: Why it is NotDecidable.
        part_id: Default SN and its number.
        trigger_id: Of the signal that asked for the picture.
        pixels: (H, W, 3) uint8 RGB; default black, 48 x 64.
        at: When it was inspected, as its id says; default now.
    """
    number = next(_count)
    if evaluation is None:
        bad = alarm in (AlarmEvent.RAISED, AlarmEvent.REPEATED)
        evaluation = Evaluation.NOT_OK if bad else Evaluation.OK
    if score is None:  # a detector's is NumPy's, not Python's
        score = {Evaluation.NOT_OK: np.float32(0.875), Evaluation.OK: np.float32(0.25)}.get(evaluation)
    if regions is None:
        regions = DEFECTS if evaluation is Evaluation.NOT_OK else ()
    made = uuid7()
    if at is not None:
        made = UUID(int=made.int & ((1 << 80) - 1) | int(at.timestamp() * 1000) << 80)
    frame = Frame(
        station,
        number,
        taken_at or NOON + timedelta(seconds=number),
        np.zeros((48, 64, 3), np.uint8) if pixels is None else pixels,
        part_id=f"SN{number}" if part_id is ... else part_id,
        trigger_id=trigger_id,
        origin=None if file is None else file.path,
        file=file,
    )
    return Inspection(
        id=str(made),
        frame=frame,
        reading=None if score is None else Reading(score, np.zeros((6, 8), np.float32)),
        verdict=Verdict(evaluation, regions, reason, alarm),
        threshold=0.62,
        map_threshold=0.5,
        trace=TRACE,
        timings={"read": 31.5, "judge": 0.25},
        simulated=simulated,
    )


def message(inspection: Inspection, kind: str = "alarm") -> Message:
    payload = {"inspection": inspection.id, "score": 0.875, "regions": [{"bbox": [1, 2, 3, 4]}], "text": "Späne, 鉄"}
    return Message(str(uuid7()), kind, inspection.frame.station, payload)


def evidence(name: str = "1") -> Evidence:
    return Evidence(
        SavedFile(f"file:///evidence/{name}.png", "e" * 64, 12345),
        SavedFile(f"file:///overlay/{name}.png", "f" * 64, 9),
    )


def not_decidable(reason: str) -> Inspection:
    """An inspection of a file that holds no picture."""
    one = inspected(evaluation=Evaluation.NOT_DECIDABLE, reason=reason, pixels=np.zeros((0, 0, 3), np.uint8))
    return replace(one, frame=replace(one.frame, fault=reason))


IDENTITY = AgentIdentity("agent1", "0.1.0", str(uuid4()), str(uuid4()), NOON)


def context(
    outbox: Outbox,
    stations: Mapping[str, frozenset[AlarmKind]] | None = None,
    *,
    now: Callable[[], AgentNow] | None = None,
    twin: Callable[[str | None], None] = lambda text: None,
    **identity: str,
) -> SinkContext:
    """Build what a sink is built with.

    Args:
        outbox: Of whatever receiver.
        stations: The kinds of alarm that stand, by station; default cam1 and cam2 without any.
        now: How the agent is; default that its stations are up.
        twin: Is told of another agent of this name.
        identity: What is other than in IDENTITY; the instance is always its own.
    """
    states = {
        name: StationNow(TRACE, SourceState(True, NOON), kinds)
        for name, kinds in (stations or dict.fromkeys(("cam1", "cam2"), frozenset())).items()
    }
    own = replace(IDENTITY, **{"instance": str(uuid4()), **identity})
    return SinkContext(own, lambda receiver: outbox, now or (lambda: AgentNow("c" * 64, states)), twin)
