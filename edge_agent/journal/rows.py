"""Converts inspections and messages to rows of the journal, and rows back; accesses no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import numpy as np
from sqlalchemy import Row

from edge_agent.core import (
    AlarmEvent,
    Evaluation,
    Evidence,
    EvidenceState,
    Frame,
    Inspection,
    Message,
    OutboxRow,
    Reading,
    Region,
    SavedFile,
    StoredFile,
    Trace,
    Verdict,
    picture_title,
)


class LabelValue(str, Enum):
    """What a person says of an inspection. NONE undoes what was said of it before."""

    GOOD = "good"
    DEFECT = "defect"
    UNSURE = "unsure"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Label:
    """What somebody said of an inspection.

    number: counts labels in the order in which they were said. inspection: its id. kind: of the defect, in the user's words.
    box: (x, y, width, height) around the defect, in pixels of the inspected picture. said_at: UTC, aware. supersedes: the
    number of the label that held for this inspection before, which may be somebody else's.
    """

    number: int
    inspection: str
    station: str
    value: LabelValue
    kind: str | None
    box: tuple[int, int, int, int] | None
    who: str
    said_at: datetime
    note: str | None
    supersedes: int | None


@dataclass(frozen=True, slots=True, eq=False)
class RecordedInspection:
    """An inspection as the journal stores it: without the pixels and the heatmap.

    score: None when there was no reading. map_threshold: None in rows from before schema 0005. agent: its name, None in rows
    from before schema 0010. evidence: the files that
    still exist, as far as retention has reported deletions to the journal. timings: milliseconds by stage. label: what a
    person said of it and has not undone; only where reader.py reads it.
    """

    id: str
    station: str
    seq: int
    taken_at: datetime
    inspected_at: datetime
    part_id: str | None
    trigger_id: str | None
    origin: str | None
    width: int
    height: int
    score: float | None
    threshold: float
    map_threshold: float | None
    verdict: Verdict
    trace: Trace
    timings: Mapping[str, float]
    evidence: Evidence
    simulated: bool
    agent: str | None = None
    label: Label | None = None

    @property
    def title(self) -> str:
        """Return the name by which people know the picture."""
        return picture_title(self.station, self.seq, self.part_id, self.origin)

    def as_inspection(self) -> Inspection:
        """Return it as the line had it, but for the pixels, which are black, and the heatmap, which is empty."""
        pixels = np.broadcast_to(np.uint8(0), (self.height, self.width, 3))  # takes no memory
        frame = Frame(
            self.station,
            self.seq,
            self.taken_at,
            pixels,
            part_id=self.part_id,
            trigger_id=self.trigger_id,
            origin=self.origin,
        )
        return Inspection(
            self.id,
            frame,
            None if self.score is None else Reading(self.score, np.zeros((0, 0), np.float32)),
            self.verdict,
            self.threshold,
            self.threshold if self.map_threshold is None else self.map_threshold,
            self.trace,
            self.timings,
            self.simulated,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The part of an inspection that resuming a replay needs. overlay: its URI."""

    origin: str | None
    part_id: str | None
    taken_at: datetime
    width: int
    height: int
    evaluation: Evaluation
    score: float | None
    overlay: str | None


def ledger_row(station: str, file: StoredFile) -> dict[str, Any]:
    """Return the ledger row which records that `station` has inspected `file`."""
    row = {"station": station, **asdict(file)}
    del row["again"]
    return row


def inspection_row(inspection: Inspection, evidence: Evidence, now: datetime, agent: str) -> dict[str, Any]:
    """Return the row of one inspection without its number; regions have rows of their own.

    Args:
        inspection: what was inspected.
        evidence: its pictures on disk.
        now: when it is recorded, aware; stored as inspected_at.
        agent: name of the agent that records it.
    """
    frame, verdict, reading = inspection.frame, inspection.verdict, inspection.reading
    height, width = frame.pixels.shape[:2]
    # float(): the drivers would store NumPy's numbers as bytes.
    return {
        "id": inspection.id,
        "station": frame.station,
        "seq": frame.seq,
        "taken_at": frame.taken_at,
        "inspected_at": now,
        "part_id": frame.part_id,
        "trigger_id": frame.trigger_id,
        "origin": frame.origin,
        "width": width,
        "height": height,
        "evaluation": verdict.evaluation.value,
        "score": None if reading is None else float(reading.score),
        "threshold": float(inspection.threshold),
        "map_threshold": float(inspection.map_threshold),
        "reason": verdict.reason,
        "alarm": None if verdict.alarm is None else verdict.alarm.value,
        **asdict(inspection.trace),
        "timings": {stage: float(milliseconds) for stage, milliseconds in inspection.timings.items()},
        **evidence_columns(evidence),
        "simulated": inspection.simulated,
        "agent": agent,
    }


