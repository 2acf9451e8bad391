"""What the agent says over MQTT, topics and payloads, pure and by schema; how it travels is the sink's affair.

A receiver drops what it has had before by `id`. An alarm's id is the id of the inspection behind it, so that the two
find each other; a result's is made from it, so that both topics can be received together. Telling of the same
inspection again gives the same ids.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_agent.core import (
    AgentIdentity,
    AgentNow,
    AlarmChange,
    AlarmKind,
    Evaluation,
    Evidence,
    Inspection,
    Message,
    OutboxRow,
    SavedFile,
    StationNow,
)
from edge_agent.io.names import topic_level

if TYPE_CHECKING:
    from edge_agent.journal.rows import Label

Payload = dict[str, object]

# Last levels of a station's topics: messages, which are delivered from the outbox, and what the broker retains.
MESSAGE_KINDS = ("alarm", "result", "verdict", "acknowledged", "labelled")
STATION_KINDS = (*MESSAGE_KINDS, "state", "image")


def agent_topic(prefix: str, agent: str, *levels: str) -> str:
    """Return `<prefix>/<agent>/<levels>`, such as `.../status`.

    Args:
        prefix: levels separated by `/`; empty ones are left out.
        agent: its name.
        levels: what follows.
    """
    return "/".join(topic_level(part) for part in [*filter(None, prefix.split("/")), agent, *levels])


def station_topic(prefix: str, agent: str, station: str, kind: str) -> str:
    """Return `<prefix>/<agent>/<station>/<kind>`.

    Args:
        prefix: levels separated by `/`; empty ones are left out.
        agent: its name.
        station: its name.
        kind: of message, one of STATION_KINDS.
    """
    return agent_topic(prefix, agent, station, kind)


def timestamp(moment: datetime) -> str:
    """`2026-11-20T08:15:30.123456Z`. ValueError when `moment` does not say its time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; times of the line are UTC, aware")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> datetime:
    """Return the time of this machine, aware."""
    return datetime.now(timezone.utc)


def alarm_message(inspection: Inspection, evidence: Evidence) -> Message | None:
    """The alarm that this inspection raises, repeats or clears; None when it does nothing to its station's alarm."""
    event = inspection.verdict.alarm
    if event is None:
        return None
    head: Payload = {"schema": "edge-agent/alarm/2", "id": inspection.id, "event": event.value}
    own: Payload = {"kind": AlarmKind.DEFECT.value, "reason": inspection.verdict.reason}
    return Message(inspection.id, "alarm", inspection.frame.station, head | _findings(inspection, evidence, own))


def alarm_change_message(change: AlarmChange) -> Message:
    """The alarm that began or ended otherwise than by one picture: what is said of pictures is null."""
    payload: Payload = {
        "schema": "edge-agent/alarm/2",
        "id": change.id,
        "event": change.event.value,
        "ts": timestamp(change.at),
        "station": change.station,
        "kind": change.kind.value,
        "reason": change.reason,
        "evaluation": Evaluation.UNDEFINED.value,
        "regions": [],
        "simulated": False,
    }
    nothing = (
        "part_id",
        "trigger_id",
        "score",
        "threshold",
        "calibration_id",
        "model",
        "model_sha256",
        "image",
        "overlay",
    )
    return Message(change.id, "alarm", change.station, payload | dict.fromkeys(nothing))


def result_message(inspection: Inspection, evidence: Evidence) -> Message:
    """What was found on one picture, whatever it was. `reason`: why it is NotDecidable, or what else is to be said."""
    own_id = _derived_id(inspection.id, "result")
    head: Payload = {"schema": "edge-agent/result/2", "id": own_id, "inspection_id": inspection.id}
    findings = _findings(inspection, evidence) | {"reason": inspection.verdict.reason}
    return Message(own_id, "result", inspection.frame.station, head | findings)


def acknowledgement_id(alarm: str) -> str:
    """Return the id of the message that acknowledges an alarm. alarm: the id of the inspection that raised it."""
    return _derived_id(alarm, "acknowledged")


