"""Reads the journal as people look through it, newest first and a page at a time, beside a running agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Row, func, literal_column, select

from edge_agent.core import AlarmEvent
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.opening import attach_database
from edge_agent.journal.rows import RecordedInspection, recorded
from edge_agent.journal.tables import follows, inspections, line_alarm, outbox, precedes, regions, worth_a_look

Which = Literal["look", "all"]  # look: not OK, and OK just below the threshold


class Position(NamedTuple):
    """A place in the order of time: that of an inspection, by taken_at and number."""

    taken_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which inspections to look through. station: None for all. since <= taken_at < until, aware; None for no limit."""

    station: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    which: Which = "look"


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """An alarm that was raised and not cleared yet.

    raised: the inspection that raised it, as far as retention has kept it. acknowledged_by: who acknowledged it, and when.
    """

    raised: RecordedInspection
    acknowledged_by: str | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """Some inspections, the newest first. older: where the next page begins, None when this is the last."""

    inspections: Sequence[RecordedInspection]
    older: Position | None


class JournalReview:
    """Reads inspections for people. Every method raises JournalError if the database fails; any thread may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stations(self) -> list[str]:
        """Return the sorted names of all stations that the journal knows: one step in the index for each."""
        columns, found = inspections.c, list[str]()
        query = select(func.min(columns.station))
        while (name := self._read(query)[0][0]) is not None:
            found.append(name)
            query = select(func.min(columns.station)).where(columns.station > name)
        return found

    def page(self, chosen: Selection, limit: int, older: Position | None = None) -> ReviewPage:
        """Return the newest inspections of a selection, or those behind a position.

        Args:
            chosen: which inspections.
            limit: most inspections of the page, at least 1.
            older: begin behind this inspection, towards older ones; as ReviewPage.older. None (default): at the newest.
        """
        columns = inspections.c
        query = select(inspections).order_by(columns.taken_at.desc(), columns.number.desc())
        query = query.where(*_conditions(chosen)).limit(limit + 1)
        if chosen.since is not None:
            query = query.where(columns.taken_at >= chosen.since)
        # One upper bound: given two, a database may use the later one, and read on from there.
        if older is not None and (chosen.until is None or older.taken_at < chosen.until):
            query = query.where(precedes(columns.taken_at, *older))
        elif chosen.until is not None:
            query = query.where(columns.taken_at < chosen.until)
        rows = self._read(query)
        more = Position(rows[limit - 1].taken_at, rows[limit - 1].number) if len(rows) > limit else None
        return ReviewPage(self._recorded(rows[:limit]), more)

    def neighbours(self, id_: str, chosen: Selection) -> tuple[str | None, str | None]:
        """Return the ids of the next older and the next newer inspection; None where there is none.

        Args:
            id_: of the inspection whose neighbours are asked for; it need not be of the selection.
            chosen: which inspections may be neighbours.
        """
        columns, own = inspections.c, self._position(id_)
        if own is None:
            return None, None
        found = select(columns.id).where(*_conditions(chosen)).limit(1)
        before = found.where(precedes(columns.taken_at, *own))
        after = found.where(follows(columns.taken_at, *own))
        if chosen.since is not None:
            before = before.where(columns.taken_at >= chosen.since)
        if chosen.until is not None:
            after = after.where(columns.taken_at < chosen.until)
        older = self._read(before.order_by(columns.taken_at.desc(), columns.number.desc()))
        newer = self._read(after.order_by(columns.taken_at, columns.number))
        return (older[0].id if older else None), (newer[0].id if newer else None)

    def inspection(self, id_: str) -> RecordedInspection | None:
        """Return the inspection of this id; None if there is none."""
        rows = self._read(select(inspections).where(inspections.c.id == id_))
        return self._recorded(rows)[0] if rows else None

    def newest(self, station: str) -> RecordedInspection | None:
        """Return the inspection of a station that was taken last; None if there is none."""
        page = self.page(Selection(station, which="all"), 1)
        return page.inspections[0] if page.inspections else None

    def counts(self, station: str, since: datetime) -> tuple[int, int]:
        """Return how many parts of a station were inspected since a moment, and how many of them were NotOK."""
        columns = inspections.c
        query = select(func.count()).where(columns.station == station, columns.taken_at >= since)
        not_ok = query.where(worth_a_look, columns.evaluation == literal_column("'NotOK'"))
        return int(self._read(query)[0][0]), int(self._read(not_ok)[0][0])

    def standing_alarm(self, station: str, acknowledgement: Callable[[str], str]) -> StandingAlarm | None:
        """Return the alarm of a station that is not cleared; None without one. Simulated ones do not count.

        Args:
            station: its name.
            acknowledgement: returns the id of the message that acknowledges the alarm of an inspection, by its id.
        """
        columns = inspections.c
        of_station = select(inspections).where(columns.station == station, line_alarm(columns))
        newest_first = of_station.order_by(columns.number.desc()).limit(1)
        last = self._read(newest_first)
        if not last or last[0].alarm == AlarmEvent.CLEARED.value:
            return None
        raised = self._recorded(self._read(newest_first.where(columns.alarm == AlarmEvent.RAISED.value)) or last)[0]
        said = self._read(
            select(outbox.c.payload, outbox.c.created_at).where(outbox.c.id == acknowledgement(raised.id))
        )
        return StandingAlarm(raised, said[0].payload["by"] if said else None, said[0].created_at if said else None)

    def _position(self, id_: str) -> Position | None:
        columns = inspections.c
        rows = self._read(select(columns.taken_at, columns.number).where(columns.id == id_))
        return Position(rows[0].taken_at, rows[0].number) if rows else None

    def _recorded(self, rows: Sequence[Row[Any]]) -> list[RecordedInspection]:
        found: dict[int, list[Row[Any]]] = {}
        of_these = select(regions).where(regions.c.inspection.in_([row.number for row in rows]))
        for region in self._read(of_these.order_by(regions.c.inspection, regions.c.position)):
            found.setdefault(region.inspection, []).append(region)
        return [recorded(row, found.get(row.number, ())) for row in rows]

    def _read(self, query: Any) -> Sequence[Row[Any]]:
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            return connection.execute(query).all()


@contextmanager
def open_review(url: str) -> Iterator[JournalReview]:
    """Open the journal of `url` (see database.py). Raises JournalError if it is missing or of another schema version."""
    database = attach_database(url)
    try:
        yield JournalReview(database)
    finally:
        database.readers.dispose()
        database.writer.dispose()


def _conditions(chosen: Selection) -> list[ColumnElement[bool]]:
    """Return the conditions of a selection but those of its time."""
    of_station = [] if chosen.station is None else [inspections.c.station == chosen.station]
    return [*of_station, worth_a_look] if chosen.which == "look" else of_station
