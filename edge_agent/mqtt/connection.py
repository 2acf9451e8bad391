"""One connection to an MQTT 5 broker, from its attempt to its end, reported as events; it never tries again.

paho's own reconnecting is not used: it would send what it still holds in memory, beside what the journal says is to be
sent, and so in no order. A new connection begins with nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.mqtt.broker import (
    TAKEN_OVER,
    Broker,
    connection_error_text,
    reason_text,
    tls_context,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker took the connection. Messages it allows unacknowledged at once, and bytes per packet (None: any).

    resumed: the broker had kept a session of this client. unheard: why it makes no subscription, where that may be.
    """

    receive_maximum: int
    maximum_packet_size: int | None
    resumed: bool = False
    unheard: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker answered a message: refused says why it did not take it, and is None when it did."""

    mid: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is over, or never came to be: why, and what to do. crashed: the network thread died of a bug.

    taken_over: another client has connected with the same id.
    """

    why: str
    crashed: bool = False
    taken_over: bool = False


ConnectionEvent = Accepted | Acknowledged | Ended


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, once this connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message has come, at `at` (monotonic seconds); the broker keeps it until acknowledge(), unless mid is None.

    waited: it may have been sent before this connection heard the topic, however long ago. retained: it was sent before the
    subscription was made, and the broker keeps it for whoever subscribes.
    """

    topic: str
    payload: bytes
    mid: int | None
    at: float
    waited: bool
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a connection is to hear with QoS 1. For `keep_s` seconds after its end the broker keeps what comes meanwhile.

    largest: bytes of a packet; the broker is to throw larger ones away. take: runs in the connection's thread.
    required: without it the connection is of no use, and the broker has to number subscriptions. Otherwise it may be refused,
    nothing is kept, and what the broker retains comes, too.
    """

    topic: str
    keep_s: int
    largest: int
    take: Callable[[Connection, Arrived], None]
    required: bool = True