def acknowledged_message(alarm: str, station: str, who: str, moment: datetime, receivers: tuple[str, ...]) -> Message:
    """Return what says that somebody has seen an alarm; it clears none.

    Args:
        alarm: the id of the inspection that raised it.
        station: of that inspection.
        who: has seen it.
        moment: when, aware.
        receivers: names of the receivers that are told.
    """
    payload: Payload = {
        "schema": "edge-agent/acknowledged/2",
        "id": acknowledgement_id(alarm),
        "alarm_id": alarm,
        "ts": timestamp(moment),
        "station": station,
        "by": who,
    }
    return Message(acknowledgement_id(alarm), "acknowledged", station, payload, receivers)


def labelled_message(label: Label, part_id: str | None, receivers: tuple[str, ...]) -> Message:
    """Return what says that somebody has said what a part is; each word is a message of its own.

    Args:
        label: as it was recorded.
        part_id: of the part.
        receivers: names of the receivers that are told.
    """
    own_id = _derived_id(label.inspection, f"labelled {label.number}")
    payload: Payload = {
        "schema": "edge-agent/labelled/1",
        "id": own_id,
        "inspection_id": label.inspection,
        "ts": timestamp(label.said_at),
        "station": label.station,
        "part_id": part_id,
        "label": label.value.value,
        "defect_kind": label.kind,
        "bbox": list(label.box) if label.box else None,
        "note": label.note,
        "by": label.who,
    }
    return Message(own_id, "labelled", label.station, payload, receivers)


def _findings(inspection: Inspection, evidence: Evidence, own: Payload | None = None) -> Payload:
    """Return what messages about a picture share. own: what else is said, after the station."""
    frame, verdict, trace = inspection.frame, inspection.verdict, inspection.trace
    return {
        "ts": timestamp(frame.taken_at),
        "station": frame.station,
        **(own or {}),
        "part_id": frame.part_id,
        "trigger_id": frame.trigger_id,
        "evaluation": verdict.evaluation.value,
        "score": _score(inspection),
        "threshold": float(inspection.threshold),
        "calibration_id": trace.calibration_id,
        "model": trace.model,
        "model_sha256": trace.model_sha256,
        "regions": [
            {"bbox": [int(side) for side in region.bbox], "peak": float(region.peak), "area_px": int(region.area_px)}
            for region in verdict.regions
        ],
        "image": _picture(evidence.image),
        "overlay": _picture(evidence.overlay),
        "simulated": inspection.simulated,
    }


def _score(inspection: Inspection) -> float | None:
    if inspection.reading is None or inspection.verdict.evaluation is Evaluation.NOT_DECIDABLE:
        return None
    score = float(inspection.reading.score)
    if not math.isfinite(score):
        raise ValueError(
            f"{inspection.trace.model} gave the score {score} for frame {inspection.frame.seq} of station"
            f" {inspection.frame.station}: a picture that cannot be scored must be NotDecidable"
        )
    return score


def _picture(saved: SavedFile | None) -> Payload | None:
    return None if saved is None else {"uri": saved.uri, "sha256": saved.sha256}


def _derived_id(id_: str, kind: str) -> str:
    """A UUID version 7 of the same millisecond as `id_`, its random bits hashed from `id_` and `kind`."""
    given = UUID(id_).int
    version_and_variant = 0xF << 76 | 0b11 << 62
    kept = ((1 << 48) - 1) << 80 | version_and_variant
    noise = int.from_bytes(hashlib.sha256(f"{kind} {id_}".encode()).digest()[:16], "big")
    return str(UUID(int=given & kept | noise & ~kept))


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """The last inspection of a station (Undefined: none yet), counts since the agent started, and drift.

    drift: what of its pictures is no longer as calibrated, score or brightness (see drift.py).
    """

    inspection_id: str | None = None
    ts: datetime | None = None
    evaluation: Evaluation = Evaluation.UNDEFINED
    score: float | None = None
    part_id: str | None = None
    counts: Mapping[str, int] = field(
        default_factory=lambda: {kind.value: 0 for kind in Evaluation if kind is not Evaluation.UNDEFINED}
    )
    drift: tuple[str, ...] = ()

    def after(self, inspection: Inspection) -> LastVerdict:
        """What holds once this inspection has been made."""
        counted = inspection.verdict.evaluation.value
        return replace(
            self,
            inspection_id=inspection.id,
            ts=inspection.frame.taken_at,
            evaluation=inspection.verdict.evaluation,
            score=_score(inspection),
            part_id=inspection.frame.part_id,
            counts={**self.counts, counted: self.counts.get(counted, 0) + 1},
        )


