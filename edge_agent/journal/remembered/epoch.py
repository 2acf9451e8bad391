"""The epoch of a journal: a UUID that is made when the journal is created or restored, so that no (epoch, seq) repeats.

A journal that was restored from a backup gives seqs again that it gave before. It is known by its place, that is its machine
and file or server and table, or by a file beside it, which holds the last epoch and seq, and which the restored journal is
behind. Of a whole machine that is set back, with both, nothing on it can tell.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Connection, Row

from edge_agent.io.machine import machine_hash
from edge_agent.journal.tables import epochs, outbox

log = logging.getLogger(__name__)

COPIED_S = (
    1.0  # between the times of change of a file and of its content: a write changes both, a copy restores only one
)

_PLACE = """
    SELECT 'postgresql ' || (SELECT oid FROM pg_database WHERE datname = current_database()) || ' '
        || 'outbox'::regclass::oid || ' ' || (SELECT timeline_id FROM pg_control_checkpoint())
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a journal has come: its epoch, and the highest seq that it has given; 0 before the first."""

    epoch: str
    seq: int


class Marker:
    """The file beside an SQLite journal that holds how far it has come."""

    def __init__(self, path: Path) -> None:
        """path: of the file; it need not exist."""
        self._path = path
        self._written: Reached | None = None
        self._failed = False

    def read(self) -> Reached | None:
        """Return what it holds; None where it is missing, damaged, or was put back from a backup with its old time."""
        try:
            about = self._path.stat()
            if abs(about.st_ctime - about.st_mtime) > COPIED_S:
                return None
            epoch, seq = self._path.read_text("ascii").split()
            return Reached(epoch, int(seq))
        except (OSError, ValueError):
            return None

    def write(self, reached: Reached) -> None:
        """Hold this from now on. Without waiting for the disk: after a power cut it may be behind, which does no harm."""
        if reached == self._written:
            return
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(file, f"{reached.epoch} {reached.seq:020}\n".encode(), 0)
            finally:
                os.close(file)
        except OSError as error:
            if not self._failed:
                log.warning(
                    "%s cannot be written (%s): a restored journal may go unnoticed", self._path, error.strerror
                )
            self._failed = True
        else:
            self._written, self._failed = reached, False


def highest_seq(connection: Connection) -> int:
    """Return the highest seq that was ever given, those of deleted messages too."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").scalar() or 0
    return newest_seq(connection)


def newest_seq(connection: Connection) -> int:
    """Return the highest seq of the messages that are there; 0 without any."""
    return connection.scalar(select(func.max(outbox.c.seq))) or 0


def place_of(connection: Connection, file: Path | None) -> str:
    """Return what tells this database from a copy of it. file: of an SQLite journal; None for a server's."""
    if file is None:
        return str(connection.exec_driver_sql(_PLACE).scalar_one())
    return f"{machine_hash('journal')[:16]} {file.stat().st_ino}"


def present_epoch(connection: Connection, place: str, found: Reached | None, now: datetime) -> tuple[str, str | None]:
    """Return the epoch from now on, and why it is another one than before; None where it is not, or the journal is new.

    Args:
        connection: in a transaction that writes.
        place: of the journal now, see place_of().
        found: what its marker holds; None without one.
        now: aware.
    """
    last = connection.execute(select(epochs).order_by(epochs.c.first_seq.desc()).limit(1)).one_or_none()
    why = None if last is None else _why_restored(last, place, found, highest_seq(connection))
    if last is not None and why is None:
        return last.epoch, None
    epoch, first = str(uuid4()), newest_seq(connection) + 1
    # Messages that were recorded before keep the epoch that they had, unless there was none yet.
    row = {"first_seq": 0 if last is None else first, "epoch": epoch, "place": place, "begun_at": now}
    connection.execute(delete(epochs).where(epochs.c.first_seq >= row["first_seq"]))
    connection.execute(insert(epochs), row)
    return epoch, why


def _why_restored(last: Row[tuple[object, ...]], place: str, found: Reached | None, highest: int) -> str | None:
    if last.place != place:
        return "it is another file than before, or on another machine"
    if place.startswith("postgresql"):
        return None
    if found is None:
        return "the file that says how far it had come is gone, or was put back"
    if found.epoch != last.epoch:
        return "it had begun another one since"
    if found.seq > highest:
        return f"it had come to message {found.seq}, and holds {highest}"
    return None
