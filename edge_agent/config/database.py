"""`database:`, where the journal is stored and how much of it is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, ValidationInfo, field_validator, model_validator

from edge_agent.settings.password import PasswordConfig
from edge_agent.settings.section import Section
from edge_agent.settings.values import Positive, absolute, folder_of, invalid

_POSTGRES = "postgresql+psycopg"


def _database_url(text: str, info: ValidationInfo) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("sqlite", _POSTGRES):
        hint = f"; write {_POSTGRES}://" if scheme in ("postgres", "postgresql") else ""
        raise invalid(f"wants sqlite:///FILE or {_POSTGRES}://USER@HOST/DATABASE{hint}")
    if scheme == "sqlite":
        if not rest.startswith("///") or rest.strip("/") in ("", ":memory:") or re.search("[?#]", rest):
            raise invalid("wants sqlite:///FILE: the journal has to outlive the agent")
        return sqlite_url(absolute(unquote(rest[3:]), folder_of(info)))
    try:
        url = urlsplit(text)
        port, password = url.port, url.password
    except ValueError as error:
        raise invalid("is not a valid URL: check the host and the port") from error
    if password is not None or "password" in dict(parse_qsl(url.query)):
        raise invalid("has a password in it, in plain text: take it out, and give password: {file: PATH} beside url")
    if not url.path.strip("/") or port == 0:
        raise invalid(f"names no database: wants {_POSTGRES}://USER@HOST/DATABASE")
    return text


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class DatabaseConfig(Section):
    """The journal. url: without a password; default journal.db in agent.data_dir. password: of PostgreSQL's user.

    Inspections are deleted when they are older than keep_days, or when the whole journal is larger than keep_gb (1e9
    bytes): the oldest that are OK first, then the oldest. Their pictures are not inspected again even so.
    """

    url: DatabaseUrl = "sqlite:///journal.db"
    password: PasswordConfig | None = None
    keep_days: Positive = 730.0
    keep_gb: Positive = 10.0

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, data: Any) -> Any:
        return {"url": data} if isinstance(data, str) else data

    @field_validator("password")
    @classmethod
    def _check_password_is_used(cls, password: PasswordConfig | None, info: ValidationInfo) -> PasswordConfig | None:
        if password is not None and "url" in info.data and not user_of(info.data["url"]):
            raise invalid("has no use: give a PostgreSQL url that names a user, or remove it")
        return password

    def file(self) -> Path | None:
        """Return the journal's file; None for a database on a server."""
        return Path(unquote(self.url.removeprefix("sqlite:///"))) if self.url.startswith("sqlite:") else None

    def full_url(self) -> str:
        """Return the URL to connect to, with the password; never log it. Raises ConfigError if the password cannot be read."""
        return self.url if self.password is None else with_password(self.url, self.password.read())


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file; characters that have a meaning in URLs are escaped."""
    return f"sqlite:///{path}".translate({ord(character): f"%{ord(character):02X}" for character in "%?@"})


def user_of(url: str) -> str | None:
    """Return the user name in a database URL, or None."""
    return urlsplit(url).username


def with_password(url: str, password: str) -> str:
    """Return `url` with the password in it; never log it."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
