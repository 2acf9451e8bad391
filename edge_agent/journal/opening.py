"""Opens the SQLite or PostgreSQL database of a journal URL, exclusively for one agent; knows nothing of the tables."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from edge_agent.errors import JournalError
from edge_agent.journal.database import Database
from edge_agent.journal.postgresql import attach_postgresql, open_postgresql
from edge_agent.journal.sqlite import attach_sqlite, open_sqlite


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
        return open_sqlite(parsed, ballast=ballast)
    return open_postgresql(parsed)


def attach_database(url: str) -> Database:
    """Open `url` while an agent may be using it: create, upgrade and lock nothing. Raises JournalError."""
    parsed = _parsed(url)
    if parsed.drivername.startswith("sqlite"):
        return attach_sqlite(parsed)
    return attach_postgresql(parsed)


def _parsed(url: str) -> URL:
    if url.startswith("sqlite:///"):
        # Not by make_url: whether it decodes %XX in a path differs between versions of SQLAlchemy.
        path, _, options = url.removeprefix("sqlite:///").partition("?")
        return URL.create("sqlite", database=unquote(path), query=dict(parse_qsl(options, keep_blank_values=True)))
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
