"""`opcua:`, the server that clients read the stations' verdicts from, and start single jobs at."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from edge_agent.errors import ConfigError
from edge_agent.settings.finding import Finding
from edge_agent.settings.password import PasswordConfig
from edge_agent.settings.section import Loc
from edge_agent.settings.sinks import SinkSection
from edge_agent.settings.values import Name, ReadableFile, Text, invalid

if TYPE_CHECKING:
    from edge_agent.core import SinkContext
    from edge_agent.opcua.sink import OpcUaSink

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class OpcUaConfig(SinkSection):
    """The OPC UA server of this agent.

    host: address to listen at. security: what a connection has to do, sign_encrypt, sign, or none. cert, key: of the server,
    PEM or DER. users: who may sign in, each with where the password is. anonymous: whoever does not sign in may look, but
    start no job.
    """

    port: Annotated[int, Field(ge=1, le=65535)] = 4840
    host: Text = "0.0.0.0"
    security: Literal["sign_encrypt", "sign", "none"] = "sign_encrypt"
    cert: ReadableFile | None = Field(default=None, validate_default=True)
    key: ReadableFile | None = Field(default=None, validate_default=True)
    users: dict[Name, PasswordConfig] = Field(default_factory=dict)
    anonymous: bool = Field(default=False, validate_default=True)

    @field_validator("cert", "key")
    @classmethod
    def _check_there(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is None and info.data.get("security") not in (None, "none"):
            raise invalid("is missing: make a certificate and its key (docs/opcua.md), or set security: none")
        return file

    @field_validator("anonymous")
    @classmethod
    def _check_somebody_may_look(cls, anonymous: bool, info: ValidationInfo) -> bool:
        if not anonymous and info.data.get("users") == {}:
            raise invalid("is false and there are no users: add users: {NAME: {file: PATH}}, or set anonymous: true")
        return anonymous

    def build(self, context: SinkContext) -> OpcUaSink:
        """Build the sink; its server starts at once, unless it is beside a daemon's."""
        from edge_agent.opcua.server import Serving
        from edge_agent.opcua.sink import OpcUaSink

        passwords = {name: password.read for name, password in self.users.items()}
        serving = Serving(
            title=self.describe(context.identity.name),
            agent=context.identity.name,
            host=self.host,
            port=self.port,
            security=self.security,
            cert=self.cert,
            key=self.key,
            passwords=passwords,
            anonymous=self.anonymous,
        )
        return OpcUaSink(serving, context)

    def describe(self, agent: str) -> str:
        """See SinkSection."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = ", ".join(self.users) + (" and anyone to look" if self.anonymous else "")
        return f"opc.tcp://{host}:{self.port}, {self.security}, for {who.removeprefix(' and ')}"

    def require(self) -> None:
        """See SinkSection."""
        try:
            import asyncua  # noqa: F401
        except ImportError:
            raise ConfigError("opcua: wants asyncua: pip install 'edge-agent[opcua]'") from None
        for password in self.users.values():
            password.read()

    def check(self, agent: str, stations: Collection[str] = (), asked: Collection[str] = ()) -> Iterator[Finding]:
        """See SinkSection."""
        from edge_agent.opcua.check import examine

        self.require()
        yield from examine(self.host, self.port, self.cert, self.key, agent)

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """See SinkSection."""
        if self.host not in THIS_MACHINE and self.security == "none":
            yield (
                ("security",),
                "none: passwords and verdicts go over the network unencrypted, and may be changed there",
            )
        for name, password in self.users.items():
            yield from ((("users", name, *loc), text) for loc, text in password.warnings())
