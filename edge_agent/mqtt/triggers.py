"""MQTT commands that ask for a picture: {"station": "cam1", "trigger_id": "4711", "part_id": "SN123"}, answered once each.

One client hears them for all stations. The broker keeps its session, so that nothing is lost that is sent while the agent
is away, and each command until the journal holds the verdict. A command that has waited at the broker gets no picture, as
that would show a later part; one that comes again, by its station and trigger_id, gets no second verdict.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from edge_agent.core import Inspection, Ledger, Message, PictureRequest, StoredFile
from edge_agent.errors import JournalError
from edge_agent.line.heartbeat import DATABASE_S, Stage
from edge_agent.mqtt.answers import Answers
from edge_agent.mqtt.broker import Broker, default_client_id
from edge_agent.mqtt.connection import Accepted, Arrived, Connection, ConnectionEvent, Ended, Subscription
from edge_agent.mqtt.messages import agent_topic, utc_now
from edge_agent.mqtt.session import Session
from edge_agent.settings.request_queue import RequestQueue

log = logging.getLogger(__name__)

SESSION_S = 7 * 86400  # for so long the broker keeps commands while the agent is away
LARGEST = 4096  # bytes of a command
LARGEST_PACKET = 256 * 1024  # bytes that the broker may send at once; what is between the two is logged and counted
LONGEST = 200  # characters of an id
SHOWN = 100  # bytes of a command in the log
DONE_S = 0.1  # how often the journal is asked what is recorded
TICK_S = 0.5
WAITED = "the command waited at the broker while the agent was away, so the part may have gone"


@dataclass(frozen=True, slots=True)
class Command:
    """What a payload asks for. fault: what is wrong with it all the same."""

    station: str
    trigger_id: str
    part_id: str | None = None
    fault: str | None = None

    @property
    def file(self) -> StoredFile:
        """What the ledger knows it by: digests of its trigger_id, which so can be no path."""
        digest = hashlib.sha256(self.trigger_id.encode())
        inode = int.from_bytes(digest.digest()[:8], "big")
        return StoredFile(f"mqtt-trigger:{digest.hexdigest()}", inode, 0, 0, digest.hexdigest())


def parse(payload: bytes) -> Command | str:
    """The command in a payload, or why no station can be asked, or nobody answered. Numbers will do for ids."""
    if len(payload) > LARGEST:
        return f"is larger than {LARGEST} bytes"
    try:
        content = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        return "is no JSON in UTF-8"
    if not isinstance(content, dict):
        return "is no JSON object"
    station, trigger_id, part_id = (_text(content.get(key)) for key in ("station", "trigger_id", "part_id"))
    for key, value in (("station", station), ("trigger_id", trigger_id)):
        if value is None:
            return f"has no {key}, which is text of 1 to {LONGEST} printable characters"
    assert station is not None
    assert trigger_id is not None
    if part_id is None and content.get("part_id") is not None:
        fault = f"the command's part_id is no text of 1 to {LONGEST} printable characters"
        return Command(station, trigger_id, fault=fault)
    return Command(station, trigger_id, part_id)


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable() else None


class MqttTriggers:
    """Listens for commands from now on, in a thread of its own, until close(). stations: those whose cameras it asks.

    counts: commands by what became of them: asked (a picture), waited and faulty (NotDecidable, without one), repeated
    (asked before), unknown (of a station that takes no commands: answered NotDecidable), and malformed (said in the log alone).
    """

    def __init__(
        self,
        broker: Broker,
        stations: Mapping[str, float | None],
        ledger: Ledger,
        record: Callable[[Sequence[Message]], None],
    ) -> None:
        """Start a thread that listens for commands.

        Args:
            broker: where, and as whom.
            stations: those that take commands, by name, and seconds after which each is answered NotDecidable; None: each
                is answered by its result alone, whenever that comes.
            ledger: knows which commands were inspected before.
            record: commits answers to the outbox; see core.SinkContext.
        """
        self._broker, self._ledger, self._record = broker, ledger, record
        self._answers = Answers(stations)
        self.answered: Callable[[], None] = lambda: None  # is told that the outbox has answers
        self._client_id = (
            f"{broker.client_id}-triggers" if broker.client_id else default_client_id(f"{broker.agent}, triggers")
        )
        commands = agent_topic(broker.prefix, broker.agent, "cmd", "trigger")
        self._subscription = Subscription(commands, SESSION_S, LARGEST_PACKET, self._take)
        self._stations = {station: RequestQueue() for station in stations}
        self.counts = Counter(dict.fromkeys(("asked", "waited", "faulty", "repeated", "malformed", "unknown"), 0))
        self._unrecorded: dict[tuple[str, str], Command] = {}  # asked for, by station and trigger_id
        self._event_queue: SimpleQueue[tuple[Connection, ConnectionEvent | Arrived] | Inspection | None] = (
            SimpleQueue()
        )  # None: look around
        # (mid, the command that is to be recorded first), in the order of arrival, of the present connection.
        self._unacknowledged: deque[tuple[int, Command | None]] = deque()
        self._session = Session(
            broker,
            "mqtt triggers",
            client_id=self._client_id,
            on_event=lambda connection, fact: self._event_queue.put((connection, fact)),
            lost=lambda reason, was_accepted: self._unacknowledged.clear(),
            subscription=self._subscription,
        )
        self._met = False  # the broker has had a session of ours
        self._logged_at = float("-inf")
        self._unlogged = 0
        self.stage = Stage("triggers")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt-triggers", daemon=True)
        self._thread.start()

    def of(self, station: str) -> RequestQueue:
        """Return the commands of a station."""
        return self._stations[station]

    def tell(self, inspection: Inspection) -> None:
        """Note a verdict that the journal has; it may answer a command. Never waits."""
        if inspection.frame.trigger_id is not None:
            self._event_queue.put(inspection)

    def close(self, timeout_s: float = 5.0) -> None:
        """Acknowledge what is recorded, and disconnect. The rest comes again at the next start."""
        self._closing.set()
        self._event_queue.put(None)
        self._thread.join(timeout_s)

    def _take(self, connection: Connection, arrived: Arrived) -> None:
        self._event_queue.put((connection, arrived))

    # The rest runs in a thread of its own.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._cycle()
            except Exception as error:  # what was heard and not yet acknowledged comes again with the next connection
                log.exception("mqtt triggers: an error that should not happen")
                self._session.give_up(f"{type(error).__name__}: {error}")
        try:
            self._answer()
            self._acknowledge()
        except JournalError as error:
            log.warning("mqtt triggers: the last commands come again at the next start (%s)", error)
        if connection := self._session.connection:
            self._session.close()
            self._until_ended(connection)
        self.stage.rest()

    def _until_ended(self, connection: Connection) -> None:
        """Or the process might end before the broker has the last acknowledgements."""
        until = time.monotonic() + 2.0
        while (left := until - time.monotonic()) > 0:
            try:
                item = self._event_queue.get(timeout=left)
            except Empty:
                return
            if isinstance(item, tuple) and item[0] is connection and isinstance(item[1], Ended):
                return

    def _cycle(self) -> None:
        self.stage.beat(DATABASE_S)
        try:
            now = time.monotonic()
            item = self._event_queue.get(
                timeout=max(0.0, min(DONE_S if self._unrecorded else TICK_S, self._answers.due_s(now)))
            )
            while True:
                if isinstance(item, Inspection):
                    self._answers.tell(item, time.monotonic(), utc_now())
                elif item:
                    self._handle(*item)
                item = self._event_queue.get_nowait()
        except Empty:
            pass
        try:
            self._answer()
        except JournalError as error:
            log.debug("mqtt triggers: answered later (%s)", error)
        self._session.advance()
        try:
            self._acknowledge()
        except JournalError as error:
            log.debug("mqtt triggers: acknowledged later (%s)", error)

    def _handle(self, connection: Connection, fact: ConnectionEvent | Arrived) -> None:
        if connection is not self._session.connection:
            return  # one that was given up
        if isinstance(fact, Arrived):
            command = self._ask(fact)
            if fact.mid is not None:
                self._unacknowledged.append((fact.mid, command))
        elif isinstance(fact, Accepted):
            self._session.accept()
            log.info("mqtt triggers: hears %s as %s", self._subscription.topic, self._client_id)
            if self._met and not fact.resumed:
                log.warning("mqtt triggers: the broker has lost the session, and commands that were sent meanwhile")
            self._met = True
        elif isinstance(fact, Ended):
            self._session.end(fact.why)

    def _ask(self, arrived: Arrived) -> Command | None:
        """Have a picture taken, or a verdict made without one. Returns what is to be recorded before it is acknowledged."""
        command = parse(arrived.payload)
        if isinstance(command, str):
            self._refuse("malformed", arrived.payload, command)
            return None
        if command.station not in self._stations:
            why = "names no station that takes commands"
            self._refuse("unknown", arrived.payload, why)
            self._answers.refuse(command.station, command.trigger_id, command.part_id, f"the command {why}")
            self._unrecorded[command.station, command.trigger_id] = command
            return command
        key = command.station, command.trigger_id
        self._answers.expect(command.station, command.trigger_id, command.part_id, arrived.at)
        if key in self._unrecorded or self._is_recorded(command):
            self.counts["repeated"] += 1
            if self._answers.waits(*key):  # an earlier run has recorded the verdict, and perhaps not the answer
                self._unrecorded.setdefault(key, command)
            return self._unrecorded.get(key)
        if command.fault:
            self._refuse("faulty", arrived.payload, command.fault)
        else:
            self.counts["waited" if arrived.waited else "asked"] += 1
        fault = command.fault or (WAITED if arrived.waited else None)
        self._unrecorded[key] = command
        request = PictureRequest(command.part_id, command.trigger_id, arrived.at, command.file, fault)
        self._stations[command.station].put(request)
        return command

    def _is_recorded(self, command: Command) -> bool:
        try:
            return self._ledger.seen(command.station, command.file)
        except JournalError as error:  # the journal itself records no command twice
            log.debug("mqtt triggers: cannot be compared with the journal (%s)", error)
            return False

    def _refuse(self, kind: str, payload: bytes, why: str) -> None:
        """Count it, and log at most one a second, so that a flooded topic does not fill the disk."""
        self.counts[kind] += 1
        now = time.monotonic()
        if now < self._logged_at + 1.0:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} before it)" if self._unlogged else ""
        self._logged_at, self._unlogged = now, 0
        shown = ascii(payload[:SHOWN])[2:-1] + ("..." if len(payload) > SHOWN else "")
        log.warning(
            "mqtt triggers: a command is %s%s, it %s: %s", kind, more, why.removeprefix("the command's "), shown
        )

    def _answer(self) -> None:
        """Have the journal hold the answers that are decided, for the sender. Raises JournalError."""
        late = self._answers.late
        self._answers.look(time.monotonic(), utc_now())
        if self._answers.late > late:
            log.warning("mqtt triggers: %d answered NotDecidable, late: no verdict in time", self._answers.late - late)
        if messages := self._answers.to_record():
            self._record(messages)
            self._answers.recorded()
            self.answered()

    def _acknowledge(self) -> None:
        """Acknowledge what the journal holds, in the order of arrival. Raises JournalError."""
        waiting: set[str] = set()  # stations: one that has not recorded its oldest command has hardly a newer one
        for key, command in list(self._unrecorded.items()):
            if command.station in waiting:
                continue
            if self._answers.waits(*key):
                continue
            if command.station not in self._stations or self._ledger.seen(command.station, command.file):
                del self._unrecorded[key]
            else:
                waiting.add(command.station)
        connection = self._session.connection
        while connection and self._unacknowledged:
            mid, asked = self._unacknowledged[0]
            if asked and (asked.station, asked.trigger_id) in self._unrecorded:
                return
            connection.acknowledge(mid)
            self._unacknowledged.popleft()
