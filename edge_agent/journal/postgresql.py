"""Opens a journal in its own PostgreSQL schema, locked by an advisory lock; needs psycopg, creates no database."""

from __future__ import annotations

import os
import socket

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection

from edge_agent.errors import JournalError, JournalInUse
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.migrations import require_current_schema, upgrade_schema

LOCK = 0x0EDA6E  # our class of advisory locks; the schema's oid completes the key
# A dead network must end in an error, not in an endless wait. Options in the URL take precedence.
OPTIONS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
SCHEMA = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
STATE = f"""
    SELECT current_setting('transaction_read_only'), current_schema(), pg_try_advisory_lock({LOCK}, {SCHEMA}::int)
"""
HOLDER = f"""
    SELECT application_name, coalesce(host(client_addr), 'the same machine') FROM pg_stat_activity WHERE pid IN (
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {LOCK} AND objid = {SCHEMA}
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
TABLES = """
    SELECT oid::regclass::text, pg_relation_size(oid), pg_total_relation_size(oid), current_setting('block_size')::int
    FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""
# Rows are aligned to 8 bytes, and each has an item pointer of 4 in its page. REPEATABLE: the same pages every time, or
# the limit would be compared with the largest of many estimates. float8 so that no driver returns a Decimal.
LIVE = """
    SELECT coalesce(sum((pg_column_size(one.*) + 7) / 8 * 8 + 4), 0)::float8
    FROM {table} AS one TABLESAMPLE SYSTEM ({percent}) REPEATABLE (0)
"""
SAMPLED_PAGES = 4000  # of a table; larger ones are measured to a few percent, in some ten milliseconds


def open_postgresql(url: URL) -> Database:
    """Open `postgresql://user:password@host/database`; create the tables in its current schema where there are none.

    Raises JournalError if the server cannot be reached or refuses, another agent has locked the schema, or the schema is
    newer than this program or contains other tables.
    """
    name, writer, readers = _engines(url)

    @event.listens_for(writer, "connect")
    def prepare(connection: DBAPIConnection, _record: object) -> None:
        try:
            _lock(connection, name)
        except BaseException:
            connection.close()
            raise

    try:
        with journal_errors(name), writer.begin() as connection:
            upgrade_schema(connection, name)
    except BaseException:
        writer.dispose()
        raise
    return Database(name, writer, readers, _size, lambda: None)


def attach_postgresql(url: URL) -> Database:
    """Open the same schema while an agent may be using it; the server serialises writers. Raises JournalError."""
    name, writer, readers = _engines(url)
    with journal_errors(name), readers.begin() as connection:
        require_current_schema(connection, name)
    return Database(name, writer, readers, _size, lambda: None)


def _engines(url: URL) -> tuple[str, Engine, Engine]:
    """Return the database's name in messages, the engine that writes and the engine that reads."""
    host = url.host or url.query.get("host") or "localhost"
    name = f"postgresql://{url.username or ''}@{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"
    options = {**OPTIONS, "application_name": f"edge-agent {os.getpid()} on {socket.gethostname()}", **url.query}
    url = url.set(drivername="postgresql+psycopg", query=options)
    try:
        # pool_pre_ping: a restart of the server costs no inspection. max_overflow=-1: no reader waits for another.
        writer = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, hide_parameters=True)
        readers = create_engine(url, max_overflow=-1, pool_pre_ping=True, hide_parameters=True)
    except ImportError:
        raise JournalError(
            f"journal {name}: psycopg is not installed: pip install 'edge-agent[postgresql]', or use sqlite:///"
        ) from None
    return name, writer, readers


def _size(connection: Connection) -> int:
    """Estimate the bytes of rows and indexes: each table's size times the share of its pages that rows fill.

    The sizes alone cannot be used: they do not fall when rows are deleted, so a limit on them would delete everything.
    """
    total = 0.0
    for table, pages_bytes, with_indexes, page in connection.exec_driver_sql(TABLES).all():
        if pages_bytes:
            percent = min(100.0, 100.0 * SAMPLED_PAGES * page / pages_bytes)
            sampled = connection.exec_driver_sql(LIVE.format(table=table, percent=percent)).scalar_one()
            total += with_indexes * min(1.0, sampled * 100.0 / percent / pages_bytes)
    return int(total)


def _lock(connection: DBAPIConnection, name: str) -> None:
    """Lock the schema while `connection` is open; raise JournalError if it is read-only or already locked."""
    cursor = connection.cursor()
    # So that the server soon drops the connection, and with it the lock, of an agent whose machine lost power.
    for setting in ("tcp_keepalives_idle = 30", "tcp_keepalives_interval = 10", "tcp_keepalives_count = 3"):
        cursor.execute(f"SET {setting}")
    cursor.execute(STATE)
    read_only, schema, locked = cursor.fetchone() or ("", None, False)
    if read_only == "on":
        raise JournalError(f"journal {name}: the server is a standby or read-only: name the primary")
    if schema is None:
        raise JournalError(
            f"journal {name}: no schema of the search path exists or may be used: create one, or grant its use"
        )
    if not locked:
        cursor.execute(HOLDER)
        holder, address = cursor.fetchone() or ("unknown", "unknown")
        raise JournalInUse(
            f"journal {name}: another agent uses schema {schema} ({holder}, from {address}): "
            "stop that one, or give this one its own database"
        )
    connection.commit()
