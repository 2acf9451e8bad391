"""The log of every change that people make: a line of JSON for each, who, when, what, before and after, beside the journal."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError
from edge_agent.journal.rows import LabelValue

if TYPE_CHECKING:
    from edge_agent.config.config import Config
    from edge_agent.journal.labels import Statement
    from edge_agent.journal.rows import Label

NAME = "changes.jsonl"
KEEP_BYTES = 1_000_000  # of one file
OLDER = 9  # files that are kept beside the newest one

State = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody changed.

    what: label, acknowledgement, threshold, learning, masks, stations or account. about: the inspection, station or account
    that it is about. before, after: of it, empty for nothing. name, reason: as whoever did it calls it, and why.
    """

    who: str
    what: str
    about: str
    before: State = field(default_factory=dict)
    after: State = field(default_factory=dict)
    name: str = ""
    reason: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class Changes:
    """The log of one agent, of any number of processes. Lines are only added; the oldest go where it grows too long."""

    def __init__(self, path: Path, keep_bytes: int = KEEP_BYTES) -> None:
        """Touch nothing yet.

        path: of the newest file; older ones are beside it as NAME.1 to NAME.9. keep_bytes: of each.
        """
        self._path, self._keep_bytes = path, keep_bytes

    @contextmanager
    def recording(self, *changes: Change) -> Iterator[None]:
        """Write changes down, then make them in the block: where the block raises, the lines are taken back.

        Raises EdgeAgentError where it cannot be written down; the block is then not begun.
        """
        with self._opened() as file:
            length = self._append(file, b"".join(map(_line, changes)))
            try:
                yield
            except BaseException:
                os.ftruncate(file, length)
                raise

    def newest(self, count: int, what: str | None = None, about: str | None = None) -> list[Change]:
        """Return the last changes, the newest first; a line that cannot be read is passed over.

        Args:
            count: most of them.
            what: only of this kind; None (default) for all.
            about: only about this; None (default) for all.

        Raises:
            EdgeAgentError: a file is there and cannot be read.
        """
        return list(
            islice((one for one in self._backwards() if what in (None, one.what) and about in (None, one.about)), count)
        )

    def _backwards(self) -> Iterator[Change]:
        for path in (self._path, *map(self._older, range(1, OLDER + 1))):
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise EdgeAgentError(f"{path}: {error.strerror}: let user {os.geteuid()} read it") from error
            yield from filter(None, map(_change, reversed(lines)))

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Give the newest file, to be appended to by nobody else meanwhile."""
        with ExitStack() as opened:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                lock = self._open(self._path.with_name(f".{self._path.name}.lock"), opened)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._path.exists() and self._path.stat().st_size >= self._keep_bytes:
                    self._make_room()
                file = self._open(self._path, opened)
            except OSError as error:
                raise self._failed(error) from error
            yield file

    def _open(self, path: Path, opened: ExitStack) -> int:
        """Open a file for appending; it is the folder's owner's, where root makes it for the service's user."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        opened.callback(os.close, file)
        if os.geteuid() == 0:
            owner = os.stat(path.parent)
            os.fchown(file, owner.st_uid, owner.st_gid)
        return file

    def _append(self, file: int, lines: bytes) -> int:
        """Write lines, behind one that a power cut has left unfinished, too; return how long the file was."""
        length = os.fstat(file).st_size
        if length and os.pread(file, 1, length - 1) != b"\n":
            lines = b"\n" + lines
        try:
            if os.write(file, lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a disk takes what it can hold of a line
            os.fsync(file)
        except OSError as error:
            os.ftruncate(file, length)
            raise self._failed(error) from error
        return length

    def _make_room(self) -> None:
        for number in range(OLDER, 0, -1):
            newer = self._older(number - 1) if number > 1 else self._path
            if newer.exists():
                newer.replace(self._older(number))

    def _failed(self, error: OSError) -> EdgeAgentError:
        return EdgeAgentError(
            f"{self._path}: {error.strerror}: nothing was changed, as the log of changes has to hold it: free some space, or let"
            f" user {os.geteuid()} write there"
        )


def changes_of(config: Config) -> Changes:
    """Return the log of an agent: beside its journal; of one on a server, in the agent's folder."""
    journal = config.database.file()
    return Changes((journal.parent if journal else config.agent.data_dir) / NAME)


def label_state(said: Label | Statement | None) -> State:
    """Return what is said of an inspection, for the log."""
    if said is None or said.value is LabelValue.NONE:
        return {"label": None}
    return {"label": said.value.value, "kind": said.kind, "box": said.box and list(said.box)}


def learning(who: str, station: str, before: str, after: str) -> Change:
    """Return that a station looks with another bank.

    Args:
        who: has it do so.
        station: its name.
        before: name of the bank's file.
        after: likewise; or how the digest of a bank begins that has no file yet.
    """
    return Change(who, "learning", station, {"checkpoint": before}, {"checkpoint": after})


def _line(change: Change) -> bytes:
    return json.dumps({**asdict(change), "at": change.at.isoformat()}, ensure_ascii=False).encode() + b"\n"


def _change(line: bytes) -> Change | None:
    try:
        held = json.loads(line)
        return Change(**{**held, "at": datetime.fromisoformat(held["at"])})
    except (ValueError, KeyError, TypeError):
        return None
