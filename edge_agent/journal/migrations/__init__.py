"""Migrations of the journal's schema: one file per version under versions/, applied in order when a journal is opened.

To change a table: change edge_agent/journal/tables.py, add versions/vNNNN_what.py, and raise HEAD. Alter existing tables in
batch mode only (`with op.batch_alter_table(...)`), because SQLite cannot alter most things in place. Never edit a released
version, and import nothing of this package there: a version describes the schema of its time, not today's.
"""

from __future__ import annotations

import logging

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from edge_agent.errors import JournalError

HEAD = "0012"
VERSION_TABLE = "journal_version"

log = logging.getLogger(__name__)


def require_current_schema(connection: Connection, name: str) -> None:
    """Raise JournalError unless the tables of journal `name` exist at version HEAD; for callers that may not upgrade."""
    found = _version(connection, name)
    if found != HEAD:
        raise JournalError(
            f"journal {name}: its schema is {found or 'not there yet'}, this edge-agent knows {HEAD}: "
            "start the agent of this version once, or use the program that the agent runs"
        )


def upgrade_schema(connection: Connection, name: str) -> None:
    """Create the tables of journal `name`, or upgrade them to HEAD, in the transaction of `connection`.

    Raises JournalError, before any change, if the tables are newer than this program or not those of a journal.
    """
    found = _version(connection, name)
    if found == HEAD:
        return
    # Imported late: most starts find the journal up to date and need none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "edge_agent.journal:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise JournalError(
            f"journal {name}: it was written by a newer edge-agent (schema {found}; this one knows up to {HEAD}): "
            "install that version again, or use another journal"
        )
    log.info("journal %s: %s", name, f"upgrading schema {found} to {HEAD}" if found else "creating a new one")
    command.upgrade(config, "head")


def _version(connection: Connection, name: str) -> str | None:
    """Return the schema version, or None if there are no tables; raise JournalError for other programs' tables."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")))
    if tables:
        raise JournalError(
            f"journal {name}: this is a database of something else (it has the table {tables[0]}): "
            "give the journal a database of its own"
        )
    return None