def evidence_columns(evidence: Evidence | None) -> dict[str, Any]:
    """Return the columns of the pictures of one inspection; of none if it is None."""
    one = evidence or Evidence()
    return {
        **_file_columns("image", one.image),
        **_file_columns("overlay", one.overlay),
        "evidence": one.state and one.state.value,
    }


def region_rows(number: int, found: Sequence[Region]) -> list[dict[str, Any]]:
    """Return the rows of the regions of inspection `number`, in their order."""
    return [
        {
            "inspection": number,
            "position": position,
            **dict(zip(("x", "y", "width", "height"), map(int, region.bbox), strict=True)),
            "peak": float(region.peak),
            "area_px": int(region.area_px),
        }
        for position, region in enumerate(found)
    ]


def outbox_rows(number: int | None, messages: Sequence[Message], now: datetime) -> list[dict[str, Any]]:
    """Return the outbox rows of an inspection's messages.

    Args:
        number: the inspection's number; None for messages of no inspection.
        messages: in the order of sending.
        now: when they are recorded, aware.
    """
    return [
        {
            "id": message.id,
            "kind": message.kind,
            "station": message.station,
            "payload": dict(message.payload),
            "inspection": number,
            "created_at": now,
        }
        for message in messages
    ]


def delivery_rows(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the pairs of message and receiver from which the delivery rows of `messages` are made."""
    return [{"message": message.id, "receiver": receiver} for message in messages for receiver in message.receivers]


def waiting(row: Row[Any]) -> OutboxRow:
    """Convert a row of the outbox."""
    return OutboxRow(row.seq, Message(row.id, row.kind, row.station, row.payload), row.created_at, row.epoch)


def label_of(row: Row[Any]) -> Label:
    """Convert a row of labels."""
    return Label(
        number=row.number,
        inspection=row.inspection,
        station=row.station,
        value=LabelValue(row.label),
        kind=row.kind,
        box=None if row.x is None else (row.x, row.y, row.width, row.height),
        who=row.who,
        said_at=row.said_at,
        note=row.note,
        supersedes=row.supersedes,
    )


def recorded(row: Row[Any], region_rows: Sequence[Row[Any]], label: Label | None = None) -> RecordedInspection:
    """Convert a row of inspections.

    Args:
        row: of inspections.
        region_rows: of its regions, in their order.
        label: the one that holds for it; default None.
    """
    alarm = None if row.alarm is None else AlarmEvent(row.alarm)
    found = tuple(Region((r.x, r.y, r.width, r.height), r.peak, r.area_px) for r in region_rows)
    return RecordedInspection(
        id=row.id,
        station=row.station,
        seq=row.seq,
        taken_at=row.taken_at,
        inspected_at=row.inspected_at,
        part_id=row.part_id,
        trigger_id=row.trigger_id,
        origin=row.origin,
        width=row.width,
        height=row.height,
        score=row.score,
        threshold=row.threshold,
        map_threshold=row.map_threshold,
        verdict=Verdict(Evaluation(row.evaluation), found, row.reason, alarm),
        trace=Trace(row.model, row.model_sha256, row.checkpoint_sha256, row.calibration_id, row.config_sha256),
        timings=row.timings,
        evidence=Evidence(
            image=_file(row.image_uri, row.image_sha256, row.image_size),
            overlay=_file(row.overlay_uri, row.overlay_sha256, row.overlay_size),
            state=None if row.evidence is None else EvidenceState(row.evidence),
        ),
        simulated=row.simulated,
        agent=row.agent,
        label=label,
    )


def _file_columns(column: str, file: SavedFile | None) -> dict[str, Any]:
    uri, sha256, size = (None, None, None) if file is None else (file.uri, file.sha256, file.size)
    return {f"{column}_uri": uri, f"{column}_sha256": sha256, f"{column}_size": size}


def _file(uri: str | None, sha256: str, size: int) -> SavedFile | None:
    return None if uri is None else SavedFile(uri, sha256, size)
