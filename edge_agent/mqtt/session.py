"""One connection after another to one broker: connects when it is due, gives up, waits and tries again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge_agent.errors import SinkDown
from edge_agent.mqtt.broker import Broker
from edge_agent.mqtt.connection import Arrived, Connection, ConnectionEvent, Subscription, Will

log = logging.getLogger(__name__)

CONNECT_S = 30.0  # from the start of an attempt to the broker's answer, name look-up and TLS included
STEADY_S = 10.0  # a connection that held this long is followed by a quick attempt; shorter ones slow the attempts down


class Session:
    """For one thread, which calls advance() again and again and passes on the events of connections.

    connection: the present one, accepted or not; None while it waits for the next attempt. accepted: whether the broker
    has accepted it. connections: how many were accepted so far. failures: attempts in a row that did not come to be, or
    did not hold. connect_at: monotonic seconds of the next attempt. client_id: of the next attempt.
    closing: the end of a connection is wanted, and no warning.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        *,
        client_id: str,
        on_event: Callable[[Connection, ConnectionEvent | Arrived], None],
        lost: Callable[[str, bool], None],
        will: Callable[[], Will] | None = None,
        subscription: Subscription | None = None,
    ) -> None:
        """Prepare; advance() connects.

        Args:
            broker: where to connect, and as whom.
            name: what log lines begin with, such as "mqtt".
            client_id: unique at the broker.
            on_event: takes what happens on a connection; runs in that connection's thread.
            lost: called with the reason, and whether the connection had been accepted, after each one that ended.
            will: makes the last will of each attempt.
            subscription: what to subscribe to; None for nothing.
        """
        self._broker, self._name, self.client_id = broker, name, client_id
        self._on_event, self._lost, self._will, self._subscription = on_event, lost, will, subscription
        self.connection: Connection | None = None
        self.accepted = False
        self.connections = self.failures = 0
        self.connect_at = 0.0
        self._started_at = 0.0  # of the present attempt, monotonic seconds
        self.closing = False

    def advance(self) -> bool:
        """Connect if it is time to, give up if the broker does not answer; return whether it has accepted us."""
        now = time.monotonic()
        if self.connection is None:
            if now >= self.connect_at:
                self._connect()
        elif not self.accepted and now > self._started_at + CONNECT_S:
            self.give_up(f"no answer within {CONNECT_S:.0f} s: check mqtt.host, mqtt.port and the firewall")
        return self.accepted

    def accept(self) -> None:
        """Note that the broker has accepted the present connection."""
        self.accepted = True
        self.connections += 1

    def give_up(self, reason: str) -> None:
        """End the present connection as if it had broken, so that the broker publishes the will; try again later."""
        if self.connection is not None:
            self.connection.drop(publish_will=self._will is not None)
        self.end(reason)

    def end(self, reason: str) -> None:
        """Note that the present connection has ended, or did not come to be, and wait for the next attempt."""
        was_accepted, now = self.accepted, time.monotonic()
        held = was_accepted and now > self._started_at + STEADY_S
        self.connection, self.accepted = None, False
        pause_s = self._broker.backoff.pause_s(0 if held else self.failures)
        self.failures = 1 if held else self.failures + 1
        self.connect_at = now + pause_s
        self._lost(reason, was_accepted)
        if self.closing:
            log.info("%s: no longer connected to %s: %s", self._name, self._broker.address, reason)
        else:
            log.warning(
                "%s: not connected to %s: %s; trying again in %.1f s", self._name, self._broker.address, reason, pause_s
            )

    def close(self, *, publish_will: bool = False) -> None:
        """Disconnect; an Ended event follows if there was a connection."""
        self.closing = True
        if self.connection is not None:
            self.connection.drop(publish_will=publish_will)

    def _connect(self) -> None:
        self._started_at = time.monotonic()
        try:
            self.connection = Connection(
                self._broker,
                self._on_event,
                client_id=self.client_id,
                will=self._will() if self._will else None,
                subscription=self._subscription,
            )
        except SinkDown as error:
            self.end(str(error))
