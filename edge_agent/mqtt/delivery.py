"""How the outbox goes out over one connection after another: order, window, answers; it connects nothing.

Delivery is at least once. A row is marked sent when the broker has acknowledged it, not before; what was under way when
a connection ended goes again on the next one, first and with the same id. First deliveries are in seq order.

A topic that the broker refuses (its access list, its limits) does not hold up the others. It is held: said in the log,
and tried again with its first message alone, ever more slowly but for ever; what is meant for it waits in the journal.
Many a broker ends the connection over such a message, and may not even say why. So after a connection that ended with
messages under way the next one begins with one at a time, until each topic in question has had its answer, and a topic
over which two connections ended is held like a refused one.

A broker that takes no message of such a size behaves in the same way, and seldom says why. So the trial is the smallest
message of a topic, at once if it is much smaller than what was refused. If that one passes, the larger ones are held for
their size, as if they had a topic of their own, and the others go on. Behind LOOK messages that are held the rest waits too, as
every look at the outbox has to read past them.

A refusal may be of one message alone, whatever the reason that the broker gives. So after the first one another message of the
topic is tried at once. If that one passes, the first is held alone, and the others go on; after TRIES refusals it is set aside in
the journal, where `edge-agent outbox list --dropped` shows it and `retry` brings it back. If it is refused, too, the topic is held.

`historical` is true when the message was made before the present connection was accepted, or more than `late_s` before
it is sent.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_agent.core import Outbox, OutboxRow
from edge_agent.mqtt.connection import Accepted, Acknowledged, Connection
from edge_agent.mqtt.messages import delivery, encode, station_topic

log = logging.getLogger(__name__)

LOOK = 5000
TRIES = 5  # refusals of a message while others of its topic pass, after which it is set aside
SURE = 4  # messages of a topic that were refused in a row, after which it is the topic
SUSPECT_S = 5.0  # a connection that ends so soon after a message was sent may have ended over it
SMALLER = 0.8  # a message of at most this part of another's size may pass where that one is too large
PACKET_OVERHEAD = 64  # bytes of a PUBLISH beyond its topic and payload, generously


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A message under way: a row of the outbox, or a retained message, which has no seq."""

    topic: str
    lane: str  # what it is held or suspected with: its topic, or the large messages of it
    sent_at: float  # monotonic seconds
    seq: int | None
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class _Pause:
    """Why nothing goes to a topic but, from `again_at` on (monotonic seconds), one message as a trial."""

    refusals: int
    again_at: float
    since: float


