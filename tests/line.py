"""What a line gives the journal: inspections, their files and messages, made up but whole."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
from uuid6 import uuid7

from edge_agent.core import (
    AlarmEvent,
    Evaluation,
    Evidence,
    Frame,
    Inspection,
    Message,
    Reading,
    Region,
    SavedFile,
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
) -> Inspection:
    """An inspection of a 48 x 64 picture: NotOK with two regions when the alarm is raised or repeated, else OK."""
    number = next(_count)
    bad = alarm in (AlarmEvent.RAISED, AlarmEvent.REPEATED)
    frame = Frame(
        station,
        number,
        taken_at or NOON + timedelta(seconds=number),
        np.zeros((48, 64, 3), np.uint8),
        part_id=f"SN{number}",
        origin=None if file is None else file.path,
        file=file,
    )
    return Inspection(
        str(uuid7()),
        frame,
        # A detector's score is NumPy's, not Python's.
        Reading(np.float32(0.875 if bad else 0.25), np.zeros((6, 8), np.float32)),
        Verdict(Evaluation.NOT_OK if bad else Evaluation.OK, DEFECTS if bad else (), None, alarm),
        0.62,
        0.5,
        TRACE,
        {"read": 31.5, "judge": 0.25},
        simulated,
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
    inspection = inspected()
    frame = replace(inspection.frame, pixels=np.zeros((0, 0, 3), np.uint8), fault=reason)
    verdict = Verdict(Evaluation.NOT_DECIDABLE, reason=reason)
    return replace(inspection, frame=frame, reading=None, verdict=verdict)
