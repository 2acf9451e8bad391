"""Which commands have had their answer: the verdict while it is in time, else NotDecidable at the deadline; one each, pure.

An answer is decided once and stays so, whatever comes later, and is given again until it is recorded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from edge_agent.core import Evaluation, Inspection, Message
from edge_agent.mqtt.messages import Payload, timestamp, utc_now

MOST_REMEMBERED = 10_000  # answers whose command may come again
NO_VERDICT = "there was no verdict in time"
Key = tuple[str, str]  # station and trigger_id


@dataclass(frozen=True, slots=True)
class _Awaited:
    part_id: str | None
    deadline: float


class Answers:
    """For the stations that are to answer in time. Use from one thread.

    counts: answers that were decided, in time and late.
    """

    def __init__(self, within_s: Mapping[str, float | None]) -> None:
        """within_s: by station, seconds from a command to its answer; None: it has none but its result."""
        self._within_s = {station: seconds for station, seconds in within_s.items() if seconds is not None}
        self._awaited: dict[Key, _Awaited] = {}
        self._decided: dict[Key, Message] = {}  # not yet recorded
        self._recorded: OrderedDict[Key, None] = OrderedDict()
        self.in_time = self.late = 0

    def expect(self, station: str, trigger_id: str, part_id: str | None, at: float) -> None:
        """Await the verdict on a command.

        Args:
            station: that it is for.
            trigger_id: of the command.
            part_id: of the part.
            at: when it arrived, in seconds of time.monotonic().
        """
        key = station, trigger_id
        if station in self._within_s and key not in self._decided and key not in self._recorded:
            self._awaited.setdefault(key, _Awaited(part_id, at + self._within_s[station]))

    def refuse(self, station: str, trigger_id: str, part_id: str | None, reason: str) -> None:
        """Decide that a command cannot be followed.

        Args:
            station: that it names.
            trigger_id: of the command.
            part_id: of the part.
            reason: why, as a clause.
        """
        key = station, trigger_id
        if key not in self._recorded and key not in self._decided:
            self._decided[key] = _message(key, part_id, Evaluation.NOT_DECIDABLE, None, reason, utc_now())

    def tell(self, inspection: Inspection, now: float, moment: datetime) -> None:
        """Decide by a verdict, if it is awaited.

        Args:
            inspection: what was found.
            now: time.monotonic().
            moment: the time of day, aware.
        """
        frame, verdict = inspection.frame, inspection.verdict
        key = frame.station, frame.trigger_id or ""
        awaited = self._awaited.get(key)
        if awaited is None:
            return
        if now >= awaited.deadline:
            return self._decide_late(key, moment)
        del self._awaited[key]
        decided = inspection.reading is not None and verdict.evaluation is not Evaluation.NOT_DECIDABLE
        score = float(inspection.reading.score) if decided and inspection.reading else None
        self._decided[key] = _message(key, awaited.part_id, verdict.evaluation, score, verdict.reason, moment)
        self.in_time += 1

    def look(self, now: float, moment: datetime) -> None:
        """Decide what is overdue. now: time.monotonic(). moment: the time of day, aware."""
        for key in [key for key, awaited in self._awaited.items() if now >= awaited.deadline]:
            self._decide_late(key, moment)

    def due_s(self, now: float) -> float:
        """Return the seconds to the next deadline; infinite if none is near. now: time.monotonic()."""
        return min((awaited.deadline - now for awaited in self._awaited.values()), default=float("inf"))

    def to_record(self) -> list[Message]:
        """Return the answers that are decided and not yet recorded."""
        return list(self._decided.values())

    def recorded(self) -> None:
        """Note that the journal has all that to_record() gave."""
        for key in self._decided:
            self._recorded[key] = None
        self._decided.clear()
        while len(self._recorded) > MOST_REMEMBERED:
            self._recorded.popitem(last=False)

    def waits(self, station: str, trigger_id: str) -> bool:
        """Return whether the journal does not have the answer to a command yet. station, trigger_id: of the command."""
        return (station, trigger_id) in self._awaited or (station, trigger_id) in self._decided

    def _decide_late(self, key: Key, moment: datetime) -> None:
        awaited = self._awaited.pop(key)
        self._decided[key] = _message(
            key, awaited.part_id, Evaluation.NOT_DECIDABLE, None, NO_VERDICT, moment, late=True
        )
        self.late += 1


def _message(
    key: Key,
    part_id: str | None,
    evaluation: Evaluation,
    score: float | None,
    reason: str | None,
    moment: datetime,
    *,
    late: bool = False,
) -> Message:
    station, trigger_id = key
    payload: Payload = {
        "schema": "edge-agent/verdict/2",
        "id": answer_id(station, trigger_id),
        "ts": timestamp(moment),
        "station": station,
        "trigger_id": trigger_id,
        "part_id": part_id,
        "evaluation": evaluation.value,
        "score": score,
        "reason": reason,
        "late": late,
    }
    return Message(answer_id(station, trigger_id), "verdict", station, payload)


def answer_id(station: str, trigger_id: str) -> str:
    """Return the id of the answer to a command: always the same, so that there is one. station, trigger_id: of the command."""
    digest = hashlib.sha256(f"{station}\0{trigger_id}".encode()).digest()
    noise = int.from_bytes(digest[:16], "big") & ~(0xF << 76 | 0b11 << 62)
    return str(UUID(int=noise | 7 << 76 | 0b10 << 62))
