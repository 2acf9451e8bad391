"""The journal for a second process, while an agent may be using it: reads everything, changes only the outbox.

How a second process may write safely: In PostgreSQL the server serialises writers. In SQLite each change is one short
transaction, made while the write lock of journal/sqlite.py is held, which the agent holds for each of
its transactions, too; so no two processes write or checkpoint at once, which may lose rows in SQLite before 3.51.3. Either
waits for the other up to 5 seconds, and then raises; the agent tries again. Reading takes no lock and blocks nobody: it
goes page by page, as one long query would keep SQLite's log from being written back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, select, true, update
from sqlalchemy.engine import CursorResult

from edge_agent.core import Message
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.opening import attach_database
from edge_agent.journal.recording.records import add_messages
from edge_agent.journal.rows import Label, RecordedInspection, label_of, recorded
from edge_agent.journal.tables import deliveries, follows, inspections, label_holds, labels, outbox, regions

PAGE = 1000  # rows per query
MOST_SEQS = 10_000  # per statement


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message of the outbox for one receiver. dropped: the reason it was dropped; None when it was not."""

    seq: int
    id: str
    created_at: datetime
    station: str
    kind: str
    payload: Mapping[str, Any]
    receiver: str
    dropped: str | None


class JournalReader:
    """Reads the journal and changes its outbox. Every method raises JournalError if the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, receiver: str | None = None) -> Iterator[QueuedMessage]:
        """Yield the messages that wait for a receiver, or for any, in the order of sending."""
        return self._outgoing(deliveries.c.sent_at.is_(None) & _of(receiver))

    def dropped(self, receiver: str | None = None) -> Iterator[QueuedMessage]:
        """Yield the dropped messages of a receiver, or of any, for as long as their inspections are kept."""
        return self._outgoing(deliveries.c.dropped.is_not(None) & _of(receiver))

    def drop(
        self,
        reason: str,
        *,
        seqs: Sequence[int] | None = None,
        station: str | None = None,
        receiver: str | None = None,
    ) -> int:
        """Drop waiting messages, so that they are not sent.

        Args:
            reason: why they are dropped; stored with each delivery.
            seqs: seqs of the messages, at most MOST_SEQS; None (default) for all.
            station: only messages of this station; None (default) for all stations.
            receiver: only deliveries to this receiver; None (default) for all receivers.

        Returns:
            The number of deliveries dropped.
        """
        which = deliveries.c.sent_at.is_(None) & _these(seqs, station) & _of(receiver)
        return self._change(which, {"sent_at": datetime.now(timezone.utc), "dropped": reason})

    def retry(self, *, seqs: Sequence[int] | None = None, receiver: str | None = None) -> int:
        """Queue messages again under their old ids; a running agent finds them within seconds.

        Args:
            seqs: seqs of sent or dropped messages, at most MOST_SEQS; None (default) for all dropped ones.
            receiver: only deliveries to this receiver; None (default) for all receivers.

        Returns:
            The number of deliveries queued again; those that wait already do not count.
        """
        which = deliveries.c.dropped.is_not(None) if seqs is None else deliveries.c.sent_at.is_not(None) & _these(seqs)
        return self._change(which & _of(receiver), {"sent_at": None, "dropped": None})

    def queue(self, message: Message, inspection: str) -> bool:
        """Queue a message beside those of the agent, which sends it within seconds.

        Args:
            message: of an inspection that is recorded already.
            inspection: its id.

        Returns:
            False if a message of this id is there already, or the journal has no such inspection: nothing was queued.
        """
        database, now = self._database, datetime.now(timezone.utc)
        with journal_errors(database.name), database.exclusive(), database.writer.begin() as connection:
            # Locked, so that of two processes the second sees the first one's message.
            of = select(inspections.c.number).where(inspections.c.id == inspection).with_for_update()
            number = connection.scalar(of)
            if number is None or connection.scalar(select(exists().where(outbox.c.id == message.id))):
                return False
            add_messages(connection, number, [message], now)
        return True

    def inspections(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        station: str | None = None,
        evaluations: Sequence[str] | None = None,
    ) -> Iterator[Sequence[RecordedInspection]]:
        """Yield inspections with since <= taken_at < until in pages of up to 1000, in the order they were taken.

        Args:
            since: aware; None (default) for no lower limit.
            until: aware; None (default) for no upper limit.
            station: only inspections of this station; None (default) for all stations.
            evaluations: only inspections of these verdicts, such as "NotOK"; None (default) for all.
        """
        columns = inspections.c
        query = select(inspections).order_by(columns.taken_at, columns.number).limit(PAGE)
        if evaluations is not None:
            query = query.where(columns.evaluation.in_(list(evaluations)))
        if until is not None:
            query = query.where(columns.taken_at < until)
        if station is not None:
            query = query.where(columns.station == station)
        page = query if since is None else query.where(columns.taken_at >= since)
        while rows := self._read(page):
            yield self._recorded_of(rows)
            page = query.where(follows(columns.taken_at, rows[-1].taken_at, rows[-1].number))

    def of(self, ids: Sequence[str]) -> dict[str, RecordedInspection]:
        """Return the inspections of these ids, as far as the journal has them."""
        found: dict[str, RecordedInspection] = {}
        for some in range(0, len(ids), PAGE):
            for one in self._recorded(select(inspections).where(inspections.c.id.in_(ids[some : some + PAGE]))):
                found[one.id] = one
        return found

    def newest_kept(self, station: str, count: int) -> list[RecordedInspection]:
        """Return the last `count` inspections of a station whose pictures were kept, the newest first; none of a replay."""
        columns = inspections.c
        query = select(inspections).where(
            columns.station == station, columns.image_uri.is_not(None), columns.simulated.is_(False)
        )
        return self._recorded(query.order_by(columns.taken_at.desc(), columns.number.desc()).limit(count))

    def _recorded(self, query: Any) -> list[RecordedInspection]:
        rows = self._read(query)
        pages = [rows[some : some + PAGE] for some in range(0, len(rows), PAGE)]
        return [one for page in pages for one in self._recorded_of(page)]

    def _recorded_of(self, rows: Sequence[Row[Any]]) -> list[RecordedInspection]:
        found: dict[int, list[Row[Any]]] = {}
        of_these = select(regions).where(regions.c.inspection.in_([row.number for row in rows]))
        for region in self._read(of_these.order_by(regions.c.inspection, regions.c.position)):
            found.setdefault(region.inspection, []).append(region)
        said = self._labels([row.id for row in rows])
        return [recorded(row, found.get(row.number, ()), said.get(row.id)) for row in rows]

    def _labels(self, ids: Sequence[str]) -> dict[str, Label]:
        query = select(labels).where(labels.c.inspection.in_(ids), label_holds())
        return {row.inspection: label_of(row) for row in self._read(query)}

    def _outgoing(self, which: ColumnElement[bool]) -> Iterator[QueuedMessage]:
        columns = deliveries.c
        found = select(outbox, columns.receiver, columns.dropped).join(deliveries, columns.seq == outbox.c.seq)
        query = found.where(which).order_by(columns.seq, columns.receiver).limit(PAGE)
        page = query
        while rows := self._read(page):
            for row in rows:
                yield QueuedMessage(
                    row.seq, row.id, row.created_at, row.station, row.kind, row.payload, row.receiver, row.dropped
                )
            seq, receiver = rows[-1].seq, rows[-1].receiver
            behind = (columns.seq > seq) | ((columns.seq == seq) & (columns.receiver > receiver))
            page = query.where(columns.seq >= seq, behind)

    def _read(self, query: Any) -> Sequence[Row[Any]]:
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            return connection.execute(query).all()

    def _change(self, which: ColumnElement[bool], values: dict[str, object]) -> int:
        database = self._database
        with journal_errors(database.name), database.exclusive(), database.writer.begin() as connection:
            done: CursorResult[Any] = connection.execute(update(deliveries).where(which).values(values))
            return done.rowcount


@contextmanager
def open_reader(url: str) -> Iterator[JournalReader]:
    """Open the journal of `url` (see database.py). Raises JournalError if it is missing or of another schema version."""
    database = attach_database(url)
    try:
        yield JournalReader(database)
    finally:
        database.readers.dispose()
        database.writer.dispose()


def _these(seqs: Sequence[int] | None, station: str | None = None) -> ColumnElement[bool]:
    which = deliveries.c.seq > 0 if seqs is None else deliveries.c.seq.in_(list(seqs))
    if station is None:
        return which
    return which & exists().where(outbox.c.seq == deliveries.c.seq, outbox.c.station == station)


def _of(receiver: str | None) -> ColumnElement[bool]:
    return true() if receiver is None else deliveries.c.receiver == receiver
