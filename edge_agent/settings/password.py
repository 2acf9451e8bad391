"""Where a password is stored; the password itself is read only when it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from edge_agent.errors import ConfigError
from edge_agent.settings.section import Loc, Section
from edge_agent.settings.values import ReadableFile, Text, invalid


class PasswordConfig(Section):
    """Where a password is stored; exactly one of the three. The password itself is never part of the config."""

    file: ReadableFile | None = None
    env: Text | None = None  # name of an environment variable
    credential: Annotated[str, Field(pattern=r"^[\w-][\w.-]{0,100}$")] | None = None  # systemd's LoadCredential= name

    @model_validator(mode="before")
    @classmethod
    def _refuse_plain_text(cls, data: Any) -> Any:
        if not isinstance(data, dict | PasswordConfig):
            raise invalid(
                "is refused in plain text, as this file gets copied around: put it in a file that only the agent may"
                " read and say {file: PATH}, or {env: VARIABLE}, or {credential: NAME} for systemd's LoadCredential="
            )
        return data

    @model_validator(mode="after")
    def _check_exactly_one(self) -> PasswordConfig:
        if sum(x is not None for x in (self.file, self.env, self.credential)) != 1:
            raise invalid("wants exactly one of file, env, credential")
        return self

    def read(self) -> str:
        """Read the password, anew at each call. Raises ConfigError if this process cannot read it now."""
        missing = self.missing()
        if missing:
            raise ConfigError(f"password: {missing}")
        path = self._path()
        try:
            text = os.environ[str(self.env)] if path is None else path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"password: {path} cannot be read as text: {error}") from error
        if not text:
            raise ConfigError(f"password: {self} is empty")
        return text

    def missing(self) -> str | None:
        """Return why this process cannot read the password, or None. It depends on how the process was started."""
        if self.env is not None and not os.environ.get(self.env):
            return f"the environment variable {self.env} is not set for this process"
        if self.credential is not None:
            path = self._path()
            if path is None:
                return f"the credential {self.credential} is there only when systemd starts the agent (LoadCredential=)"
            if not os.path.isfile(path):
                return f"systemd gave no credential {self.credential}: add it to the unit as LoadCredential="
        return None

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """Yield what works but may not be meant, each with its key within this section."""
        missing = self.missing()
        if missing:
            yield (), missing
        if self.file and self.file.stat().st_mode & 0o004:
            yield ("file",), f"everyone may read {self.file}: chmod 600"

    def _path(self) -> Path | None:
        if self.credential is not None:
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            return Path(folder, self.credential) if folder else None
        return self.file

    def __str__(self) -> str:
        kinds = {"file": self.file, "environment variable": self.env, "systemd credential": self.credential}
        return next(f"{kind} {value}" for kind, value in kinds.items() if value is not None)
