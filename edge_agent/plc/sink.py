"""The sink that talks with one PLC about one station: its trigger requests a picture, and the verdict answers it.

A thread of its own reads the PLC's signals, has handshake.py say what follows, and writes what the PLC is to see. While the
PLC cannot be reached, or the station can take no trigger, ready is 0 and the heartbeat stands still.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from uuid6 import uuid7

from edge_agent.core import AlarmChange, Evaluation, Evidence, Inspection, Measure, Message, PictureRequest, Watched
from edge_agent.errors import SinkDown
from edge_agent.io.backoff import Backoff
from edge_agent.line.heartbeat import Stage
from edge_agent.plc.handshake import Outputs, Phase, Seen, Signals, State, Step, adopted, advance, complaint
from edge_agent.plc.places import NEAR, Cell, runs
from edge_agent.plc.wiring import Wiring, in_order
from edge_agent.settings.request_queue import RequestQueue

if TYPE_CHECKING:
    from edge_agent.plc.link import Link

log = logging.getLogger(__name__)

NOT_YET = "not yet connected"
POLL_S = 0.02  # how often the PLC's signals are read
HEARTBEAT_S = 0.5  # how often the heartbeat counts on
CONNECT_AGAIN = Backoff(0.2, 5.0)
ACK_S = 1.0  # that a result may wait for its ack when the agent stops


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found on the picture of a trigger."""

    trigger_id: str
    evaluation: Evaluation


