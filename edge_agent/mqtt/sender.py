"""The sink that publishes over MQTT: the journal's outbox, and what the broker retains (retained.py).

No alarm and no result is sent that the journal does not hold; delivery.py says in which order and how often. This is
the thread that does it: it connects, waits between attempts, and says goodbye.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from edge_agent.core import MQTT, AlarmChange, Evidence, Inspection, Measure, Message, SinkContext, Watched
from edge_agent.errors import EdgeAgentError
from edge_agent.line.heartbeat import DATABASE_S, Stage
from edge_agent.mqtt.broker import Broker, default_client_id
from edge_agent.mqtt.connection import (
    Accepted,
    Acknowledged,
    Arrived,
    Connection,
    ConnectionEvent,
    Subscription,
    Will,
)
from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.messages import alarm_change_message, alarm_message, result_message
from edge_agent.mqtt.retained import Retained
from edge_agent.mqtt.session import Session
from edge_agent.mqtt.triggers import MqttTriggers
from edge_agent.mqtt.twins import Twins
from edge_agent.settings.request_queue import RequestQueue

log = logging.getLogger(__name__)

_HEARD = "Commands for pictures over MQTT, by what became of them."
LARGEST_STATUS = 256 * 1024  # bytes that the broker may send at once
POLL_S = 2.0  # how often the outbox is looked at when nobody says that there is something new


@dataclass(frozen=True, slots=True)
class Counters:
    """What the sender has done since its start.

    sent: rows acknowledged, and marked so. redelivered: rows sent once more as their acknowledgement never came.
    refused: the broker's refusals, of each try. connections: accepted ones. thread_deaths: of paho's network thread.
    last_error: why it is not online, or else what failed or was refused last; None when all is well.
    """

    sent: int
    redelivered: int
    refused: int
    connections: int
    thread_deaths: int
    online: bool
    last_error: str | None


class MqttSink:
    """A core.Sink whose own thread connects at once, and sends until close().

    That thread alone touches the connection and the outbox; paho's callbacks and write() only leave it word in a queue.
    results: every inspection is a message, not only alarms.
    window: messages that may be unacknowledged at once, fewer if the broker says so. late_s: see delivery.py.
    """

    receiver = MQTT

    def __init__(
        self,
        broker: Broker,
        context: SinkContext,
        *,
        results: bool = False,
        commands: MqttTriggers | None = None,
        window: int = 20,
        late_s: float = 10.0,
    ) -> None:
        """Start the sender's thread, which connects at once.

        Args:
            broker: where, and as whom.
            context: who the agent is, its outbox, and how it is.
            results: every inspection is a message, not only alarms.
            commands: hears the commands that request pictures; None: no station takes any. It is closed with this.
            window: messages that may be unacknowledged at once, fewer if the broker says so.
            late_s: seconds after which a message is marked as historical.
        """
        self._broker, self._identity, self._results = broker, context.identity, results
        self._outbox, self._commands = context.outbox(self.receiver), commands
        if commands:
            commands.answered = self._wake
        client_id = broker.client_id or default_client_id(broker.agent)
        # A refusal is seldom undone within seconds, and many a broker ends the connection over every further try.
        self._delivery = Delivery(
            self._outbox,
            broker.prefix,
            broker.agent,
            window=window,
            late_s=late_s,
            again_after=lambda refusals: 10 * broker.backoff.pause_s(refusals),
        )
        self._retained = Retained(broker.prefix, self._identity, context.now, self._outbox)
        self._twins = Twins(self._identity, context.twin)
        self._refreshed_at = float("-inf")  # monotonic seconds
        self._changed = threading.Event()  # what is retained may have

        self._event_queue: SimpleQueue[tuple[Connection, ConnectionEvent | Arrived] | None] = (
            SimpleQueue()
        )  # None: look around
        self._session = Session(
            broker,
            "mqtt",
            client_id=client_id,
            on_event=lambda connection, fact: self._event_queue.put((connection, fact)),
            lost=self._lost,
            will=lambda: Will(self._retained.status_topic, self._retained.status("lost")),
            subscription=Subscription(self._retained.status_topic, 0, LARGEST_STATUS, self._take, required=False),
        )
        self._done = False  # nothing was left to send when the outbox was last looked at
        self._thread_deaths = 0
        self._last_error: str | None = None

        self._stage = Stage("sender")
        self.stages: Sequence[Watched] = (self._stage, commands.stage) if commands else (self._stage,)
        self._deadline = float("inf")  # monotonic seconds; for closing
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt-sender", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """See core.Sink."""
        return self.counters().last_error

    def triggers(self, station: str) -> RequestQueue:
        """See core.Sink."""
        assert self._commands is not None, "only stations that SinkContext.asked names are asked for"
        return self._commands.of(station)

    def messages(self, inspection: Inspection, evidence: Evidence) -> list[Message]:
        """Return the alarm of an inspection, if it raises, repeats or clears one, and its result if those are asked for."""
        alarm = alarm_message(inspection, evidence)
        result = [result_message(inspection, evidence)] if self._results else []
        return result if alarm is None else [alarm, *result]

    def alarm_messages(self, change: AlarmChange) -> list[Message]:
        """Return the alarm that began or ended."""
        return [alarm_change_message(change)]

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Say that the journal has this inspection. Never waits for the broker."""
        self._retained.inspected(inspection)
        if self._commands:
            self._commands.tell(inspection)
        self._wake()

    def completed(self, inspection: Inspection, evidence: Evidence) -> None:
        """Say that the journal has its messages. Never waits for the broker."""
        self._wake()

    def alarmed(self, change: AlarmChange) -> None:
        """Say that the journal has this change of an alarm. Never waits for the broker."""
        self._wake()

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        """Publish which quantities of a station's pictures are no longer as calibrated."""
        self._retained.drifted(station, quantities)
        self._wake()

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what can be sent in this time, publish `stopped`, and disconnect. What remains waits in the journal."""
        if self._commands:
            self._commands.close(timeout_s)
        self._deadline = min(self._deadline, time.monotonic() + timeout_s)
        self._closing.set()
        self._event_queue.put(None)
        self._thread.join(timeout_s + 0.5)
        if self._thread.is_alive():
            log.warning("mqtt: the journal keeps the sender from ending; what is not sent waits in it")

    def counters(self) -> Counters:
        """May be called from any thread."""
        delivery = self._delivery
        return Counters(
            sent=delivery.sent,
            redelivered=delivery.redelivered,
            refused=delivery.refused,
            connections=self._session.connections,
            thread_deaths=self._thread_deaths,
            online=self.online,
            last_error=self._last_error or delivery.complaint,
        )

    def measures(self) -> list[Measure]:
        """Return its figures for /metrics."""
        counters = self.counters()
        return [
            Measure("mqtt_online", "1 while the broker has accepted us.", counters.online, counts_up=False),
            Measure("mqtt_connections", "Connections that the broker accepted.", counters.connections),
            Measure("mqtt_sent", "Messages that the broker acknowledged.", counters.sent),
            Measure("mqtt_redelivered", "Messages that were sent once more.", counters.redelivered),
            Measure("mqtt_refused", "Refusals by the broker.", counters.refused),
            *(
                Measure("commands", _HEARD, times, labels={"outcome": outcome})
                for outcome, times in (list(self._commands.counts.items()) if self._commands else ())
            ),
        ]

    @property
    def online(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._session.accepted

    def _wake(self) -> None:
        self._changed.set()
        self._event_queue.put(None)

    def _take(self, connection: Connection, arrived: Arrived) -> None:
        self._event_queue.put((connection, arrived))

    # The rest runs in the sender's thread.

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            error = _failure_of(self._cycle)
            failures = failures + 1 if error else 0
            if error:
                pause = self._broker.backoff.pause_s(failures)
                self._complain(error, f"trying again in {pause:.1f} s")
                self._stage.beat(pause)
                self._closing.wait(pause)
        self._session.closing = True
        for step in (self._drain, self._leave):
            if error := _failure_of(step):
                self._complain(error, "what is not sent waits in the journal")
        self._stage.rest()

    def _complain(self, error: Exception, outlook: str) -> None:
        self._last_error = str(error)
        unexpected = None if isinstance(error, EdgeAgentError) else error
        log.error("mqtt: the outbox cannot be sent: %s; %s", error, outlook, exc_info=unexpected)

    def _cycle(self) -> None:
        """Wait for events, handle them, and do what is due."""
        self._stage.beat(DATABASE_S)
        for connection, fact in self._events():
            self._handle(connection, fact)
        self._twins.look()
        self._retained.twin = self._twins.text
        marking = _failure_of(self._delivery.mark)  # that the journal takes nothing has to be told all the same
        patience_s = 2.0 * self._broker.keepalive_s + 5.0  # a little more than paho's, which knows of pings only
        if not self._session.advance():
            return
        if self._delivery.waiting_s > patience_s:
            self._session.give_up(
                f"no acknowledgement for {patience_s:.0f} s: the broker hangs, or the network between"
            )
            return
        self._refresh()
        if self._delivery.one_at_a_time or marking:
            self._publish_retained()  # alarms go first, but not before what may have ended the last connection
        if marking:
            raise marking
        self._done = self._delivery.send_rows()
        self._publish_retained()
        self._last_error = None

    def _refresh(self) -> None:
        """Look what is to be retained, when something has changed or POLL_S is over."""
        now = time.monotonic()
        if self._changed.is_set() or now >= self._refreshed_at + POLL_S:
            self._changed.clear()
            self._refreshed_at = now
            self._retained.refresh()

    def _events(self) -> Iterator[tuple[Connection, ConnectionEvent | Arrived]]:
        """Yield all events; wait for the first, but not beyond what is due next."""
        now = time.monotonic()
        due = now + POLL_S if self._session.connection else min(self._session.connect_at, now + POLL_S)
        try:
            item = self._event_queue.get(timeout=max(min(due, self._deadline) - now, 0.0))
            while True:
                if item is not None:
                    yield item
                item = self._event_queue.get_nowait()
        except Empty:
            return

    def _handle(self, connection: Connection, fact: ConnectionEvent | Arrived) -> None:
        if connection is not self._session.connection:
            return  # one that was given up
        if isinstance(fact, Accepted):
            self._session.accept()
            self._delivery.begin(connection, fact)
            self._retained.refresh(all_again=True)  # the broker may have lost all, or this may be another
            log.info("mqtt: online at %s as %s", self._broker.address, self._session.client_id)
            if fact.unheard:
                log.warning("mqtt: another agent of this name would not be noticed: %s", fact.unheard)
        elif isinstance(fact, Acknowledged):
            if answer := self._delivery.handle_answer(fact):
                (self._retained.taken if answer[1] else self._retained.again)(answer[0])
                self._twins.has_published |= answer == (self._retained.status_topic, True)
        elif isinstance(fact, Arrived):
            self._hear(connection, fact)
        else:
            self._thread_deaths += fact.crashed
            if fact.taken_over:
                self._twins.taken_over(self._session.client_id)
                self._note_twins()
            self._session.end(fact.why)

    def _hear(self, connection: Connection, arrived: Arrived) -> None:
        """Take a status that was published under the agent's name."""
        if arrived.mid is not None:
            connection.acknowledge(arrived.mid)
        shared = self._session.client_id if self._broker.client_id or not self._twins.must_yield else None
        if self._twins.hear(arrived, shared):
            self._retained.again(self._retained.status_topic)
        self._note_twins()

    def _note_twins(self) -> None:
        """Say what is known of other agents of this name.

        From the next connection on use a client id of this run alone if another client has the same, unless the
        configuration says which: else the two would end each other's connections for ever.
        """
        self._retained.twin = self._twins.text
        self._changed.set()
        if self._twins.must_yield and self._broker.client_id is None:
            self._session.client_id = default_client_id(f"{self._broker.agent}, {self._identity.instance}")

    def _lost(self, reason: str, was_accepted: bool) -> None:
        if was_accepted:
            self._delivery.end()
        self._last_error, self._done = reason, False

    def _publish_retained(self) -> None:
        """Publish what has changed; what changes again while it is under way goes once more after that."""
        for topic, payload in self._retained.due(self._delivery.takes):
            self._delivery.retain(topic, payload)

    def _drain(self) -> None:
        """Go on sending till nothing is left or the time nearly up, unless there is no connection to be had at once."""
        until = time.monotonic() + 0.75 * (self._deadline - time.monotonic())
        self._event_queue.put(None)  # else the first look would wait for news, of which there may be none
        while (self._session.connection or self._session.failures == 0) and time.monotonic() < until:
            self._cycle()
            if self._done and not self._delivery.retaining:
                return

    def _leave(self) -> None:
        """Publish `stopped` and disconnect; if the broker does not answer in time, have it publish the will."""
        acknowledged = False
        if self.online:
            mid = self._delivery.retain(self._retained.status_topic, self._retained.status("stopped"))
            acknowledged = self._await(Acknowledged(mid, refused=None))
        if self._session.connection:
            self._session.close(publish_will=not acknowledged)
            self._await(None)  # or the process might end before the broker is acknowledged
        self._delivery.mark()
        waiting, _ = self._outbox.outbox_depth()
        if waiting:
            log.warning("mqtt: %d unsent messages wait in the journal for the next start", waiting)

    def _await(self, wanted: ConnectionEvent | None) -> bool:
        """Handle events until the wanted one has come, or the connection or the time for closing is over."""
        while self._session.connection and time.monotonic() < self._deadline:
            for connection, fact in self._events():
                self._handle(connection, fact)
                if fact == wanted:
                    return True
        return False


def _failure_of(step: Callable[[], None]) -> Exception | None:
    """What went wrong, if anything. Alarms leave by the sender's thread alone, so it outlives whatever is raised."""
    try:
        step()
    except Exception as error:
        return error
    return None
