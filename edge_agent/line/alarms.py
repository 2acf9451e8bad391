"""The alarms of all stations: those that verdicts make, and those of sources that are away and of pictures that stay undecided.

The first are recorded with their inspections, and only noted here. The others are found here, and handed on to be recorded;
what cannot be recorded yet is tried again. None is ever cleared because nothing comes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Lock

from edge_agent.core import (
    AlarmChange,
    AlarmEvent,
    AlarmKind,
    Evaluation,
    Evidence,
    Inspection,
    Source,
    SourceState,
    Watched,
)
from edge_agent.errors import JournalError
from edge_agent.line.ids import new_id

log = logging.getLogger(__name__)

Standing = Mapping[str, frozenset[AlarmKind]]  # by station
GONE = "the station is no longer configured"


@dataclass(frozen=True, slots=True)
class AlarmRules:
    """When a station's alarms are raised that no single picture makes.

    source_down_s: seconds that its source may be away. undecidable_after: of the last undecidable_of pictures, how many that
    are NotDecidable raise the alarm; when all of as many are decided, it is cleared.
    """

    source_down_s: float = 10.0
    undecidable_after: int = 3
    undecidable_of: int = 3


class Alarms:
    """Knows which alarms stand. An observer of the line; look() is a periodic task. Thread-safe."""

    def __init__(
        self,
        standing: Standing,
        stations: Collection[str],
        record: Callable[[AlarmChange], None],
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Go on from what stood before; alarms of stations that are no longer there end at the first look.

        Args:
            standing: what the journal knows.
            stations: all that there are.
            record: records a change and passes it on; raises JournalError where it cannot.
            clock: gives the time, aware.
        """
        self._standing = {station: set(kinds) for station, kinds in standing.items()}
        self._record, self._clock = record, clock
        self._sources: dict[str, tuple[Source, Watched]] = {}
        self._rules: dict[str, AlarmRules] = {}
        began = clock()
        self._source_states = {name: SourceState(False, began, "the agent starts") for name in stations}
        self._undecided: dict[str, deque[bool]] = {}
        self._waiting: deque[AlarmChange] = deque()
        self._lock = Lock()
        self._complained = False
        for station in sorted(self._standing.keys() - set(stations)):
            for kind in sorted(self._standing[station]):
                self._change(station, kind, AlarmEvent.CLEARED, GONE)

    def watch(self, sources: Sequence[Source], stages: Sequence[Watched]) -> None:
        """Look at these sources. stages: the heartbeats of their threads, in the same order."""
        pairs = zip(sources, stages, strict=True)
        self._sources = {source.station: (source, stage) for source, stage in pairs}

    def expect(self, rules: Mapping[str, AlarmRules]) -> None:
        """Go by these rules from now on. rules: by station."""
        with self._lock:
            for station, rule in rules.items():
                if self._rules.get(station) != rule:
                    kept = self._undecided.get(station, ())
                    self._undecided[station] = deque(kept, maxlen=rule.undecidable_of)
                self._rules[station] = rule

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Note a recorded inspection."""
        station, verdict = inspection.frame.station, inspection.verdict
        with self._lock:
            if verdict.alarm is not None:
                self._note(station, AlarmKind.DEFECT, verdict.alarm)
            last = self._undecided.get(station)
            if last is None:
                return
            last.append(verdict.evaluation is Evaluation.NOT_DECIDABLE)
            rules, stands = self._rules[station], self._stands(station, AlarmKind.UNDECIDABLE)
            if not stands and last[-1] and sum(last) >= rules.undecidable_after:
                why = f"{sum(last)} of the last {len(last)} pictures are NotDecidable, the newest because {verdict.reason}"
                self._change(station, AlarmKind.UNDECIDABLE, AlarmEvent.RAISED, why)
            elif stands and len(last) == rules.undecidable_of and not any(last):
                why = f"the last {len(last)} pictures are decided"
                self._change(station, AlarmKind.UNDECIDABLE, AlarmEvent.CLEARED, why)

    def look(self) -> bool:
        """Look at the sources, and record what has changed; a periodic task."""
        now = self._clock()
        states = {name: _state(source, stage) for name, (source, stage) in self._sources.items()}
        with self._lock:
            for name, (up, reason) in states.items():
                self._see_source(name, up, reason, now)
        while self._waiting:
            try:
                self._record(self._waiting[0])
            except JournalError as error:
                if not self._complained:
                    log.error("an alarm of station %s waits to be recorded: %s", self._waiting[0].station, error)
                self._complained = True
                return False
            self._complained = False
            self._waiting.popleft()
        return False

    def standing(self, station: str) -> frozenset[AlarmKind]:
        """Return the kinds of alarm that stand at a station."""
        with self._lock:
            return frozenset(self._standing.get(station, ()))

    def source(self, station: str) -> SourceState:
        """Return how the source of a station was at the last look."""
        with self._lock:
            return self._source_states[station]

    def _see_source(self, station: str, up: bool, reason: str | None, now: datetime) -> None:
        before = self._source_states[station]
        if up != before.up or reason != before.reason:
            self._source_states[station] = SourceState(up, now if up != before.up else before.since, reason)
        stands = self._stands(station, AlarmKind.SOURCE)
        if up and stands:
            self._change(station, AlarmKind.SOURCE, AlarmEvent.CLEARED, "the source gives pictures again")
        elif not up and not stands:
            down_s = (now - self._source_states[station].since).total_seconds()
            if down_s >= self._rules.get(station, AlarmRules()).source_down_s:
                self._change(station, AlarmKind.SOURCE, AlarmEvent.RAISED, reason or "the source gives no pictures")

    def _stands(self, station: str, kind: AlarmKind) -> bool:
        return kind in self._standing.get(station, ())

    def _note(self, station: str, kind: AlarmKind, event: AlarmEvent) -> None:
        kinds = self._standing.setdefault(station, set())
        if event is AlarmEvent.CLEARED:
            kinds.discard(kind)
        else:
            kinds.add(kind)

    def _change(self, station: str, kind: AlarmKind, event: AlarmEvent, reason: str) -> None:
        self._note(station, kind, event)
        self._waiting.append(AlarmChange(new_id(), station, kind, event, self._clock(), reason))
        log.warning("station %s: alarm %s (%s): %s", station, event.value, kind.value, reason)


def _state(source: Source, stage: Watched) -> tuple[bool, str | None]:
    """Return whether a source can give pictures now, and why not. One whose thread hangs cannot, whatever it says."""
    if stage.hangs:
        return False, f"its thread has hung for {stage.silent_s:.0f} s: check its disk or network share"
    status = source.status()
    return status.up, status.reason