class PlcSink:
    """A core.Sink of one station whose pictures a PLC requests. Nothing waits for the PLC in the journal.

    counts: triggers and results by evaluation, and connections that were lost.
    """

    receiver = None

    def __init__(
        self,
        station: str,
        wiring: Wiring,
        link: Link,
        not_ready: Callable[[str], str | None],
        *,
        within_s: float | None = None,
        swapped: bool = False,
        again: Backoff = CONNECT_AGAIN,
    ) -> None:
        """Start the thread, which connects at once.

        Args:
            station: whose pictures are requested.
            wiring: where the signals lie.
            link: the connection to the PLC.
            not_ready: gives why a station can take no trigger now; None while it can.
            within_s: seconds after a trigger at which it is answered NotDecidable; None: it waits for its verdict.
            swapped: the first character of a register of the part's id is in its low byte.
            again: pauses between attempts to connect.
        """
        self._station, self._wiring, self._link, self._not_ready = station, wiring, link, not_ready
        self._within_s, self._swapped, self._again = within_s, swapped, again
        self._requests = RequestQueue()
        self._verdicts: SimpleQueue[Verdict] = SimpleQueue()
        self._news = threading.Event()  # a verdict has come, or it is time to close
        self._state = State()
        self._asked: str | None = None  # trigger_id of the request whose verdict is awaited
        self._written: dict[Cell, int] = {}  # what the PLC has acknowledged since the connection was made
        self._shown = Outputs()  # by those
        self._met = False  # a PLC has been read since the start
        self._heartbeat, self._counted_at = 0, 0.0
        self._failures, self._connect_at = 0, 0.0
        self._problem: str | None = NOT_YET
        self.counts: Counter[str] = Counter()
        self._stage = Stage(f"plc {station}")
        self.stages: Sequence[Watched] = (self._stage,)
        self._closing = threading.Event()
        self._deadline = float("inf")  # monotonic seconds; for closing
        self._thread = threading.Thread(target=self._run, name=f"plc-{station}", daemon=True)
        self._thread.start()

    def triggers(self, station: str) -> RequestQueue:
        """See core.Sink."""
        return self._requests

    def messages(self, inspection: Inspection, evidence: Evidence) -> Sequence[Message]:
        """See core.Sink."""
        return ()

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Have the PLC told of a verdict that it waits for."""
        if inspection.frame.station == self._station and inspection.frame.trigger_id:
            self._verdicts.put(Verdict(inspection.frame.trigger_id, inspection.verdict.evaluation))
            self._news.set()

    def alarm_messages(self, change: AlarmChange) -> Sequence[Message]:
        """See core.Sink."""
        return ()

    def alarmed(self, change: AlarmChange) -> None:
        """See core.Sink; a PLC is not told."""

    def completed(self, inspection: Inspection, evidence: Evidence) -> None:
        """Nothing: a PLC is told of verdicts."""

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        """See core.Sink; a PLC is not told."""

    @property
    def problem(self) -> str | None:
        """See core.Sink."""
        return self._problem

    def measures(self) -> Sequence[Measure]:
        """See core.Sink."""
        station = {"station": self._station}
        connected = Measure(
            "plc_connected", "1 while the PLC can be reached.", self._failures == 0 and self._met, False, station
        )
        counted = [
            Measure("plc_events", "What a PLC was told or did.", times, labels={**station, "event": event})
            for event, times in list(self.counts.items())
        ]
        return [connected, *counted]

    def close(self, timeout_s: float = 5.0) -> None:
        """Tell the last verdict, take back ready, and disconnect."""
        self._deadline = time.monotonic() + min(timeout_s, ACK_S)
        self._closing.set()
        self._news.set()
        self._thread.join(timeout_s)

    # The rest runs in a thread of its own.

    def _run(self) -> None:
        while not self._closing.is_set():
            self._guarded_cycle()
            self._news.wait(POLL_S)
            self._news.clear()
        while self._link.connected and self._state.phase is Phase.DONE and time.monotonic() < self._deadline:
            self._guarded_cycle()
            time.sleep(POLL_S)
        self._take_back()
        self._link.close()
        self._stage.rest()

    def _guarded_cycle(self) -> None:
        self._stage.beat()
        try:
            self._cycle()
        except Exception as error:  # the handshake must go on, whatever it is
            log.exception("plc %s: an error that should not happen", self._station)
            self._lost(f"{type(error).__name__}: {error}")

    def _cycle(self) -> None:
        """Read the PLC's signals, go on, and write what follows."""
        try:
            signals, fault, part_id = self._heard()
            seen = Seen(time.monotonic(), signals, self._reason_not_ready(), self._verdict(), fault)
            self._follow(seen, part_id)
            self._show(is_well=seen.not_ready is None)
        except SinkDown as error:
            self._lost(str(error))
            if self._link.connected:  # as a server it can always say that it is not ready
                self._show(is_well=False)
        else:
            self._say(complaint(self._state, seen))

    def _heard(self) -> tuple[Signals, str | None, str | None]:
        """Return the PLC's signals, why a trigger that rises now gets no picture, and its part. Raises SinkDown."""
        if not self._link.connected:
            if time.monotonic() < self._connect_at:
                raise SinkDown(self._problem or "")
            self._link.connect()
            self._meet()
        wiring = self._wiring
        signals = wiring.signals(self._read([*wiring.trigger.cells, *wiring.ack.cells]))
        self._failures = 0
        may_ask = self._state.phase in (Phase.RESTING, Phase.READY) and not self._state.answered
        if not (signals.trigger and wiring.part and may_ask):
            return signals, None, None
        try:
            return signals, None, wiring.part_id(self._read(wiring.part.cells), swapped=self._swapped)
        except ValueError as error:
            return signals, str(error), None

    def _meet(self) -> None:
        """Read what the PLC holds of what the agent has said; the first time, go on from there."""
        self._written = self._read([cell for place in self._wiring.told.values() for cell in place.cells])
        self._shown = self._wiring.outputs(self._written)
        if not self._met:
            self._met, self._state = True, adopted(self._shown)
        log.info("plc %s: connected", self._station)

    def _read(self, cells: Sequence[Cell]) -> dict[Cell, int]:
        values: dict[Cell, int] = {}
        for table, address, count in runs(cells, NEAR):
            found = self._link.read(table, address, count)
            values |= {(table, address + i): value for i, value in enumerate(found)}
        return {cell: values[cell] for cell in cells}

    def _reason_not_ready(self) -> str | None:
        return "the agent stops" if self._closing.is_set() else self._not_ready(self._station)

    def _verdict(self) -> Evaluation | None:
        """Return the verdict that is awaited, if it has come; others are of triggers that were answered without."""
        found = None
        while True:
            try:
                verdict = self._verdicts.get_nowait()
            except Empty:
                return found
            if verdict.trigger_id == self._asked:
                found = verdict.evaluation

    def _follow(self, seen: Seen, part_id: str | None = None) -> None:
        before, step = self._state, advance(self._state, seen, self._within_s)
        self._state = step.state
        if step.said:
            log.warning("plc %s: %s", self._station, step.said)
        if step.ask:
            self._ask(step, part_id)
        elif step.state.phase is not Phase.BUSY:
            self._asked = None
        if step.state.phase is Phase.DONE and before.phase is not Phase.DONE and step.state.result:
            self.counts[step.state.result.value] += 1
            self.counts["late"] += step.late

    def _ask(self, step: Step, part_id: str | None) -> None:
        self.counts["trigger"] += 1
        if step.fault:
            log.warning("plc %s: no picture for trigger %d: %s", self._station, step.state.sequence, step.fault)
        self._asked = f"{step.state.sequence}-{uuid7()}"
        self._requests.put(PictureRequest(part_id, self._asked, time.monotonic(), fault=step.fault))

    def _show(self, *, is_well: bool) -> None:
        """Write what has changed. is_well: the heartbeat goes on. Raises SinkDown."""
        now = time.monotonic()
        if is_well and now >= self._counted_at + HEARTBEAT_S:
            self._heartbeat, self._counted_at = (self._heartbeat + 1) & 0xFFFF, now
        wanted = self._state.outputs
        for step in in_order(self._shown, wanted):
            image = self._wiring.image(step, self._heartbeat)
            self._write({cell: value for cell, value in image.items() if self._written.get(cell) != value})
        self._shown = wanted

    def _write(self, changes: dict[Cell, int]) -> None:
        for table, address, count in runs(list(changes)):
            values = [changes[table, address + i] for i in range(count)]
            self._link.write(table, address, values)
            self._written |= {(table, address + i): value for i, value in enumerate(values)}

    def _lost(self, reason: str) -> None:
        """Note that the PLC cannot be reached now: what it does meanwhile is not seen."""
        now = time.monotonic()
        if now >= self._connect_at:
            self._connect_at = now + self._again.pause_s(self._failures)
            self.counts["lost"] += self._failures == 0 and self._met
            self._failures += 1
        self._say(reason)
        self._follow(Seen(now, None, self._reason_not_ready(), self._verdict()))

    def _say(self, problem: str | None) -> None:
        """Log a problem when it starts or changes, and when it is over."""
        if problem and problem != self._problem:
            log.warning("plc %s: %s", self._station, problem)
        elif self._problem not in (None, NOT_YET) and not problem:
            log.warning("plc %s: all is well again", self._station)
        self._problem = problem

    def _take_back(self) -> None:
        """Leave the PLC with ready and busy off; a result that it has not acknowledged stays for it."""
        if self._state.phase is not Phase.DONE:
            self._state = State(sequence=self._state.sequence)
        try:
            if self._link.connected:
                self._show(is_well=False)
        except SinkDown as error:
            log.warning("plc %s: it does not hear that the agent stops: %s", self._station, error)
