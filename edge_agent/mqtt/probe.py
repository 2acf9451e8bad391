"""Tries at a broker what the agent will do there: connects as it does, publishes to each of its topics, and hears itself.

A probe is no message of the agent: its schema is edge-agent/probe/1, it is not retained, and receivers drop it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from queue import Empty, SimpleQueue
from uuid import uuid4

from edge_agent.errors import SinkDown
from edge_agent.mqtt.broker import Broker, default_client_id
from edge_agent.mqtt.connection import (
    Accepted,
    Acknowledged,
    Arrived,
    Connection,
    ConnectionEvent,
    Ended,
    Subscription,
)
from edge_agent.mqtt.messages import agent_topic, encode, station_topic, timestamp, utc_now
from edge_agent.settings.finding import Finding

HEARD_S = 3.0  # after the last answer, for a message to come back
LARGEST = 256 * 1024  # bytes of a packet


def examine(
    broker: Broker, stations: Collection[str], kinds: Sequence[str], asked: Collection[str], timeout_s: float = 10.0
) -> Iterator[Finding]:
    """Yield what would work at a broker, and what it refuses.

    Args:
        broker: where, and as whom.
        stations: names of all stations.
        kinds: last levels of each station's topics.
        asked: names of those that take commands.
        timeout_s: seconds to wait for each answer.

    Raises:
        SinkDown: no connection can be made.
    """
    status = agent_topic(broker.prefix, broker.agent, "status")
    topics = [status, *(station_topic(broker.prefix, broker.agent, one, kind) for one in stations for kind in kinds)]
    visitor = f"{broker.client_id}-doctor" if broker.client_id else default_client_id(f"{broker.agent}, doctor")
    own = broker.client_id or default_client_id(broker.agent)
    with_id = visitor if _runs(broker, visitor, status, timeout_s) else own
    refused = dict(_refusals(broker, with_id, status, topics, timeout_s))
    unheard = refused.pop("", None)
    for topic, why in refused.items():
        yield Finding("broker", "failed", f"{topic} is refused: {why}")
    if unheard:
        yield Finding("broker", "warning", f"another agent of this name would not be noticed: {unheard}")
    commands = agent_topic(broker.prefix, broker.agent, "cmd", "trigger")
    if asked and (deaf := _deaf(broker, f"{visitor[:60]}-cmd", commands, timeout_s)):
        yield Finding("broker", "failed", deaf)
    elif not refused:
        heard = f", and lets it hear {commands}" if asked else ""
        yield Finding(
            "broker", "ok", f"{broker.address} answers, lets {with_id} in, takes its {len(topics)} topics{heard}"
        )


class _Visit:
    """One connection, and what has happened on it."""

    def __init__(self, broker: Broker, client_id: str, subscription: Subscription, timeout_s: float) -> None:
        """Connect. Raises SinkDown, which says why that failed."""
        self._events: SimpleQueue[ConnectionEvent] = SimpleQueue()
        self._timeout_s = timeout_s
        self.connection = Connection(
            broker, lambda _, fact: self._events.put(fact), client_id=client_id, subscription=subscription
        )
        first = self.next()
        if isinstance(first, Ended):
            self.connection.drop(publish_will=False)
            raise SinkDown(f"no connection to {broker.address}: {first.why}")
        self.accepted = first

    def next(self) -> ConnectionEvent:
        """Return what happens next."""
        try:
            return self._events.get(timeout=self._timeout_s)
        except Empty:
            return Ended(f"no answer within {self._timeout_s:g} s: check mqtt.host, mqtt.port and the firewall")


def _runs(broker: Broker, client_id: str, status: str, timeout_s: float) -> bool:
    """Return whether the agent itself is connected, as the broker has it; its client id must not be taken then."""
    came: SimpleQueue[Arrived] = SimpleQueue()
    heard = Subscription(status, 0, LARGEST, lambda _, arrived: came.put(arrived), required=False)
    visit = _Visit(broker, client_id, heard, timeout_s)
    # What is retained comes before the answer to a message that is sent after the subscription.
    mid = visit.connection.publish(status, _probe(str(uuid4())))
    while not isinstance(fact := visit.next(), Ended):
        if isinstance(fact, Acknowledged) and fact.mid == mid:
            break
    visit.connection.drop(publish_will=False)
    return any(_is_online(came.get_nowait()) for _ in range(came.qsize()))


def _is_online(arrived: Arrived) -> bool:
    try:
        return bool(arrived.retained and json.loads(arrived.payload)["online"])
    except (ValueError, KeyError, TypeError):
        return False


def _refusals(
    broker: Broker, client_id: str, status: str, topics: Sequence[str], timeout_s: float
) -> Iterator[tuple[str, str]]:
    """Yield each topic that is refused, with the reason; as topic "" why what is published there is not heard."""
    nonce, came = str(uuid4()), SimpleQueue[Arrived]()
    heard = Subscription(status, 0, LARGEST, lambda _, arrived: came.put(arrived), required=False)
    visit: _Visit | None = None
    unheard: str | None = None
    refused = set()
    for topic in topics:
        visit = visit or _Visit(broker, client_id, heard, timeout_s)
        if isinstance(visit.accepted, Accepted):
            unheard = unheard or visit.accepted.unheard
        mid = visit.connection.publish(topic, _probe(nonce))
        while not isinstance(fact := visit.next(), Ended):
            if isinstance(fact, Acknowledged) and fact.mid == mid:
                break
        if isinstance(fact, Acknowledged) and not fact.refused:
            continue
        if isinstance(fact, Ended):
            yield topic, f"the broker ends the connection over it ({fact.why})"
        elif isinstance(fact, Acknowledged) and fact.refused:
            yield topic, fact.refused
        refused.add(topic)
        visit.connection.drop(publish_will=False)  # many a broker ends it after a refusal
        visit = None
    if status not in refused:
        if unheard is None and not _comes(came, nonce):
            unheard = f"the broker takes the subscription of {status}, but delivers nothing: let the agent read it"
        if unheard:
            yield "", unheard
    if visit:
        visit.connection.drop(publish_will=False)


def _comes(came: SimpleQueue[Arrived], nonce: str) -> bool:
    until = time.monotonic() + HEARD_S
    while (left := until - time.monotonic()) > 0:
        try:
            if nonce.encode() in came.get(timeout=left).payload:
                return True
        except Empty:
            break
    return False


def _deaf(broker: Broker, client_id: str, commands: str, timeout_s: float) -> str | None:
    """Return why commands cannot be heard; None where they can."""
    try:
        visit = _Visit(broker, client_id, Subscription(commands, 0, LARGEST, lambda _, arrived: None), timeout_s)
    except SinkDown as error:
        return str(error)
    visit.connection.drop(publish_will=False)
    return None


def _probe(nonce: str) -> bytes:
    return encode({"schema": "edge-agent/probe/1", "id": nonce, "ts": timestamp(utc_now())})
