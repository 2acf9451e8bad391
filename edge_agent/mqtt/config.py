"""`mqtt:`, the broker that alarms and results are published to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from edge_agent.errors import EdgeAgentError
from edge_agent.settings.finding import Finding
from edge_agent.settings.password import PasswordConfig
from edge_agent.settings.section import Loc, Section
from edge_agent.settings.sinks import SinkSection
from edge_agent.settings.values import ReadableFile, Text, invalid, shortened

if TYPE_CHECKING:
    from edge_agent.core import SinkContext
    from edge_agent.mqtt.broker import Broker
    from edge_agent.mqtt.sender import MqttSink

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def _topic(text: str) -> str:
    for level in text.split("/"):
        bad = re.search(r"[+#$\s]", level)
        if bad:
            raise invalid(
                f"the topic level {shortened(level)} has {bad[0]!r} in it: MQTT topics go without '+', '#', '$', space"
            )
        if not level:
            raise invalid(
                f"the topic {shortened(text)} has an empty level: write it like acme/plant1/line4, no '/' at the ends"
            )
    if len(text) > 200:
        raise invalid("the topic is longer than 200 characters")
    return text


def _host(text: str) -> str:
    if "://" in text:
        raise invalid(f"{shortened(text)} is a URL: give the host alone; for mqtts:// add tls: {{}}")
    if re.fullmatch(r"[^:]+:\d+", text):
        raise invalid(f"{shortened(text)} has a port in it: give it as port: {text.rsplit(':')[-1]}")
    if not re.fullmatch(r"[\w.:%-]{1,253}", text):
        raise invalid(f"{shortened(text)} is no host name and no IP address")
    return text


Topic = Annotated[str, AfterValidator(_topic)]
Host = Annotated[str, AfterValidator(_host)]


class TlsConfig(Section):
    """TLS to the broker: ca (default: the system's authorities), cert and key for mutual TLS. PEM files."""

    ca: ReadableFile | None = None
    cert: ReadableFile | None = None
    key: ReadableFile | None = Field(default=None, validate_default=True)

    @field_validator("key")
    @classmethod
    def _goes_with_cert(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "cert" in info.data and (info.data["cert"] is None) != (key is None):
            raise invalid("cert and key go together: give both, or neither")
        return key


class MqttConfig(SinkSection):
    """The broker. Topics are PREFIX/AGENT/STATION/{alarm,result,state} and PREFIX/AGENT/status.

    port: default 8883 with tls, 1883 without. results: every inspection is published, not the alarms alone.
    client_id: None is made from the machine's id.
    """

    host: Host = Field(examples=["broker.example"])
    tls: TlsConfig | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=None, validate_default=True)
    prefix: Topic = "edge-agent"
    username: Text | None = None
    password: PasswordConfig | None = None
    results: bool = False
    keepalive_s: Annotated[int, Field(ge=5, le=65535)] = 30
    client_id: Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")] | None = None

    @field_validator("port", mode="before")
    @classmethod
    def _of_the_protocol(cls, port: Any, info: ValidationInfo) -> Any:
        return (8883 if info.data.get("tls") else 1883) if port is None else port

    def build(self, context: SinkContext) -> MqttSink:
        """Build the sink that delivers the outbox; it connects at once.

        In a replay it has a client id and a status topic of its own, so as not to disturb a daemon of the same config.
        """
        from edge_agent.mqtt.sender import MqttSink
        from edge_agent.mqtt.triggers import MqttTriggers

        own = self
        if context.replay:
            context = replace(context, identity=replace(context.identity, name=f"{context.identity.name}-replay"))
            own = self.model_copy(update={"client_id": self.client_id and f"{self.client_id}-replay"})
        broker = own.broker(context.identity.name)
        if not context.asked or not context.ledger:
            return MqttSink(broker, context, results=self.results)
        commands = MqttTriggers(broker, context.asked, context.ledger, context.record)
        return MqttSink(broker, context, results=self.results, commands=commands)

    def broker(self, agent: str) -> Broker:
        """Return where to connect, and as whom. The password is read at every connection, so that it can change."""
        from edge_agent.mqtt.broker import Broker, Tls

        return Broker(
            host=self.host,
            port=self.port,
            prefix=self.prefix,
            agent=agent,
            username=self.username,
            password=self.password.read if self.password else None,
            client_id=self.client_id,
            tls=Tls(self.tls.ca, self.tls.cert, self.tls.key) if self.tls else None,
            keepalive_s=self.keepalive_s,
        )

    def describe(self, agent: str) -> str:
        """See SinkSection."""
        scheme = "mqtts" if self.tls else "mqtt"
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = f" as {self.username}" if self.username else ""
        secret = f", password from {self.password}" if self.password else ""
        mutual = ", with a client certificate" if self.tls and self.tls.cert else ""
        topics = f"{self.prefix}/{agent}/STATION/{{{','.join(self._kinds())}}}, {self.prefix}/{agent}/status"
        return f"{scheme}://{host}:{self.port}{who}{secret}{mutual}; {topics}"

    def _kinds(self) -> list[str]:
        return ["alarm", *(["result"] if self.results else []), "state"]

    def require(self) -> None:
        """See SinkSection."""
        if self.password:
            self.password.read()

    def check(self, agent: str, stations: Collection[str] = (), asked: Collection[str] = ()) -> Iterator[Finding]:
        """See SinkSection."""
        from edge_agent.mqtt.probe import examine

        try:
            yield from examine(
                self.broker(agent), stations, [*self._kinds(), "acknowledged", *(["verdict"] if asked else [])], asked
            )
        except EdgeAgentError as error:
            yield Finding("broker", "failed", str(error))

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """See SinkSection."""
        if self.password is None:
            return
        if not self.tls and self.host not in THIS_MACHINE:
            yield ("password",), "goes over the network unencrypted: add tls: {}, if the broker can"
        yield from ((("password", *loc), text) for loc, text in self.password.warnings())
