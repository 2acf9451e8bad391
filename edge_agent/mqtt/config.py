"""`mqtt:`, the broker that alarms and results are published to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from edge_agent.settings.password import PasswordConfig
from edge_agent.settings.section import Section
from edge_agent.settings.values import ReadableFile, Text, shortened, wrong


def _topic(text: str) -> str:
    for level in text.split("/"):
        bad = re.search(r"[+#$\s]", level)
        if bad:
            raise wrong(
                f"the topic level {shortened(level)} has {bad[0]!r} in it: MQTT topics go without '+', '#', '$', space"
            )
        if not level:
            raise wrong(
                f"the topic {shortened(text)} has an empty level: write it like acme/plant1/line4, no '/' at the ends"
            )
    if len(text) > 200:
        raise wrong("the topic is longer than 200 characters")
    return text


def _host(text: str) -> str:
    if "://" in text:
        raise wrong(f"{shortened(text)} is a URL: give the host alone; for mqtts:// add tls: {{}}")
    if re.fullmatch(r"[^:]+:\d+", text):
        raise wrong(f"{shortened(text)} has a port in it: give it as port: {text.rsplit(':')[-1]}")
    if not re.fullmatch(r"[\w.:%-]{1,253}", text):
        raise wrong(f"{shortened(text)} is no host name and no IP address")
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
            raise wrong("cert and key go together: give both, or neither")
        return key


class MqttConfig(Section):
    """The broker. Topics are PREFIX/STATION/{alarm,result,state} and PREFIX/AGENT/status.

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