def state_payload(
    agent: AgentIdentity, station: str, now: StationNow, last: LastVerdict, trouble: str | None
) -> Payload:
    """Return the retained state of a station. `ts`: of its last inspection, or of the agent's start before the first.

    Args:
        agent: whose station it is.
        station: its name.
        now: its source and alarms.
        last: its last inspection, counts and drift.
        trouble: why nothing can be recorded, so that nothing is inspected; None while it can.
    """
    return {
        "schema": "edge-agent/state/2",
        "ts": timestamp(last.ts or agent.since),
        "agent": agent.name,
        "epoch": agent.epoch,
        "station": station,
        "source": {"up": now.source.up, "since": timestamp(now.source.since), "reason": now.source.reason},
        "alarm_active": bool(now.alarms),
        "alarms": sorted(kind.value for kind in now.alarms),
        "not_recording": trouble,
        "inspection_id": last.inspection_id,
        "evaluation": last.evaluation.value,
        "score": last.score,
        "part_id": last.part_id,
        "since": timestamp(agent.since),
        "counts": dict(last.counts),
        "drift": list(last.drift),
    }


def status_payload(
    agent: AgentIdentity, now: AgentNow, reason: str, moment: datetime, twin: str | None = None
) -> Payload:
    """Return the retained status of the agent, online or not.

    Args:
        agent: who it is.
        now: what it inspects, and whether it records.
        reason: `connected`, `stopped`, or `lost`. The broker publishes the last for an agent that no longer can; its `ts` is
            when the lost connection was started, as the broker keeps the text from then.
        moment: UTC, aware.
        twin: what is known of another agent of this name; None without one.
    """
    return {
        "schema": "edge-agent/status/2",
        "online": reason == "connected",
        "reason": reason,
        "ts": timestamp(moment),
        "agent": agent.name,
        "epoch": agent.epoch,
        "instance": agent.instance,
        "since": timestamp(agent.since),
        "version": agent.version,
        "config_sha256": now.config_sha256,
        "stations": {
            name: {
                "model": one.trace.model,
                "model_sha256": one.trace.model_sha256,
                "checkpoint_sha256": one.trace.checkpoint_sha256,
                "calibration_id": one.trace.calibration_id,
            }
            for name, one in now.stations.items()
        },
        "not_recording": now.not_recording,
        "twin": twin,
    }


def delivery(row: OutboxRow, agent: str, historical: bool) -> Payload:
    """Return a message as it is sent.

    Args:
        row: as the journal holds it.
        agent: the name of the agent that sends it.
        historical: whether it comes late.
    """
    payload, own = row.message.payload, {"agent": agent, "epoch": row.epoch}
    head = {key: payload[key] for key in ("schema", "id") if key in payload} | {"seq": row.seq}
    head |= {key: payload[key] for key in ("event", "ts") if key in payload} | own
    return {**head, **payload, "historical": historical}


def encode(payload: Mapping[str, object]) -> bytes:
    """JSON in UTF-8. ValueError for what JSON does not know, NaN among it."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # file names on Linux may hold bytes that are no text


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a kind of payload: acknowledged, alarm, result, state, status, trigger or verdict."""
    loaded: dict[str, Any] = json.loads((files("edge_agent.mqtt") / "schemas" / f"{kind}.json").read_text("utf-8"))
    return loaded