class Delivery:
    """Sends rows and retained messages over the present connection. For one thread, once a connection is accepted.

    window: messages that may be under way at once. again_after: seconds to wait after so many refusals of one topic.
    """

    def __init__(
        self,
        outbox: Outbox,
        prefix: str,
        agent: str,
        *,
        window: int,
        late_s: float,
        again_after: Callable[[int], float],
    ) -> None:
        """Prepare; begin() starts on a connection.

        Args:
            outbox: the messages that wait.
            prefix: first levels of all topics.
            agent: its name, the level after them.
            window: messages that may be unacknowledged at once.
            late_s: seconds after which a message is marked as historical.
            again_after: gives the seconds to wait after so many refusals of one topic.
        """
        self._outbox, self._prefix, self._agent = outbox, prefix, agent
        self._own_window, self._late_s, self._again_after = window, late_s, again_after
        self._acknowledged: set[int] = set()  # seqs that are still to be marked sent
        self._unanswered: set[int] = set()  # seqs that were sent, on whatever connection, and never answered
        self._paused: dict[str, _Pause] = {}  # by topic, or by the large messages of one
        self._refused_size: dict[str, int] = {}  # by topic, bytes of the smallest message that was refused
        self._too_large: int | None = None  # bytes from which messages are held for their size; None: of any size pass
        self._suspected_topics: set[str] = set()  # topics that were under way when a connection ended, unanswered since
        self._lost_connections: Counter[str] = Counter()  # connections that ended over a topic, since its last answer
        self._in_flight: dict[int, _InFlight] = {}  # by the connection's number
        self._refusals: Counter[int] = Counter()  # by seq
        self._refused_in: dict[str, set[int]] = {}  # by topic, seqs that were refused since a message passed
        self._alone: set[int] = set()  # seqs that are held alone, as others of their topic pass
        self._aside: dict[int, str] = {}  # seqs that are still to be set aside, with the reason
        self._unsendable: set[int] = set()  # seqs that this connection cannot take
        self._passed_over = 0  # rows that the last look found and could not send
        self.sent = self.redelivered = self.refused = 0
        self.complaint: str | None = None

    def begin(self, connection: Connection, accepted: Accepted) -> None:
        """Start on a connection that was just accepted."""
        self._connection, self._accepted, self._accepted_at = connection, accepted, datetime.now(timezone.utc)
        self._in_flight, self._unsendable = {}, set()

    def end(self) -> None:
        """The connection is over; what was under way will go again."""
        lanes = {message.lane: message for message in self._in_flight.values()}
        if self.one_at_a_time and self.waiting_s < SUSPECT_S:
            self._lost_connections.update(lanes.keys())
        self._suspected_topics |= lanes.keys()
        for lane, message in lanes.items():
            if self._lost_connections[lane] >= 2:
                why = "its access list may not allow it, or its limit may be smaller than this message"
                self._pause_lane(message, f"the broker ends the connection over it ({message.size} bytes); {why}")
        self._in_flight = {}

    def takes(self, topic: str) -> bool:
        """Whether a retained message may be sent there now; one at a time may be under way to each topic."""
        hold, now = self._paused.get(topic), time.monotonic()
        return (
            len(self._in_flight) < self._window
            and all(message.topic != topic for message in self._in_flight.values())
            and (hold is None or now >= hold.again_at)
            and (not self.one_at_a_time or topic in self._suspected_topics)
        )

    def retain(self, topic: str, payload: bytes) -> int:
        """Publish a retained message. Returns the connection's number of it."""
        return self._send(topic, payload, retain=True)

    def handle_answer(self, answer: Acknowledged) -> tuple[str, bool] | None:
        """Handle the broker's answer; of a retained message return its topic, and whether the broker took it."""
        message = self._in_flight.pop(answer.mid)
        self._suspected_topics.discard(message.lane)
        if message.seq is not None:
            self._unanswered.discard(message.seq)
        if answer.refused is not None:
            self._pause_lane(message, answer.refused)
            return (message.topic, False) if message.seq is None else None
        self._lost_connections.pop(message.lane, None)
        if self._paused.pop(message.lane, None):
            self._reopen(message)
        if message.seq is not None:
            self._acknowledged.add(message.seq)
            return None
        return message.topic, True

    def mark(self) -> None:
        """Mark what was acknowledged, on whatever connection. If the outbox cannot now, call it again."""
        for seq, why in list(self._aside.items()):
            self._outbox.set_aside(seq, why)
            del self._aside[seq]
        if self._acknowledged:
            self._outbox.mark_sent(sorted(self._acknowledged))
            self.sent += len(self._acknowledged)
            self._acknowledged.clear()

    def send_rows(self) -> bool:
        """Send what waits, as far as there is room. Call mark() first. Returns whether nothing is left to be sent."""
        under_way = sum(message.seq is not None for message in self._in_flight.values())
        # A quarter of the window stays free for retained messages, which a long outbox would otherwise hold back.
        room = min(self._window - len(self._in_flight), self._window - self._window // 4 - under_way)
        if room <= 0:
            return False
        rows = self._look(room)
        for row in rows:
            self._send_row(row)
        if not rows and not self._in_flight:
            self._suspected_topics.clear()  # what was suspected is no longer to be sent
        return not rows and not under_way

    @property
    def one_at_a_time(self) -> bool:
        """Whether one message at a time is sent, to see over which the last connection ended."""
        return bool(self._suspected_topics)

    @property
    def retaining(self) -> bool:
        """Whether a retained message is under way."""
        return any(message.seq is None for message in self._in_flight.values())

    @property
    def waiting_s(self) -> float:
        """Seconds since the oldest message under way was sent; 0 when there is none."""
        now = time.monotonic()
        return max((now - message.sent_at for message in self._in_flight.values()), default=0.0)

    @property
    def _window(self) -> int:
        return 1 if self.one_at_a_time else min(self._own_window, self._accepted.receive_maximum)

    def _look(self, room: int) -> list[OutboxRow]:
        """The next rows that may be sent, at most `room` of them."""
        limit = min(room + self._passed_over, LOOK)
        while True:
            rows = self._outbox.pending(limit)
            free = self._free(rows)
            self._passed_over = len(rows) - len(free)
            if len(free) >= room or len(rows) < limit or limit >= LOOK:
                return free[:room]
            limit = min(2 * limit, LOOK)

    def _free(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Those neither under way nor held; of a held topic whose time has come, the smallest alone, as a trial."""
        passed_over = self._unsendable | self._aside.keys() | {one.seq for one in self._in_flight.values()}
        waiting = [(row, self._lane(row)) for row in rows if row.seq not in passed_over]
        trials: set[int] = set()
        for lane in self._paused.keys() - {message.lane for message in self._in_flight.values()}:
            trials |= {row.seq for row in self._trial(lane, [row for row, its in waiting if its == lane])}
        return [row for row, lane in waiting if lane not in self._paused or row.seq in trials]

    def _trial(self, lane: str, own: Sequence[OutboxRow]) -> Sequence[OutboxRow]:
        """Return which of a held topic's rows are to be sent now, to see whether it is still refused; mostly one or none."""
        refused = self._refused_in.get(lane, set())
        fresh = [row for row in own if row.seq not in refused]
        if not own:
            return []
        if len(refused) == 1 and fresh:
            return [min(fresh, key=self._size)]  # at once: the refusal may be of that one message alone
        smallest = min(own, key=self._size)
        if time.monotonic() < self._paused[lane].again_at:
            return [smallest] if self._size(smallest) <= SMALLER * self._refused_size.get(lane, 0) else []
        if self.one_at_a_time or len(refused) >= SURE or not fresh:
            return [smallest]
        # In order, so that nothing is overtaken where the topic was at fault.
        return [row for row in own if row.seq in refused] + [min(fresh, key=self._size)]

    def _lane(self, row: OutboxRow) -> str:
        """Return the row's topic; of a row that is held alone its own name; of one that is too large, one for all that are."""
        topic = self._topic(row)
        if row.seq in self._alone:
            return _alone(topic, row.seq)
        if self._too_large is None or self._size(row) < self._too_large:
            return topic
        return _large(topic)

    def _size(self, row: OutboxRow) -> int:
        try:
            return len(encode(delivery(row, self._agent, False))) + len(self._topic(row).encode())
        except ValueError:
            return 0  # set aside when it is its turn

    def _reopen(self, passed: _InFlight) -> None:
        """A held topic's trial has passed: if it is much smaller than what was refused, the size was the reason."""
        refused = self._refused_size.pop(passed.lane, 0)
        suspects = self._refused_in.pop(passed.lane, set())
        is_own = passed.seq in suspects  # then the topic was at fault, and is no longer
        if passed.seq is not None and not is_own and not self._is_size(passed, refused):
            self._hold_alone(passed.topic, suspects)
        if passed.lane == _large(passed.topic):
            self._too_large = None  # the broker takes large ones now
        elif self._is_size(passed, refused):
            self._refused_in[_large(passed.topic)] = suspects
            self._too_large = min(refused, self._too_large or refused)
            self._pause_lane(
                _InFlight(passed.topic, _large(passed.topic), passed.sent_at, None, refused),
                f"smaller messages pass, so the broker's limit is below {refused} bytes: raise it (Mosquitto: message_size_limit)",
            )
        if not self._paused:
            self.complaint = None

    @staticmethod
    def _is_size(passed: _InFlight, refused: int) -> bool:
        """Return whether a message passed that is so much smaller than what was refused that this may be why."""
        return passed.lane == passed.topic and passed.seq is not None and passed.size <= SMALLER * refused

    def _hold_alone(self, topic: str, seqs: set[int]) -> None:
        """Hold messages, each by itself, as another one of their topic has passed since they were refused."""
        now = time.monotonic()
        for seq in seqs:
            self._alone.add(seq)
            pause = self._again_after(self._refusals[seq])
            self._paused[_alone(topic, seq)] = _Pause(self._refusals[seq], now + pause, now)
            log.warning(
                "mqtt: message %d for %s is held alone, as others pass; tried again in %.1f s", seq, topic, pause
            )

    def _send_row(self, row: OutboxRow) -> None:
        topic = self._topic(row)
        age_s = (datetime.now(timezone.utc) - row.created_at).total_seconds()
        historical = row.created_at < self._accepted_at or age_s > self._late_s
        try:
            payload = encode(delivery(row, self._agent, historical))
        except ValueError as error:
            self._set_aside(row, f"cannot be written as JSON ({error})")
            return
        size, allowed = len(payload) + len(topic.encode()) + PACKET_OVERHEAD, self._accepted.maximum_packet_size
        if allowed is not None and size > allowed:  # the broker would end the connection over it, again and again
            self._set_aside(row, f"takes {size} bytes, and {allowed} are allowed: allow larger packets at the broker")
            return
        self._send(topic, payload, lane=self._lane(row), seq=row.seq)
        self.redelivered += row.seq in self._unanswered
        self._unanswered.add(row.seq)

    def _topic(self, row: OutboxRow) -> str:
        return station_topic(self._prefix, self._agent, row.message.station, row.message.kind)

    def _send(
        self, topic: str, payload: bytes, *, lane: str | None = None, retain: bool = False, seq: int | None = None
    ) -> int:
        mid = self._connection.publish(topic, payload, retain=retain)
        size = len(payload) + len(topic.encode())
        self._in_flight[mid] = _InFlight(topic, lane or topic, time.monotonic(), seq, size)
        return mid

    def _set_aside(self, row: OutboxRow, why: str) -> None:
        self.refused += 1
        self._unsendable.add(row.seq)
        self.complaint = f"message {row.seq} for {self._topic(row)} {why}"
        log.warning("mqtt: %s; it stays in the journal and is tried again on the next connection", self.complaint)

    def _pause_lane(self, message: _InFlight, why: str) -> None:
        self.refused += 1
        lane, held = message.lane, self._paused.get(message.lane)
        if message.seq is not None:
            self._refusals[message.seq] += 1
            self._refused_in.setdefault(lane, set()).add(message.seq)
            if message.seq in self._alone and self._refusals[message.seq] >= TRIES:
                self._aside[message.seq] = f"the broker refused it {TRIES} times, and took others of its topic: {why}"
                self._paused.pop(lane, None)
                self._suspected_topics.discard(lane)
                self.complaint = self.complaint if self._paused else None
                log.error("mqtt: message %d for %s is set aside: %s", message.seq, message.topic, why)
                return
        # Of several that were under way together only the first makes the pause longer.
        refusals = 1 if held is None else held.refusals + (message.sent_at > held.since)
        pause, now = self._again_after(refusals), time.monotonic()
        self._paused[lane] = _Pause(refusals, now + pause, now)
        self._refused_size[lane] = min(message.size, self._refused_size.get(lane, message.size))
        self._suspected_topics.discard(lane)
        self.complaint = f"{lane} is refused: {why}"
        log.warning("mqtt: %s; what is meant for it waits, and is tried again in %.1f s", self.complaint, pause)


def _large(topic: str) -> str:
    return f"{topic} (large messages)"


def _alone(topic: str, seq: int) -> str:
    return f"{topic} (message {seq})"
