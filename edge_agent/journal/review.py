"""Reads the journal as people look through it, newest first and a page at a time, beside a running agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Column, ColumnElement, Row, Select, func, literal_column, or_, select, union_all

from edge_agent.core import AlarmEvent
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.opening import attach_database
from edge_agent.journal.remembered.alarms import ended_after
from edge_agent.journal.rows import RecordedInspection, recorded
from edge_agent.journal.tables import (
    follows,
    inspections,
    label_holds,
    label_is_last,
    label_says_wrong,
    labels,
    line_alarm,
    outbox,
    precedes,
    regions,
    worth_a_look,
)

# look: not OK, and OK just below the threshold. false_alarm: not OK, and said to be good. missed: OK, and said to be a defect.
Which = Literal["look", "not_ok", "false_alarm", "missed", "all"]
MOST_LABELS = 2000  # the newest of a station, whose scores are shown


class Position(NamedTuple):
    """A place in the order of time: that of an inspection, by taken_at and number."""

    taken_at: datetime
    number: int


class Mark(NamedTuple):
    """How far the journal has been looked at: the highest number of its inspections, and the highest seq of its messages."""

    number: int
    seq: int


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
class StationNumbers:
    """What a station did in a period.

    parts, not_ok, undecided: inspections, those that are NotOK, and those that are neither that nor OK. false_alarms, confirmed:
    NotOK ones that were said to be good, or defects. missed: OK ones that were said to be defects. kinds: of defects that were
    said, the most frequent first.
    """

    station: str
    parts: int
    not_ok: int
    undecided: int
    false_alarms: int
    confirmed: int
    missed: int
    kinds: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a station by the model and checkpoint of its newest part, as those of others cannot be compared.

    threshold: of that part. last: of the last parts, the newest first. good, defects: of the parts that were
    last said to be so.
    """

    threshold: float
    last: Sequence[float]
    good: Sequence[float]
    defects: Sequence[float]


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
        if chosen.which in ("false_alarm", "missed"):
            return self._page(self._read(_wrong(chosen, select(inspections), older=older).limit(limit + 1)), limit)
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
        return self._page(self._read(query), limit)

    def neighbours(self, id_: str, chosen: Selection) -> tuple[str | None, str | None]:
        """Return the ids of the next older and the next newer inspection; None where there is none.

        Args:
            id_: of the inspection whose neighbours are asked for; it need not be of the selection.
            chosen: which inspections may be neighbours.
        """
        columns, own = inspections.c, self._position(id_)
        if own is None:
            return None, None
        if chosen.which in ("false_alarm", "missed"):
            older = self._read(_wrong(chosen, select(columns.id), older=own).limit(1))
            newer = self._read(_wrong(chosen, select(columns.id), newer=own).limit(1))
            return (older[0].id if older else None), (newer[0].id if newer else None)
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

    def numbers(self, chosen: Selection) -> list[StationNumbers]:
        """Count what the stations of a selection did in its time; reads every inspection of that time."""
        columns = inspections.c
        conditions = [*_of_station(chosen), *_of_time(chosen)]
        of_evaluations = select(columns.station, columns.evaluation, func.count().label("count")).where(*conditions)
        counted = self._read(of_evaluations.group_by(columns.station, columns.evaluation))
        of_labels = select(
            columns.station, columns.evaluation, labels.c.label, labels.c.kind, func.count().label("count")
        )
        of_labels = of_labels.join(inspections, columns.id == labels.c.inspection).where(label_holds(), *conditions)
        said = self._read(of_labels.group_by(columns.station, columns.evaluation, labels.c.label, labels.c.kind))
        return [_numbers(name, counted, said) for name in sorted({row.station for row in counted})]

    def scores(self, station: str, limit: int) -> Scores:
        """Return the scores of a station's last inspections, and of those that were labelled.

        Args:
            station: its name; it has inspected something.
            limit: most of the last inspections.
        """
        columns = inspections.c
        newest_first = select(columns.score, columns.threshold, columns.model_sha256, columns.checkpoint_sha256)
        newest_first = newest_first.where(columns.station == station)
        rows = self._read(newest_first.order_by(columns.taken_at.desc(), columns.number.desc()).limit(limit))
        made_by = rows[0].model_sha256, rows[0].checkpoint_sha256
        last = [
            row.score for row in rows if row.score is not None and (row.model_sha256, row.checkpoint_sha256) == made_by
        ]
        said = select(labels.c.label, columns.score).join(inspections, columns.number == labels.c.inspection_number)
        said = said.where(columns.id == labels.c.inspection)
        said = said.where(labels.c.station == station, label_holds(), columns.score.is_not(None))
        said = said.where(columns.model_sha256 == made_by[0], columns.checkpoint_sha256 == made_by[1])
        known = self._read(said.order_by(labels.c.number.desc()).limit(MOST_LABELS))
        good, defects = ([row.score for row in known if row.label == label] for label in ("good", "defect"))
        return Scores(rows[0].threshold, last, good, defects)

    def newest(self, station: str) -> RecordedInspection | None:
        """Return the inspection of a station that was taken last; None if there is none."""
        page = self.page(Selection(station, which="all"), 1)
        return page.inspections[0] if page.inspections else None

    def mark(self) -> Mark:
        """Return how far the journal goes now."""
        (row,) = self._read(select(_last(inspections.c.number).label("number"), _last(outbox.c.seq).label("seq")))
        return Mark(row.number, row.seq)

    def changed_stations(self, since: Mark) -> set[str]:
        """Return the stations of which something was recorded since a mark: an inspection, or a message."""
        inspected = select(inspections.c.station).where(inspections.c.number > since.number)
        told = select(outbox.c.station).where(outbox.c.seq > since.seq)
        return {row.station for row in self._read(union_all(inspected, told))}

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
        if not last or last[0].alarm == AlarmEvent.CLEARED.value or last[0].number <= self._ended_after(station):
            return None
        raised = self._recorded(self._read(newest_first.where(columns.alarm == AlarmEvent.RAISED.value)) or last)[0]
        said = self._read(
            select(outbox.c.payload, outbox.c.created_at).where(outbox.c.id == acknowledgement(raised.id))
        )
        return StandingAlarm(raised, said[0].payload["by"] if said else None, said[0].created_at if said else None)

    def _ended_after(self, station: str) -> int:
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            return ended_after(connection, station)

    def _page(self, rows: Sequence[Row[Any]], limit: int) -> ReviewPage:
        more = Position(rows[limit - 1].taken_at, rows[limit - 1].number) if len(rows) > limit else None
        return ReviewPage(self._recorded(rows[:limit]), more)

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


