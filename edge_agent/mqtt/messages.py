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
from typing import Any
from uuid import UUID

from edge_agent.core import AlarmEvent, Evaluation, Evidence, Inspection, Message, SavedFile
from edge_agent.io.names import topic_level

Payload = dict[str, object]


def topic(prefix: str, node: str, kind: str) -> str:
    """Return `<prefix>/<node>/<kind>`.

    Args:
        prefix: levels separated by `/`; empty ones are left out.
        node: a station or the agent.
        kind: last level, such as `alarm`.
    """
    return "/".join(topic_level(part) for part in [*filter(None, prefix.split("/")), node, kind])


def timestamp(moment: datetime) -> str:
    """`2026-11-20T08:15:30.123456Z`. ValueError when `moment` does not say its time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; times of the line are UTC, aware")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def alarm_message(inspection: Inspection, evidence: Evidence) -> Message | None:
    """The alarm that this inspection raises, repeats or clears; None when it does nothing to its station's alarm."""
    event = inspection.verdict.alarm
    if event is None:
        return None
    head: Payload = {"schema": "edge-agent/alarm/1", "id": inspection.id, "event": event.value}
    return Message(inspection.id, "alarm", inspection.frame.station, head | _findings(inspection, evidence))


def result_message(inspection: Inspection, evidence: Evidence) -> Message:
    """What was found on one picture, whatever it was. `reason`: why it is NotDecidable, or what else is to be said."""
    own_id = _derived_id(inspection.id, "result")
    head: Payload = {"schema": "edge-agent/result/1", "id": own_id, "inspection_id": inspection.id}
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
        "schema": "edge-agent/acknowledged/1",
        "id": acknowledgement_id(alarm),
        "alarm_id": alarm,
        "ts": timestamp(moment),
        "station": station,
        "by": who,
    }
    return Message(acknowledgement_id(alarm), "acknowledged", station, payload, receivers)


def _findings(inspection: Inspection, evidence: Evidence) -> Payload:
    frame, verdict, trace = inspection.frame, inspection.verdict, inspection.trace
    return {
        "ts": timestamp(frame.taken_at),
        "station": frame.station,
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
class StationState:
    """How a station stands: its alarm; last inspection (Undefined: none yet) and counts since the agent started.

    drift: what of its pictures is no longer as calibrated, score or brightness (see drift.py).
    """

    station: str
    since: datetime
    alarm_active: bool = False
    inspection_id: str | None = None
    ts: datetime | None = None
    evaluation: Evaluation = Evaluation.UNDEFINED
    score: float | None = None
    counts: Mapping[str, int] = field(
        default_factory=lambda: {kind.value: 0 for kind in Evaluation if kind is not Evaluation.UNDEFINED}
    )
    drift: tuple[str, ...] = ()

    def after(self, inspection: Inspection) -> StationState:
        """The state once this inspection has been made."""
        verdict = inspection.verdict
        counted = verdict.evaluation.value
        return replace(
            self,
            alarm_active=self.alarm_active if verdict.alarm is None else verdict.alarm is not AlarmEvent.CLEARED,
            inspection_id=inspection.id,
            ts=inspection.frame.taken_at,
            evaluation=verdict.evaluation,
            score=_score(inspection),
            counts={**self.counts, counted: self.counts.get(counted, 0) + 1},
        )


def state_payload(state: StationState) -> Payload:
    """The retained state of a station. `ts`: of its last inspection, or of the agent's start before the first."""
    return {
        "schema": "edge-agent/state/1",
        "ts": timestamp(state.ts or state.since),
        "station": state.station,
        "alarm_active": state.alarm_active,
        "inspection_id": state.inspection_id,
        "evaluation": state.evaluation.value,
        "score": state.score,
        "since": timestamp(state.since),
        "counts": dict(state.counts),
        "drift": list(state.drift),
    }


def status_payload(agent: str, version: str, reason: str, moment: datetime) -> Payload:
    """Return the retained status of the agent, online or not.

    Args:
        agent: its name.
        version: of edge-agent.
        reason: `connected`, `stopped`, or `lost`. The broker publishes the last for an agent that no longer can; its `ts` is
            when the lost connection was started, as the broker keeps the text from then.
        moment: UTC, aware.
    """
    return {
        "schema": "edge-agent/status/1",
        "online": reason == "connected",
        "reason": reason,
        "ts": timestamp(moment),
        "agent": agent,
        "version": version,
    }


def delivery(message: Message, seq: int, historical: bool) -> Payload:
    """Return a message as it is sent.

    Args:
        message: as the journal holds it.
        seq: its place in the outbox.
        historical: whether it comes late.
    """
    first = {key: message.payload[key] for key in ("schema", "id") if key in message.payload}
    return {**first, "seq": seq, **message.payload, "historical": historical}


def encode(payload: Mapping[str, object]) -> bytes:
    """JSON in UTF-8. ValueError for what JSON does not know, NaN among it."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # file names on Linux may hold bytes that are no text


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a kind of payload: acknowledged, alarm, result, state or status."""
    loaded: dict[str, Any] = json.loads((files("edge_agent.mqtt") / "schemas" / f"{kind}.json").read_text("utf-8"))
    return loaded
