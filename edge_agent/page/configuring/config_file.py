"""The config.yaml beside the page: changed whole or not at all, checked as the agent checks it, and only as it was last seen."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.config import Config
from edge_agent.config.load import load_config
from edge_agent.config.reload import Change, change
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.io.files import open_durably
from edge_agent.journal.sqlite import process_of
from edge_agent.page.texts import later

TOLD = later("Saved. The agent reads it again now.")
AT_START = later("Saved. The agent does not run: it reads it when it is started.")
BY_HAND = later("Saved. The agent could not be told: reload it with systemctl reload edge-agent.")
RESTART = later(
    "Saved. The agent and this page take it up when they are restarted: systemctl restart edge-agent edge-agent-page."
)
OUTCOMES: Mapping[str, str] = {
    "told": TOLD,
    "start": AT_START,
    "hand": BY_HAND,
    "restart": RESTART,
}  # as addresses say them


class ConfigChanged(EdgeAgentError):
    """Somebody else has changed config.yaml since it was looked at."""


@dataclass(frozen=True, slots=True)
class HeldConfig:
    """A config.yaml as it is. sha256: of its bytes, hex."""

    text: str
    sha256: str
    config: Config

    def number(self, station: str) -> int | None:
        """Return which of `stations` has this name; None if there is none."""
        names = [one.name for one in self.config.stations]
        return names.index(station) if station in names else None


class ConfigFile:
    """Reads and changes the file; any thread may call it.

    given: the file as it was named. path: where it is, links followed. folder: where relative paths in it start.
    """

    def __init__(self, path: Path) -> None:
        """path: of the file. A link is followed, but relative paths start where it is, as for the agent."""
        self.given = path.absolute()
        self.path, self.folder = path.resolve(), self.given.parent

    def read(self) -> HeldConfig:
        """Return the file as it is. Raises ConfigError if it has errors."""
        content = self.path.read_bytes()
        return HeldConfig(content.decode("utf-8-sig"), hashlib.sha256(content).hexdigest(), self._checked(self.path))

    def data_dir(self) -> Path:
        """Return the folder of all that the agent writes. Raises ConfigError."""
        return self.read().config.agent.data_dir

    def replace(self, seen: str, edit: Callable[[HeldConfig], str]) -> Change:
        """Put another text in place of the file's, if the agent would take it.

        Args:
            seen: SHA-256 (hex) of the file that the change is meant for.
            edit: makes the new text.

        Returns:
            What of it takes effect at a reload, and what waits for a restart.

        Raises:
            ConfigChanged: the file is another one by now.
            ConfigError: the new text has errors; their places are those in it.
            EdgeAgentError: the file cannot be written. In all cases it is as it was.
        """
        with self.path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigChanged(f"{self.path}: somebody else changes it right now: try again") from error
            held = self.read()
            if held.sha256 != seen:
                raise ConfigChanged(f"{self.path}: somebody else has changed it meanwhile: look at it again")
            new = edit(held)
            try:
                return change(held.config, self._put(new))
            except OSError as error:
                raise EdgeAgentError(
                    f"{self.path.parent}: user {os.geteuid()} may not write there ({error.strerror}): docs/page.md says how"
                    " to let the page change config.yaml; it is as it was"
                ) from error

    def _put(self, text: str) -> Config:
        before = self.path.stat()
        with open_durably(self.path) as file:
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text.encode())
            file.flush()
            try:
                return self._checked(Path(file.name))
            except ConfigError as error:
                raise ConfigError(str(error).replace(str(file.name), str(self.path))) from error

    def _checked(self, path: Path) -> Config:
        return load_config(path, folder=self.folder)


def reload_agent(config: Config, planned: Change) -> str:
    """Have the agent of a configuration read it again; return a sentence, to be translated, about what becomes of it.

    Args:
        config: names the journal, whose lock the agent holds.
        planned: what was changed.
    """
    journal = config.database.file()
    agent = process_of(journal) if journal else None
    if journal and agent is None:
        return AT_START
    try:
        if agent is None:
            return BY_HAND
        os.kill(agent, signal.SIGHUP)
    except OSError:
        return BY_HAND
    return RESTART if planned.waiting else TOLD
