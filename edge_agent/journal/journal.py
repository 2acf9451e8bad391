"""The journal: stores inspections, the ledger of inspected files, and messages that wait to be sent; sends nothing itself.

Inspection, regions, ledger entry and outbox rows are committed to disk in one transaction before `record` returns: after a
crash or a power cut either all of them exist or none. The ledger is never purged: a file missing from it would be
inspected again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Select, bindparam, delete, exists, select, update
from sqlalchemy.engine import Connection, Engine

from edge_agent.core import AlarmChange, AlarmKind, Evaluation, Evidence, Inspection, Message, Record, StoredFile
from edge_agent.errors import JournalError, JournalOverwritten
from edge_agent.io.clock import EARLIEST
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.opening import open_database
from edge_agent.journal.outbox import Outbox
from edge_agent.journal.purge import PurgeSearch, PurgeStep
from edge_agent.journal.recording import ledger
from edge_agent.journal.recording.records import add_messages, write
from edge_agent.journal.remembered.alarms import insert_change, old_changes, standing_alarms
from edge_agent.journal.remembered.epoch import Marker, Reached, highest_seq, newest_seq, place_of, present_epoch
from edge_agent.journal.rows import (
    Outcome,
    RecordedInspection,
    recorded,
)
from edge_agent.journal.tables import (
    alarm_changes,
    deliveries,
    inspection_is_ok,
    inspections,
    is_pending,
    label_is_to_learn,
    labels,
    outbox,
    regions,
)

log = logging.getLogger(__name__)
PAGE = 1000  # rows per query where there may be any number


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Journal:
    """One agent's journal. Every method may be called from any thread and raises JournalError if the database fails."""

    def __init__(self, database: Database, agent: str = "", clock: Callable[[], datetime] = _now) -> None:
        """Take an open database; begin a new epoch if it was created or restored.

        Args:
            database: locked for this agent.
            agent: the agent's name.
            clock: gives the time of each inspection's record, aware.

        Raises:
            JournalError: the database fails.
        """
        self._database, self._agent, self._clock = database, agent, clock
        self._write_lock = Lock()
        self._old, self._ok, self._others = (
            PurgeSearch(start=(EARLIEST, 0)),
            PurgeSearch(inspection_is_ok),
            PurgeSearch(which=~inspection_is_ok),
        )
        self.unread: str | None = None  # why the last question could not be answered; None: it was
        self._closed = False
        self._overwritten = False  # by another program
        self._marker = Marker(Path(f"{database.file}.epoch")) if database.file else None
        self._highest = 0  # seq that was ever given
        self.epoch = ""  # of its messages, see remembered/epoch.py
        self._begin_epoch()

    @classmethod
    def open(cls, url: str, *, agent: str = "", ballast: bool = False, clock: Callable[[], datetime] = _now) -> Journal:
        """Open a journal exclusively for this agent, creating or upgrading its tables.

        Args:
            url: sqlite:///PATH or postgresql://...
            agent: the agent's name, which is recorded with each inspection.
            ballast: keep a reserve file on SQLite's disk for when it is full (see ballast.py); default False.
            clock: gives the time of each inspection's record, aware; default the machine's.

        Raises:
            JournalError: it cannot be opened; an existing journal is then left unchanged.
        """
        database = open_database(url, ballast=ballast)
        try:
            return cls(database, agent, clock)
        except BaseException:
            database.readers.dispose()
            database.writer.dispose()
            database.release()
            raise

    def record(self, inspection: Inspection, evidence: Evidence, messages: Sequence[Message]) -> bool:
        """Commit one inspection with its regions, ledger entry and messages.

        Args:
            inspection: what was inspected.
            evidence: its pictures on disk.
            messages: what to send about it, in the order of sending; may be empty.

        Returns:
            Whether it was new. False: its id or its file (see `seen`), unless that came again, was recorded before;
            nothing is then written, and no message is sent twice.

        Raises:
            JournalError: nothing was written, or the outcome is unknown; repeat the same call, which is safe.
        """
        return self.commit([Record(inspection, evidence, messages)])[0]

    def commit(self, records: Sequence[Record]) -> list[bool]:
        """Commit a group of records in one transaction; return of each whether it was new, see record().

        What completes an inspection is new only while that one's evidence is pending.

        Raises:
            JournalError: nothing was written, or the outcome is unknown; repeat the same call, which is safe.
        """
        now = self._clock()
        with self._writing() as connection:
            return write(connection, records, now, self._agent)

    def unfinished(self) -> list[Inspection]:
        """Return the inspections whose pictures and messages were to follow when the agent ended, in recording order.

        Their pixels are black, and their heatmaps empty.
        """
        query = select(inspections).where(is_pending).order_by(inspections.c.number)
        with self._reading() as connection:
            return [one.as_inspection() for one in _recorded(connection, query)]

    def seen(self, station: str, file: StoredFile) -> bool:
        """Return whether `file` was inspected: this content at this path, or the same file before it was renamed."""
        with self._reading() as connection:
            return ledger.is_seen(connection, station, file)

    def seen_stats(self, station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
        """Return the paths of those files that were inspected; `seen` may still know the content of the others.

        Args:
            station: the station whose ledger is searched.
            files: by path, as in the ledger (StoredFile.path): inode, size in bytes, and time of modification in nanoseconds
                since 1970.
        """
        with self._reading() as connection:
            return ledger.seen_stats(connection, station, files)

    def outbox(self, receiver: str) -> Outbox:
        """Return the messages of one receiver, for the sender that delivers them."""
        return Outbox(receiver, self._reading, self._writing)

    def receivers(self) -> list[str]:
        """Return the sorted names of the receivers for which messages wait."""
        waiting = select(deliveries.c.receiver).where(deliveries.c.sent_at.is_(None)).distinct()
        with self._reading() as connection:
            return sorted(connection.scalars(waiting))

    def record_alarm(self, change: AlarmChange, messages: Sequence[Message]) -> None:
        """Commit a change of an alarm that no single picture made, with its messages; once, however often it is called.

        Args:
            change: what to record.
            messages: what to send about it; may be empty.
        """
        now = self._clock()
        with self._writing() as connection:
            if connection.scalar(select(exists().where(alarm_changes.c.id == change.id))):
                return
            insert_change(connection, change)
            add_messages(connection, None, messages, now)

    def record_messages(self, messages: Sequence[Message]) -> None:
        """Commit messages that belong to no inspection, to be delivered at least once; those that it has are left out."""
        now = self._clock()
        with self._writing() as connection:
            known = set(connection.scalars(select(outbox.c.id).where(outbox.c.id.in_([one.id for one in messages]))))
            new = [one for one in messages if one.id not in known]
            add_messages(connection, None, new, now)

    def standing_alarms(self) -> dict[str, frozenset[AlarmKind]]:
        """Return for each station that ever had an alarm which kinds still stand; simulated ones do not count."""
        with self._reading() as connection:
            return standing_alarms(connection)

    def last_inspected_at(self) -> datetime | None:
        """Return when the newest inspection was recorded; None without any."""
        newest = select(inspections.c.inspected_at).order_by(inspections.c.number.desc()).limit(1)
        with self._reading() as connection:
            return connection.scalar(newest)

    def inspections(
        self,
        station: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[RecordedInspection]:
        """Return inspections with since <= taken_at < until in the order they were taken.

        Args:
            station: only inspections of this station; None (default) for all stations.
            since: aware; None (default) for no lower limit.
            until: aware; None (default) for no upper limit.
            limit: only the first so many; None (default) for all.
        """
        columns = inspections.c
        query = select(inspections).order_by(columns.taken_at, columns.number).limit(limit)
        if station is not None:
            query = query.where(columns.station == station)
        if since is not None:
            query = query.where(columns.taken_at >= since)
        if until is not None:
            query = query.where(columns.taken_at < until)
        with self._reading() as connection:
            return _recorded(connection, query)

    def last_number(self, station: str | None = None) -> int:
        """Return the number of the last simulated inspection of `station`, or of the last of any kind if it is None.

        0 when there is none.
        """
        columns = inspections.c
        last = select(columns.number).order_by(columns.number.desc()).limit(1)
        with self._reading() as connection:
            if station is None:
                return connection.scalar(last) or 0
            if not connection.scalar(select(exists().where(columns.station == station))):
                return 0
            # station + "" keeps the index of stations from being used: it would read all rows of the station, while the
            # first row from the end usually matches.
            last = last.where(columns.station + "" == station, columns.simulated.is_(True))
            return connection.scalar(last) or 0

    def outcomes(self, station: str, after: int) -> Iterator[Outcome]:
        """Yield the outcomes of a station's simulated inspections with a number above `after`, in recording order.

        They are read in pages, so that a million of them take no more memory than a thousand.
        """
        columns = inspections.c
        names = ("number", "origin", "part_id", "taken_at", "width", "height", "evaluation", "score", "overlay_uri")
        wanted = [*(columns[name] for name in names), columns.station, columns.simulated]
        # Select by number alone: for one station's rows SQLite would use its index, and sort all of them for every page.
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
        """Record that the evidence files `uris` were deleted: clear their URIs, keep digests and sizes."""
        rows = [{"gone": uri} for uri in uris]
        if not rows:
            return
        with self._writing() as connection:
            for column in (inspections.c.image_uri, inspections.c.overlay_uri):
                connection.execute(update(inspections).where(column == bindparam("gone")).values({column: None}), rows)

    def to_learn(self, since: datetime | None = None) -> list[str]:
        """Return the ids of inspections with a label that was said at `since` (default: ever) or later and is to be learnt."""
        with self._reading() as connection:
            return list(connection.scalars(select(labels.c.inspection).where(label_is_to_learn(since))))

    def purge_before(self, moment: datetime, limit: int = 500, labelled_since: datetime | None = None) -> PurgeStep:
        """Delete up to `limit` inspections that were recorded before `moment`, the oldest first.

        Args:
            moment: aware.
            limit: in one transaction, for which the line waits; default 500.
            labelled_since: inspections with a label said at this moment or later, aware, stay until it is learnt; None
                (default) for all that have a label to be learnt.

        When their pictures were taken does not matter: the clock of a camera may be wrong by decades. What was recorded
        while the clock of this machine was not set stays.
        Inspections with waiting messages stay, and so does each station's last one that changed or repeated its alarm.
        A step that meets many of those may delete none and still report more: the next step continues behind them.
        """
        self._purge_alarm_messages(moment)
        return self._purge(self._old, limit, labelled_since, moment)

    def purge_oldest(self, limit: int = 500, labelled_since: datetime | None = None) -> PurgeStep:
        """Delete up to `limit` inspections: the oldest that are OK; if none of these may be deleted, the oldest others.

        The same inspections stay as with `purge_before`, which see.
        """
        step = self._purge(self._ok, limit, labelled_since)
        return (
            PurgeStep(step.rows, True) if step.rows or step.more else self._purge(self._others, limit, labelled_since)
        )

    def size(self) -> int:
        """Return the bytes that the journal takes, the ledger included, without the space that deleted rows left free.

        Exact for SQLite, an estimate for PostgreSQL. The files of neither shrink by themselves: the free space is reused.
        """
        with self._reading() as connection:
            return self._database.size(connection)

    def _purge(
        self, search: PurgeSearch, limit: int, labelled_since: datetime | None, before: datetime | None = None
    ) -> PurgeStep:
        # What may be deleted now may be deleted later, too, so the search needs no write lock. A label said in between is
        # of an inspection that was about to go.
        with self._reading() as connection:
            numbers, more = search.find(connection, limit, labelled_since, before)
        if numbers:
            with self._writing() as connection:
                of_these = select(outbox.c.seq).where(outbox.c.inspection.in_(numbers))
                connection.execute(delete(deliveries).where(deliveries.c.seq.in_(of_these)))
                for column in (outbox.c.inspection, regions.c.inspection, inspections.c.number):
                    connection.execute(delete(column.table).where(column.in_(numbers)))
        return PurgeStep(len(numbers), more)

    def _purge_alarm_messages(self, moment: datetime) -> None:
        """Delete changes of alarms before `moment` but for the last of each, and messages that wait for nobody."""
        old = (outbox.c.inspection.is_(None)) & (outbox.c.created_at < moment)
        waits = exists().where(deliveries.c.seq == outbox.c.seq, deliveries.c.sent_at.is_(None))
        with self._reading() as connection:
            seqs = list(connection.scalars(select(outbox.c.seq).where(old, ~waits).limit(PAGE)))
            numbers = old_changes(connection, moment, PAGE)
        if seqs or numbers:
            with self._writing() as connection:
                connection.execute(delete(alarm_changes).where(alarm_changes.c.number.in_(numbers)))
                for column in (deliveries.c.seq, outbox.c.seq):
                    connection.execute(delete(column.table).where(column.in_(seqs)))

    def close(self) -> None:
        """Finish the current write, close the database and unlock it. Closing twice is allowed.

        Where another program has overwritten its files, they are left as they are, for whoever rescues them.
        """
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            if self._overwritten and self._database.abandon:
                self._database.abandon()
                return
            # The last connection to close writes SQLite's log back into the file, so the writer has to be last.
            self._database.readers.dispose()
            self._database.writer.dispose()
            self._database.release()

    def _begin_epoch(self) -> None:
        found = self._marker.read() if self._marker else None
        with self._database.exclusive(), self._transaction(self._database.writer) as connection:
            place = place_of(connection, self._database.file)
            self._highest = highest_seq(connection)
            self.epoch, why = present_epoch(connection, place, found, _now())
        if self._marker:
            self._marker.write(Reached(self.epoch, self._highest))
        if why:
            log.warning(
                "journal %s: a new epoch of its messages begins, as it was restored or moved: %s",
                self._database.name,
                why,
            )

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        ballast = self._database.ballast
        try:
            with self._write_lock, self._database.exclusive():
                with self._transaction(self._database.writer) as connection:
                    yield connection
                    self._highest = max(self._highest, newest_seq(connection))
                if self._marker:
                    self._marker.write(Reached(self.epoch, self._highest))
        except JournalError:
            if ballast:
                ballast.release()  # the caller tries again
            raise
        except JournalOverwritten:
            self._overwritten = True
            raise
        if ballast:
            ballast.reserve()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._transaction(self._database.readers) as connection:
                yield connection
        except JournalError as error:
            self.unread = str(error)
            raise
        self.unread = None

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        if self._closed:
            raise ValueError("the journal is closed")
        with journal_errors(self._database.name), engine.begin() as connection:
            yield connection


def _recorded(connection: Connection, query: Select[Any]) -> list[RecordedInspection]:
    """Return the inspections that a query selects, with their regions."""
    of_these = regions.c.inspection.in_(query.with_only_columns(inspections.c.number))
    rows = connection.execute(query).all()
    found = connection.execute(select(regions).where(of_these).order_by(regions.c.inspection, regions.c.position))
    by_number = {number: list(group) for number, group in groupby(found, lambda region: region.inspection)}
    return [recorded(row, by_number.get(row.number, ())) for row in rows]
