"""The journal as a second process sees it, beside the agent that may be using it: reads, and changes the outbox alone.

How a second process may write safely. In PostgreSQL the server keeps writers apart. In SQLite each change here is a single
statement in a transaction of its own, made while the lock of databases/sqlite.py is held, which the agent holds for each of
its own; so there never are two that write or checkpoint at once, which SQLite before 3.51.3 may not survive. Either waits
for the other up to 5 seconds, and then says so; the agent tries again. Reading takes no lock and holds nothing up: it goes
page by page, as one long look would keep SQLite's log from being written back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update
from sqlalchemy.engine import CursorResult

from edge_agent.journal.database import Database, plainly, visit_database
from edge_agent.journal.rows import RecordedInspection, recorded
from edge_agent.journal.tables import follows, inspections, outbox, regions

PAGE = 1000  # rows that are looked at at once
MOST_SEQS = 10_000  # that can be named in one statement


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of the outbox. dropped: why it was given up, when it was."""

    seq: int
    id: str
    created_at: datetime
    station: str
    kind: str
    payload: Mapping[str, Any]
    dropped: str | None


class Visitor:
    """Every method raises JournalError if the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self) -> Iterator[Outgoing]:
        """The messages that wait, in the order of sending."""
        return self._outgoing(outbox.c.sent_at.is_(None))

    def dropped(self) -> Iterator[Outgoing]:
        """Those that were given up, for as long as their inspections are kept."""
        return self._outgoing(outbox.c.dropped.is_not(None))

    def drop(self, reason: str, *, seqs: Sequence[int] | None = None, station: str | None = None) -> int:
        """Give up messages that wait: those of these numbers, of this station, or all. Returns how many it were."""
        which = outbox.c.sent_at.is_(None) & _these(seqs, station)
        return self._change(which, {"sent_at": datetime.now(timezone.utc), "dropped": reason})

    def retry(self, *, seqs: Sequence[int] | None = None) -> int:
        """Have messages sent again, with the id that they had: those of these numbers, sent or dropped, or all dropped ones.

        Returns how many it were; those that wait already do not count. A running agent finds them within seconds.
        """
        which = outbox.c.dropped.is_not(None) if seqs is None else outbox.c.sent_at.is_not(None) & _these(seqs)
        return self._change(which, {"sent_at": None, "dropped": None})

    def inspections(
        self, since: datetime | None = None, until: datetime | None = None, station: str | None = None
    ) -> Iterator[Sequence[RecordedInspection]]:
        """Pages of inspections with since <= taken_at < until, of a station or of all, in the order they were taken."""
        columns = inspections.c
        query = select(inspections).order_by(columns.taken_at, columns.number).limit(PAGE)
        if until is not None:
            query = query.where(columns.taken_at < until)
        if station is not None:
            query = query.where(columns.station == station)
        page = query if since is None else query.where(columns.taken_at >= since)
        while rows := self._read(page):
            found: dict[int, list[Row[Any]]] = {}
            of_these = select(regions).where(regions.c.inspection.in_([row.number for row in rows]))
            for region in self._read(of_these.order_by(regions.c.inspection, regions.c.position)):
                found.setdefault(region.inspection, []).append(region)
            yield [recorded(row, found.get(row.number, ())) for row in rows]
            page = query.where(follows(rows[-1].taken_at, rows[-1].number))

    def _outgoing(self, which: ColumnElement[bool]) -> Iterator[Outgoing]:
        columns = outbox.c
        seq = 0
        while rows := self._read(select(outbox).where(which, columns.seq > seq).order_by(columns.seq).limit(PAGE)):
            for row in rows:
                yield Outgoing(row.seq, row.id, row.created_at, row.station, row.kind, row.payload, row.dropped)
            seq = rows[-1].seq

    def _read(self, query: Any) -> Sequence[Row[Any]]:
        with plainly(self._database.name), self._database.readers.begin() as connection:
            return connection.execute(query).all()

    def _change(self, which: ColumnElement[bool], values: dict[str, object]) -> int:
        database = self._database
        with plainly(database.name), database.alone(), database.writer.begin() as connection:
            done: CursorResult[Any] = connection.execute(update(outbox).where(which).values(values))
            return done.rowcount


@contextmanager
def visiting(url: str) -> Iterator[Visitor]:
    """Visit the journal of `url` (see databases/). Raises JournalError when there is none, or not of this version."""
    database = visit_database(url)
    try:
        yield Visitor(database)
    finally:
        database.readers.dispose()
        database.writer.dispose()


def _these(seqs: Sequence[int] | None, station: str | None = None) -> ColumnElement[bool]:
    which = outbox.c.seq > 0 if seqs is None else outbox.c.seq.in_(list(seqs))
    return which if station is None else which & (outbox.c.station == station)
