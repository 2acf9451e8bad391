"""An open database of a journal, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError

from edge_agent.errors import JournalError
from edge_agent.journal.ballast import Ballast


@dataclass(frozen=True, slots=True)
class Database:
    """An open database with an up-to-date schema.

    Attributes:
        name: the database's name in messages; never contains a password.
        writer: engine of one connection, the only one that may write.
        readers: engine of the reading connections, as many as there are threads that read.
        size: returns the bytes that rows and indexes take.
        release: unlocks the database for another agent; call it after both engines are disposed of.
        ballast: the reserve file that is deleted when the disk is full; None for no reserve.
        exclusive: context manager that keeps other processes from writing; one block at a time in a process.
        abandon: unlocks the database and leaves its files as they are, in place of disposing of the engines; None where a
            server keeps them.
        file: the file of an SQLite database; None where a server keeps it.
    """

    name: str
    writer: Engine
    readers: Engine
    size: Callable[[Connection], int]
    release: Callable[[], None]
    ballast: Ballast | None = None
    exclusive: Callable[[], AbstractContextManager[None]] = nullcontext
    abandon: Callable[[], None] | None = None
    file: Path | None = None


@contextmanager
def journal_errors(name: str) -> Iterator[None]:
    """Turn errors of database `name` or its server into a JournalError with a remedy; let programming errors pass."""
    try:
        yield
    except (IntegrityError, DataError, InterfaceError):
        raise
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        remedy = next((remedy for part, remedy in REMEDIES if part in reason.lower()), "check the database by hand")
        raise JournalError(f"journal {name}: {reason}: {remedy}") from error


DAMAGED = (
    "it is damaged: stop the agent, keep copies of the file and of its -wal, then restore a backup "
    "or rescue the rows with sqlite3's .recover"
)
DISK_FAILS = (
    "the disk fails, or the kernel has made it read-only for that: look at the kernel's log, and save a copy of the file "
    "and of its -wal"
)
UNREACHED = "check that the server runs and is reached from here, and the journal's URL"
REMEDIES = (
    ("malformed", DAMAGED),
    ("not a database", DAMAGED),
    ("is full", "nothing of this was written: free space on that disk"),
    ("no space left", "nothing of this was written: free space on the server's disk"),
    ("is locked", "another program keeps it locked: end that program (a database browser, a backup)"),
    (
        "readonly database",
        "give the agent's user the right to write the file and its folder, and mount the disk for writing",
    ),
    ("read-only transaction", "the URL leads to a standby or read-only server: name the primary"),
    ("unable to open", "give the agent's user the right to read and write the file and its folder"),
    ("disk i/o error", DISK_FAILS),
    ("permission denied", "grant the user the right to create and use tables there, or give it a database of its own"),
    ("authentication failed", "check the user name and the password of the journal's URL"),
    ("no password supplied", "give the password in the journal's URL or in ~/.pgpass"),
    ("does not exist", "create it on the server, or check the journal's URL"),
    ("connection", UNREACHED),
    ("host", UNREACHED),
)
