"""Opens the SQLite or PostgreSQL database of a journal URL, exclusively for one agent; knows nothing of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError

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
    """

    name: str
    writer: Engine
    readers: Engine
    size: Callable[[Connection], int]
    release: Callable[[], None]
    ballast: Ballast | None = None
    exclusive: Callable[[], AbstractContextManager[None]] = nullcontext


def open_database(url: str, *, ballast: bool = False) -> Database:
    """Open `url`, create or upgrade its tables, and lock it against other agents.

    Args:
        url: sqlite:///PATH or postgresql://...
        ballast: keep a reserve file (ballast.py) on the disk of an SQLite file; default False. No effect on PostgreSQL.

    Raises:
        JournalError: the URL is not understood, or the database cannot be opened.
    """
    parsed = _parsed(url)
    if parsed.drivername.startswith("sqlite"):
        from edge_agent.journal.sqlite import open_sqlite

        return open_sqlite(parsed, ballast=ballast)
    from edge_agent.journal.postgresql import open_postgresql

    return open_postgresql(parsed)


def attach_database(url: str) -> Database:
    """Open `url` while an agent may be using it: create, upgrade and lock nothing. Raises JournalError."""
    parsed = _parsed(url)
    if parsed.drivername.startswith("sqlite"):
        from edge_agent.journal.sqlite import attach_sqlite

        return attach_sqlite(parsed)
    from edge_agent.journal.postgresql import attach_postgresql

    return attach_postgresql(parsed)


def _parsed(url: str) -> URL:
    # Messages must not quote any part of a URL that is not understood: it may be the password.
    if url.count("@") > 1:
        raise JournalError("journal URL: more than one @; write an @ of the user name or password as %40")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise JournalError(
            "journal URL cannot be read; write sqlite:///relative/journal.db, sqlite:////absolute/journal.db or "
            "postgresql://user:password@host/database (special characters of a password as %XX)"
        ) from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
        raise JournalError(f"journal URL: {parsed.drivername}:// is not supported; use sqlite:/// or postgresql://")
    return parsed


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
UNREACHED = "check that the server runs and is reached from here, and the journal's URL"
REMEDIES = (
    ("malformed", DAMAGED),
    ("not a database", DAMAGED),
    ("is full", "nothing of this was written: free space on that disk"),
    ("no space left", "nothing of this was written: free space on the server's disk"),
    ("is locked", "another program keeps it locked: end that program (a database browser, a backup)"),
    ("readonly database", "give the agent's user the right to write the file and its folder"),
    ("read-only transaction", "the URL leads to a standby or read-only server: name the primary"),
    ("unable to open", "give the agent's user the right to read and write the file and its folder"),
    ("disk i/o error", "the disk fails: look at the kernel's log, and save a copy of the file and of its -wal"),
    ("permission denied", "grant the user the right to create and use tables there, or give it a database of its own"),
    ("authentication failed", "check the user name and the password of the journal's URL"),
    ("no password supplied", "give the password in the journal's URL or in ~/.pgpass"),
    ("does not exist", "create it on the server, or check the journal's URL"),
    ("connection", UNREACHED),
    ("host", UNREACHED),
)
