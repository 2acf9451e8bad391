"""The journal: what was inspected, which files are done, and the messages that wait to be sent; sends nothing itself.

Inspection, regions, ledger entry and outbox rows are committed in one transaction, to disk, before `record` returns:
after a crash or a power cut all of them are there, or none. The ledger is kept for good: what it forgot would be
inspected again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import groupby
from threading import Lock
from typing import Any

from sqlalchemy import Text, bindparam, cast, delete, exists, func, insert, select, update
from sqlalchemy.engine import Connection, Engine

from edge_agent.core import AlarmEvent, Evaluation, Evidence, Inspection, Message, StoredFile
from edge_agent.errors import JournalError
from edge_agent.journal.database import Database, journal_errors, open_database
from edge_agent.journal.outbox import Outbox
from edge_agent.journal.purge import PurgeSearch, PurgeStep
from edge_agent.journal.rows import (
    Outcome,
    RecordedInspection,
    delivery_rows,
    inspection_row,
    ledger_row,
    outbox_rows,
    recorded,
    region_rows,
)
from edge_agent.journal.tables import deliveries, inspection_is_ok, inspections, ledger, line_alarm, outbox, regions

# Messages get their seq as they are inserted, so a delivery row finds its message by id.
_DELIVER = insert(deliveries).from_select(
    ["seq", "receiver"],
    select(outbox.c.seq, cast(bindparam("receiver"), Text)).where(outbox.c.id == bindparam("message")),
)
PAGE = 1000  # rows that are read at once where there may be any number


class Journal:
    """One agent's journal. Every method may be called from any thread and raises JournalError if the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._write_lock = Lock()
        self._old, self._ok, self._others = (
            PurgeSearch(),
            PurgeSearch(inspection_is_ok),
            PurgeSearch(which=~inspection_is_ok),
        )
        self._closed = False

    @classmethod
    def open(cls, url: str, *, ballast: bool = False) -> Journal:
        """Open sqlite:///PATH or postgresql://..., creating or upgrading the tables, for this agent alone.

        ballast: keep some room on SQLite's disk for the moment when it is full (see ballast.py).

        Raises JournalError if that cannot be done; what is already there is then left as it was.
        """
        return cls(open_database(url, ballast=ballast))

    def record(self, inspection: Inspection, evidence: Evidence, messages: Sequence[Message]) -> bool:
        """Commit all of one inspection, and say whether it was new.

        False: its id was recorded before, or its file was (as `seen` says); then nothing is written and no message is
        sent again. So after a JournalError, which means that nothing was written or that the outcome is not known, the
        same call may simply be repeated.
        """
        now = datetime.now(timezone.utc)
        file = inspection.frame.file
        with self._writing() as connection:
            if connection.scalar(select(exists().where(inspections.c.id == inspection.id))):
                return False
            if file is not None:
                if _seen(connection, inspection.frame.station, file):
                    return False
                connection.execute(insert(ledger).values(ledger_row(inspection.frame.station, file)))
            inserted = connection.execute(insert(inspections).values(inspection_row(inspection, evidence, now)))
            assert inserted.inserted_primary_key is not None
            number = inserted.inserted_primary_key[0]
            if inspection.verdict.regions:
                connection.execute(insert(regions), region_rows(number, inspection.verdict.regions))
            if messages:
                connection.execute(insert(outbox), outbox_rows(number, messages, now))
                connection.execute(_DELIVER, delivery_rows(messages))
        return True

    def seen(self, station: str, file: StoredFile) -> bool:
        """Say whether `file` was inspected: this content at this path, or this very file before it was renamed."""
        with self._reading() as connection:
            return _seen(connection, station, file)

    def seen_stat(self, station: str, path: str, inode: int, size: int, mtime_ns: int) -> bool:
        """Say whether the file of this path and stat was inspected. If not, `seen` may still know its content."""
        same = _same_stat(station, inode, size, mtime_ns) & (ledger.c.path == path)
        with self._reading() as connection:
            return bool(connection.scalar(select(exists().where(same))))

    def outbox(self, receiver: str) -> Outbox:
        """Return the messages of one receiver, for the sender that delivers them."""
        return Outbox(receiver, self._reading, self._writing)

    def receivers(self) -> list[str]:
        """Return the names of the receivers that messages wait for, sorted."""
        waiting = select(deliveries.c.receiver).where(deliveries.c.sent_at.is_(None)).distinct()
        with self._reading() as connection:
            return sorted(connection.scalars(waiting))

    def last_alarm_states(self) -> dict[str, bool]:
        """Return, for each station that ever had an alarm, whether it is active still; simulated ones do not count."""
        newest = select(func.max(inspections.c.number)).where(line_alarm(inspections.c)).group_by(inspections.c.station)
        query = select(inspections.c.station, inspections.c.alarm).where(inspections.c.number.in_(newest))
        with self._reading() as connection:
            found = connection.execute(query).all()
        return {station: AlarmEvent(alarm) is not AlarmEvent.CLEARED for station, alarm in found}

    def inspections(
        self,
        station: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[RecordedInspection]:
        """Return inspections in the order they were taken; since <= taken_at < until; the first `limit` of them."""
        columns = inspections.c
        query = select(inspections).order_by(columns.taken_at, columns.number).limit(limit)
        if station is not None:
            query = query.where(columns.station == station)
        if since is not None:
            query = query.where(columns.taken_at >= since)
        if until is not None:
            query = query.where(columns.taken_at < until)
        of_these = regions.c.inspection.in_(query.with_only_columns(columns.number))
        with self._reading() as connection:
            rows = connection.execute(query).all()
            found = connection.execute(
                select(regions).where(of_these).order_by(regions.c.inspection, regions.c.position)
            )
            by_number = {number: list(group) for number, group in groupby(found, lambda region: region.inspection)}
        return [recorded(row, by_number.get(row.number, ())) for row in rows]

    def last_number(self, station: str | None = None) -> int:
        """Return the number of the last inspection that was recorded, of a station or of any; 0 when there is none.

        Of a station only simulated ones count.
        """
        columns = inspections.c
        last = select(columns.number).order_by(columns.number.desc()).limit(1)
        with self._reading() as connection:
            if station is None:
                return connection.scalar(last) or 0
            if not connection.scalar(select(exists().where(columns.station == station))):
                return 0
            # With something added to the name no index of names is taken: all of the station's rows would be read, where
            # from the end the first one usually is the one.
            last = last.where(columns.station + "" == station, columns.simulated.is_(True))
            return connection.scalar(last) or 0

    def outcomes(self, station: str, after: int) -> Iterator[Outcome]:
        """Give what a station's simulated inspections found, those with a number above `after`, as they were recorded.

        They are read in pages, so that a million of them take no more memory than a thousand.
        """
        columns = inspections.c
        names = ("number", "origin", "part_id", "taken_at", "width", "height", "evaluation", "score", "overlay_uri")
        wanted = [*(columns[name] for name in names), columns.station, columns.simulated]
        # By number alone: for a station's rows SQLite would take its index, and sort all of them for every page.
        query = select(*wanted).order_by(columns.number).limit(PAGE)
        while True:
            with self._reading() as connection:
                rows = connection.execute(query.where(columns.number > after)).all()
            if not rows:
                return
            for _, origin, part_id, taken_at, width, height, evaluation, score, overlay, of, simulated in rows:
                if of == station and simulated:
                    yield Outcome(origin, part_id, taken_at, width, height, Evaluation(evaluation), score, overlay)
            after = rows[-1].number

    def clear_uris(self, uris: Iterable[str]) -> None:
        """Note that the evidence files `uris` were deleted: the rows keep digest and size, but lose the URI."""
        rows = [{"gone": uri} for uri in uris]
        if not rows:
            return
        with self._writing() as connection:
            for column in (inspections.c.image_uri, inspections.c.overlay_uri):
                connection.execute(update(inspections).where(column == bindparam("gone")).values({column: None}), rows)

    def purge_before(self, moment: datetime, limit: int = 500) -> PurgeStep:
        """Delete up to `limit` inspections taken before `moment`, the oldest first.

        Those with messages that wait stay, and so does the last that each station's alarm rests on. A step that meets
        many of those may delete none and yet leave more: the next one goes on behind them.
        """
        return self._forget(self._old, limit, moment)

    def purge_oldest(self, limit: int = 500) -> PurgeStep:
        """Delete up to `limit` inspections: the oldest that are OK, or else, when none of these may go, of any kind.

        Those stay that stay with `purge_before`.
        """
        gone = self._forget(self._ok, limit)
        return PurgeStep(gone.rows, True) if gone.rows or gone.more else self._forget(self._others, limit)

    def size(self) -> int:
        """Return how many bytes the journal takes, the ledger included; what deleted rows left free does not count.

        Of SQLite's file that is exact, and neither the file nor PostgreSQL's ever shrink by themselves: the room is
        used again. Of PostgreSQL's tables it is an estimate.
        """
        with self._reading() as connection:
            return self._database.size(connection)

    def _forget(self, among: PurgeSearch, limit: int, before: datetime | None = None) -> PurgeStep:
        # What may go now may go later, too, so that nobody who writes has to wait while it is looked for.
        with self._reading() as connection:
            numbers, more = among.look(connection, limit, before)
        if numbers:
            with self._writing() as connection:
                of_these = select(outbox.c.seq).where(outbox.c.inspection.in_(numbers))
                connection.execute(delete(deliveries).where(deliveries.c.seq.in_(of_these)))
                for column in (outbox.c.inspection, regions.c.inspection, inspections.c.number):
                    connection.execute(delete(column.table).where(column.in_(numbers)))
        return PurgeStep(len(numbers), more)

    def close(self) -> None:
        """Finish what is being written, close the database and let go of it. Closing twice is fine."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            # The last connection to close writes SQLite's log back into the file: that has to be the writer.
            self._database.readers.dispose()
            self._database.writer.dispose()
            self._database.release()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        ballast = self._database.ballast
        try:
            with self._write_lock, self._database.exclusive(), self._transaction(self._database.writer) as connection:
                yield connection
        except JournalError:
            if ballast:
                ballast.release()  # whoever calls tries again
            raise
        if ballast:
            ballast.reserve()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._transaction(self._database.readers) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        if self._closed:
            raise ValueError("the journal is closed")
        with journal_errors(self._database.name), engine.begin() as connection:
            yield connection


def _same_stat(station: str, inode: int, size: int, mtime_ns: int) -> Any:
    columns = ledger.c
    return (
        (columns.station == station)
        & (columns.inode == inode)
        & (columns.size == size)
        & (columns.mtime_ns == mtime_ns)
    )


def _seen(connection: Connection, station: str, file: StoredFile) -> bool:
    content = ledger.c.sha256 == file.sha256
    here = (ledger.c.station == station) & (ledger.c.path == file.path) & content
    renamed = _same_stat(station, file.inode, file.size, file.mtime_ns) & content
    return any(connection.scalar(select(exists().where(known))) for known in (here, renamed))