class Connection:
    """Connects at once, in a thread of its own, and gives `on_event` what happens; `on_event` runs in that thread.

    The last fact is Ended, and it always comes. With a subscription, Accepted comes once that is made. Raises SinkDown
    when there is nothing to connect with: the password or a certificate cannot be read.
    """

    def __init__(
        self,
        broker: Broker,
        on_event: Callable[[Connection, ConnectionEvent], None],
        *,
        client_id: str,
        will: Will | None = None,
        subscription: Subscription | None = None,
    ) -> None:
        """Connect at once, in a thread of its own.

        Args:
            broker: where, and as whom.
            on_event: called in that thread with each fact.
            client_id: unique at the broker.
            will: what the broker publishes if this connection breaks.
            subscription: what to subscribe to; None for nothing.

        Raises:
            SinkDown: the password or a certificate cannot be read.
        """
        self._tls, self._client_id, self._on_event = broker.tls, client_id, on_event
        self._accepted = self._dropped = self._taken_over = False
        self._why: str | None = None
        self._complaint: str | None = None
        self._subscription, self._offered = subscription, Accepted(0, None)
        # The broker keeps with each message what the subscription was numbered when it came. So one that has waited for
        # this connection has another number, which neither the order of arrival nor any clock could tell as surely.
        self._number = random.randrange(1, 2**28)
        client = self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=subscription is not None,
        )
        client.ended = self._on_end
        client.suppress_exceptions = True  # of callbacks, which would end the network thread
        client.connect_timeout = 10.0
        client.max_inflight_messages_set(0)  # no limit of paho's: the window is the sender's
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_log = self._on_publish, self._on_log
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        password = broker.secret()
        if broker.username is not None or password is not None:
            client.username_pw_set(broker.username, password)
        if broker.tls is not None:
            client.tls_set_context(tls_context(broker.tls))
        session = Properties(PacketTypes.CONNECT)
        if subscription is not None and subscription.required:
            session.SessionExpiryInterval, session.MaximumPacketSize = subscription.keep_s, subscription.largest
            session.ReceiveMaximum = 65535  # one that is not acknowledged yet must not hold up another
        client.connect_async(
            broker.host,
            broker.port,
            keepalive=broker.keepalive_s,
            clean_start=subscription is None or not subscription.required,
            properties=session,
        )
        client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Send JSON with QoS 1, after what was published before, and return the number that Acknowledged will name.

        Args:
            topic: without wildcards.
            payload: UTF-8 JSON.
            retain: the broker keeps it for later subscribers.
        """
        properties = Properties(PacketTypes.PUBLISH)
        properties.PayloadFormatIndicator = 1  # UTF-8
        properties.ContentType = "application/json"
        return self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid

    def acknowledge(self, mid: int) -> None:
        """Let the broker forget a message that has arrived. In the order of arrival, as MQTT wants it."""
        self._client.ack(mid, 1)

    def drop(self, *, publish_will: bool) -> None:
        """End the connection, waiting for nothing. publish_will: the broker is to publish the will all the same."""
        self._dropped = True
        reason = "Disconnect with will message" if publish_will else "Normal disconnection"
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, reason))

    # The rest runs in paho's thread, and only notes and tells, so that it never waits for anyone.

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: paho.ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if reason.is_failure:
            self._why = f"the broker refuses the connection: {reason_text(reason)}"
        elif self._dropped:  # while there was no connection yet that could have been ended
            client.disconnect()
        else:
            self._accepted = True
            receive_maximum = getattr(properties, "ReceiveMaximum", 65535)
            largest = getattr(properties, "MaximumPacketSize", None)
            accepted = self._offered = Accepted(receive_maximum, largest, flags.session_present)
            if self._subscription is None:
                self._on_event(self, accepted)
            elif not self._subscription.required:
                client.subscribe(self._subscription.topic, options=SubscribeOptions(qos=1))
            elif not getattr(properties, "SubscriptionIdentifierAvailable", 1):
                self._refuse("the broker numbers no subscriptions (MQTT 5): use one that does")
            else:
                numbered = Properties(PacketTypes.SUBSCRIBE)
                numbered.SubscriptionIdentifier = self._number
                # noLocal: answers to commands are published beside the commands.
                handling = SubscribeOptions.RETAIN_DO_NOT_SEND
                options = SubscribeOptions(qos=1, noLocal=True, retainHandling=handling)
                client.subscribe(self._subscription.topic, options=options, properties=numbered)

    def _on_subscribe(
        self, client: paho.Client, userdata: object, mid: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        refusal = next((reason for reason in reasons if reason.is_failure), None)
        if refusal is None:
            self._on_event(self, self._offered)
        elif self._subscription is not None:
            why = f"the broker refuses to let {self._subscription.topic} be heard: {reason_text(refusal)}"
            if self._subscription.required:
                self._refuse(why)
            else:
                self._on_event(self, replace(self._offered, unheard=why))

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        if self._subscription is not None:
            waited = self._number not in getattr(message.properties, "SubscriptionIdentifier", ())
            mid = message.mid if message.qos else None
            self._subscription.take(
                self, Arrived(message.topic, bytes(message.payload), mid, time.monotonic(), waited, message.retain)
            )

    def _refuse(self, why: str) -> None:
        self._why = why
        self._client.disconnect()

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, reason: ReasonCode, properties: object
    ) -> None:
        self._on_event(self, Acknowledged(mid, reason_text(reason) if reason.is_failure else None))

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: object,
    ) -> None:
        self._taken_over = flags.is_disconnect_packet_from_server and str(reason) == TAKEN_OVER
        if self._why is None and flags.is_disconnect_packet_from_server:
            self._why = f"the broker ended the connection: {reason_text(reason)}"
        elif self._why is None and self._accepted and str(reason) == "Protocol error":
            # Mosquitto refuses a message for its size by a code that MQTT 5 does not have, which paho cannot read.
            self._why = (
                "the broker gave an answer that MQTT 5 does not have; it may be that a message is too large for it"
            )
        elif self._why is None and str(reason) in ("Keep alive timeout", "Protocol error"):  # what paho found itself
            self._why = reason_text(reason)

    def _on_log(self, client: paho.Client, userdata: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._complaint = text

    def _on_end(self, error: Exception | None) -> None:
        if error is None:
            self._on_event(self, Ended(self._why or self._guess(), taken_over=self._taken_over))
        elif isinstance(error, OSError | UnicodeError):
            self._on_event(self, Ended(connection_error_text(error, self._tls)))
        else:
            log.error("mqtt: the network thread died; a new one will take its place", exc_info=error)
            self._on_event(self, Ended(f"the network thread died ({type(error).__name__}: {error})", crashed=True))

    def _guess(self) -> str:
        """Many a broker says no by just closing the connection; what little is known then is in paho's log."""
        complaint = f" ({self._complaint})" if self._complaint else ""
        if self._dropped:
            return "disconnected"
        if self._accepted:
            thief = f"if that goes on, look for another client with the id {self._client_id}"
            return f"the connection was lost{complaint}: {thief}"
        closed = f"the broker closed the connection before it answered{complaint}"
        if self._tls is None:
            return f"{closed}: set mqtt.tls if this port speaks TLS; the broker has to speak MQTT 5"
        return f"{closed}: if it asks for a certificate, set mqtt.tls.cert and mqtt.tls.key to one that it trusts"


class _Client(paho.Client):
    """paho's client, whose network thread serves one connection and never dies unnoticed."""

    ended: Callable[[Exception | None], None]

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Run in the thread of loop_start(); report the error that paho would keep to itself."""
        error: Exception | None = None
        try:
            return super().loop_forever(timeout, retry_first_connection=False)
        except Exception as caught:
            error = caught
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.ended(error)
