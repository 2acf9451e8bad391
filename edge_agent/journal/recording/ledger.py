"""The ledger of inspected files: asked before a file is read, and written in the transaction that records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, bindparam, delete, exists, insert, select
from sqlalchemy.engine import Connection

from edge_agent.core import StoredFile
from edge_agent.journal.rows import ledger_row
from edge_agent.journal.tables import as_nanoseconds, as_text, ledger


def _known_by(*columns: str) -> Select[Any]:
    """Return the question whether the ledger has a row with these values, which are given by the names of the columns."""
    return select(exists().where(*(ledger.c[name] == bindparam(name, type_=ledger.c[name].type) for name in columns)))


# Made once: to make one takes several times as long as to answer it.
_STATS_OF = select(ledger.c.path, ledger.c.inode, ledger.c.size, ledger.c.mtime_ns).where(
    ledger.c.station == bindparam("station"), ledger.c.path.in_(bindparam("paths", expanding=True))
)
_SEEN_HERE = _known_by("station", "path", "sha256")
_SEEN_RENAMED = _known_by("station", "inode", "size", "mtime_ns", "sha256")
_ENTER = insert(ledger)
_FORGET = delete(ledger).where(
    ledger.c.station == bindparam("of"), ledger.c.path == bindparam("at"), ledger.c.sha256 == bindparam("digest")
)


def is_seen(connection: Connection, station: str, file: StoredFile) -> bool:
    """Return whether a station has inspected this content: at this path, or the same file before it was renamed.

    Args:
        connection: of the journal.
        station: whose ledger is asked.
        file: as it was read.
    """
    row = ledger_row(station, file)
    return any(connection.scalar(known, row) for known in (_SEEN_HERE, _SEEN_RENAMED))


def seen_stats(connection: Connection, station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
    """Return the paths of those files that were inspected; is_seen() may still know the content of the others.

    Args:
        connection: of the journal.
        station: whose ledger is asked.
        files: by path: inode, size in bytes, and time of modification in nanoseconds since 1970.
    """
    rows = connection.execute(_STATS_OF, {"station": station, "paths": list(files)}).all()
    known = {(row.path, row.inode, row.size, row.mtime_ns) for row in rows}
    return {
        path
        for path, (inode, size, mtime_ns) in files.items()
        if (as_text(path), inode, size, as_nanoseconds(mtime_ns)) in known
    }


def enter(connection: Connection, station: str, file: StoredFile) -> bool:
    """Write down that a station inspects a file; return False, and write nothing, if it has before.

    Args:
        connection: in a transaction that writes.
        station: whose ledger it is.
        file: as it was read; one that came again is entered anew, as its stat is another.
    """
    if file.again:
        connection.execute(_FORGET, {"of": station, "at": file.path, "digest": file.sha256})
    elif is_seen(connection, station, file):
        return False
    connection.execute(_ENTER, ledger_row(station, file))
    return True
