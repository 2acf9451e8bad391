"""`page:`, the page for people without a shell: where it is served, and who may use it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from edge_agent.errors import ConfigError
from edge_agent.settings.section import Section
from edge_agent.settings.values import Positive, ReadableFile, invalid, shortened


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid(f"{name!r} is no time zone that this machine knows: write it as Europe/Berlin") from error
    return name


def _host(text: str) -> str:
    if not re.fullmatch(r"[\w.:-]{1,253}", text):
        raise invalid(f"{shortened(text)} is no host name and no IP address; the port is a key of its own")
    return text


def _begin(text: Any) -> time:
    found = re.fullmatch(r"(\d{1,2}):(\d\d)", text, re.ASCII) if isinstance(text, str) else None
    if not found or int(found[1]) > 23 or int(found[2]) > 59:
        raise invalid(f"{shortened(str(text))} is no time of day: write it as 6:00")
    return time(int(found[1]), int(found[2]))


def _in_order(begins: Sequence[time]) -> tuple[time, ...]:
    if not 1 <= len(begins) <= MOST_SHIFTS or len(set(begins)) < len(begins):
        raise invalid(
            f"wants 1 to {MOST_SHIFTS} different times, at which a shift begins, such as [6:00, 14:00, 22:00]"
        )
    return tuple(sorted(begins))


MOST_SHIFTS = 12
SHIFTS = (time(6), time(14), time(22))  # when none are configured
Shifts = Annotated[tuple[Annotated[time, BeforeValidator(_begin)], ...], AfterValidator(_in_order)]
HostName = Annotated[str, AfterValidator(_host)]
Zone = Annotated[str, AfterValidator(_zone)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what is served at a name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class PageTlsConfig(Section):
    """The page's own certificate, with those that it is signed by, and its key. PEM files.

    The key is a file, or a credential of systemd's LoadCredential=, which only the page's service is given.
    """

    cert: ReadableFile
    key: ReadableFile | None = None
    key_credential: Annotated[str, Field(pattern=r"^[\w-][\w.-]{0,100}$")] | None = Field(
        default=None, validate_default=True
    )

    @field_validator("key_credential")
    @classmethod
    def _either(cls, name: str | None, info: ValidationInfo) -> str | None:
        if "key" in info.data and (name is None) == (info.data["key"] is None):
            raise invalid("wants exactly one of key, key_credential")
        return name

    def key_file(self) -> Path:
        """Return the file of the key. Raises ConfigError if this process was not given the credential."""
        if self.key is not None:
            return self.key
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        path = Path(folder or "/", self.key_credential or "")
        if folder is None or not path.is_file():
            raise ConfigError(
                f"page.tls: systemd gave no credential {self.key_credential}: put the key into /etc/credstore/{self.key_credential}, "
                "and name it in the unit as LoadCredential="
            )
        return path


class PageConfig(Section):
    """`edge-agent page`. Beyond this machine it takes tls and accounts, which `edge-agent page passwd` makes.

    host: address to listen at. hosts: names by which browsers ask for it, of a proxy on this machine, too; with any, only
    accounts get in. local: what browsers of this machine may without an account, while there is none. session_h: hours after
    which one has to sign in again. cache_mb: size of the cache of pictures (1e6 bytes). zone: in which times are shown and
    read, default this machine's. shifts: when one begins; its end is the next one's beginning.
    """

    host: HostName = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    tls: PageTlsConfig | None = Field(default=None, validate_default=True)
    hosts: tuple[HostName, ...] = ()
    local: Literal["viewer", "operator", "engineer"] = "viewer"
    session_h: Positive = 12.0
    cache_mb: Positive = 500.0
    zone: Zone | None = None
    shifts: Shifts = SHIFTS

    @field_validator("tls")
    @classmethod
    def _encrypted_beyond_this_machine(cls, tls: PageTlsConfig | None, info: ValidationInfo) -> PageTlsConfig | None:
        host = info.data.get("host", "127.0.0.1")
        if tls is None and not is_loopback(host):
            raise invalid(
                f"is missing, and {host} can be reached from other machines: give {{cert: FILE, key: FILE}}, or host: 127.0.0.1 "
                "with a proxy on this machine that encrypts"
            )
        return tls

    @property
    def is_exposed(self) -> bool:
        """Return whether others than this machine's users may reach it, so that it takes accounts."""
        return bool(self.hosts) or not is_loopback(self.host)

    def describe(self) -> str:
        """Return where it is served and to whom, in one line."""
        who = "accounts" if self.is_exposed else f"accounts, and while there are none, this machine as {self.local}"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{name}:{self.port}/ by edge-agent page, for {who}"