def _wrong(
    chosen: Selection, query: Select[Any], *, older: Position | None = None, newer: Position | None = None
) -> Select[Any]:
    """Have a query of inspections find false alarms or misses alone, from their labels, in the order of time.

    Args:
        chosen: which of both, and of which station and time.
        query: selects columns of inspections.
        older: begin behind this inspection, towards older ones; None: at the newest.
        newer: begin behind this one, towards newer ones; then the oldest come first.
    """
    of = labels.c
    value: ColumnElement[str] = literal_column("'good'" if chosen.which == "false_alarm" else "'defect'")
    query = query.select_from(labels).join(inspections, inspections.c.number == of.inspection_number)
    # A number is given again where the newest inspections were deleted, an id never.
    query = query.where(label_says_wrong, of.label == value, label_is_last(), inspections.c.id == of.inspection)
    if chosen.station is not None:
        query = query.where(of.station == chosen.station)
    if chosen.since is not None:
        query = query.where(of.taken_at >= chosen.since)
    if chosen.until is not None:
        query = query.where(of.taken_at < chosen.until)
    if newer is not None:
        at, number = newer
        query = query.where(of.taken_at >= at, or_(of.taken_at > at, of.inspection_number > number))
        return query.order_by(of.taken_at, of.inspection_number)
    if older is not None:
        at, number = older
        query = query.where(of.taken_at <= at, or_(of.taken_at < at, of.inspection_number < number))
    return query.order_by(of.taken_at.desc(), of.inspection_number.desc())


def _last(column: Column[Any]) -> ColumnElement[int]:
    return func.coalesce(select(func.max(column)).scalar_subquery(), 0)


def _conditions(chosen: Selection) -> list[ColumnElement[bool]]:
    """Return the conditions of a selection but those of its time."""
    if chosen.which == "all":
        return _of_station(chosen)
    not_ok = [inspections.c.evaluation == literal_column("'NotOK'")] if chosen.which == "not_ok" else []
    return [*_of_station(chosen), worth_a_look, *not_ok]


def _of_station(chosen: Selection) -> list[ColumnElement[bool]]:
    return [] if chosen.station is None else [inspections.c.station == chosen.station]


def _of_time(chosen: Selection) -> list[ColumnElement[bool]]:
    since = [] if chosen.since is None else [inspections.c.taken_at >= chosen.since]
    return since if chosen.until is None else [*since, inspections.c.taken_at < chosen.until]


def _numbers(station: str, counted: Sequence[Row[Any]], said: Sequence[Row[Any]]) -> StationNumbers:
    """Add up the counts of one station: by evaluation, and by evaluation, label and kind."""
    by_evaluation = {row.evaluation: row[-1] for row in counted if row.station == station}
    of_labels = [row for row in said if row.station == station]
    kinds: Counter[str] = Counter()
    for row in of_labels:
        if row.kind is not None:
            kinds[row.kind] += row[-1]

    def labelled(evaluation: str, label: str) -> int:
        return sum(row[-1] for row in of_labels if (row.evaluation, row.label) == (evaluation, label))

    parts, not_ok = sum(by_evaluation.values()), by_evaluation.get("NotOK", 0)
    return StationNumbers(
        station,
        parts,
        not_ok,
        parts - not_ok - by_evaluation.get("OK", 0),
        labelled("NotOK", "good"),
        labelled("NotOK", "defect"),
        labelled("OK", "defect"),
        kinds.most_common(),
    )
