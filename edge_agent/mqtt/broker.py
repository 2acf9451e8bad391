"""Which MQTT broker, as whom and how safely, and what its refusals mean; connects nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import EdgeAgentError, SinkDown
from edge_agent.io.backoff import Backoff
from edge_agent.io.machine import MACHINE_ID, machine_hash

TAKEN_OVER = "Session taken over"  # what MQTT 5 names it


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. ca: who signed the broker's certificate; None: the system's authorities. cert, key: for mutual TLS."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to connect, and as whom. Topics are `<prefix>/<agent>/<station>/...` and `<prefix>/<agent>/status`.

    password: the text, or what gives it at every connection, so that it can change.
    client_id: None for one made of this machine's id and the agent's name.
    keepalive_s: a broker that keeps silent is given up after twice this.
    reconnect_min_s, reconnect_max_s: the pause between attempts, which doubles.
    """

    host: str
    prefix: str
    agent: str
    port: int = 1883
    username: str | None = None
    password: str | Callable[[], str | None] | None = field(default=None, repr=False)
    client_id: str | None = None
    tls: Tls | None = None
    keepalive_s: int = 30
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 30.0

    @property
    def address(self) -> str:
        """host:port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def backoff(self) -> Backoff:
        """The pauses between attempts."""
        return Backoff(self.reconnect_min_s, self.reconnect_max_s)

    def secret(self) -> str | None:
        """The password as it is now. Raises SinkDown when it cannot be read."""
        if not callable(self.password):
            return self.password
        try:
            return self.password()
        except (OSError, EdgeAgentError) as error:
            raise SinkDown(f"the password cannot be read: {error}") from error


def default_client_id(agent: str, machine_id: Path = MACHINE_ID) -> str:
    """23 letters and digits, which every broker takes; the same for the same agent on the same machine, and no other."""
    return "edgeagent" + machine_hash(agent, machine_id)[:14]


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Checks the broker's certificate and its name, always. Raises SinkDown naming the file that is of no use."""
    try:
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    except OSError as error:  # ssl.SSLError is one
        raise SinkDown(f"{tls.ca} holds no certificates ({error}): set mqtt.tls.ca to a PEM file that does") from error
    if tls.cert is None:
        return context
    try:
        # An empty password, as OpenSSL would otherwise ask for one on the terminal, and wait.
        context.load_cert_chain(tls.cert, tls.key, password="")
    except OSError as error:
        raise SinkDown(
            f"{tls.cert} and {tls.key} are no certificate with its key ({error}): set mqtt.tls.cert and mqtt.tls.key to"
            " PEM files that belong together, the key without a passphrase"
        ) from error
    return context


def connection_error_text(error: OSError | UnicodeError, tls: Tls | None) -> str:
    """Why no connection could be made, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = tls.ca if tls and tls.ca else "the system's authorities"
        remedy = _OF_CERTIFICATES.get(
            error.verify_code, f"{trusted} did not sign it: set mqtt.tls.ca to the authority that did"
        )
        return f"the broker's certificate is not trusted ({error.verify_message}): {remedy}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error}): check that this port of the broker speaks TLS"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: start the broker, or correct mqtt.host and mqtt.port"
    if isinstance(error, UnicodeError):
        return f"that is no host name ({error}): correct mqtt.host"
    if isinstance(error, socket.gaierror):
        return f"the name is not known ({error.strerror}): correct mqtt.host, or check DNS"
    if isinstance(error, TimeoutError):
        return "no answer: check mqtt.host, mqtt.port and the firewall"
    return f"{error.strerror or error}: check the network, mqtt.host and mqtt.port"


def reason_text(reason: ReasonCode) -> str:
    """A reason the broker gave, and what to do about it."""
    words = str(reason)
    return f"{words}: {_OF_REASONS[words]}" if words in _OF_REASONS else words


# OpenSSL's X509_V_ERR_ numbers.
_OF_CERTIFICATES = {
    9: "it is not valid yet: set this machine's clock",
    10: "it has expired: renew it, or set this machine's clock",
    62: "set mqtt.host to a name that it is for",
    64: "set mqtt.host to an address or name that it is for",
}

# The names that MQTT 5 gives its reason codes.
_OF_REASONS = {
    "Bad user name or password": "correct mqtt.username and mqtt.password",
    "Not authorized": "set mqtt.username and mqtt.password, or allow it in the broker's access list",
    "Banned": "the broker's operator has to allow this client",
    "Client identifier not valid": "set mqtt.client_id to one that the broker takes",
    "Unsupported protocol version": "use a broker that speaks MQTT 5",
    "Topic name invalid": "set mqtt.prefix to one that the broker takes",
    "Packet too large": "allow larger packets at the broker",
    "Retain not supported": "allow retained messages at the broker",
    "QoS not supported": "allow QoS 1 at the broker",
    "Quota exceeded": "raise the broker's limits",
    TAKEN_OVER: "another client uses the same id: give each agent its own agent.name or mqtt.client_id",
    "Keep alive timeout": "the broker is gone or hangs, or the network between",
    "Protocol error": "what answers there is no MQTT 5 broker: correct mqtt.host and mqtt.port",
}
