"""What people say of inspections: said and read beside a running agent, from any process. Nothing said is ever changed.

A label that is said takes the place of the one before, which stays in the table and which the new one names: the table is
the record of who said what, and when. Each call writes in one short transaction under the write lock that the agent takes,
too (see reader.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.engine import Connection

from edge_agent.core import Message
from edge_agent.errors import LabelRefused
from edge_agent.journal.database import Database, journal_errors
from edge_agent.journal.opening import attach_database
from edge_agent.journal.recording.records import add_messages
from edge_agent.journal.rows import Label, LabelValue, label_of
from edge_agent.journal.tables import inspections, label_holds, label_is_last, labels, learnt

Box = tuple[int, int, int, int]
Telling = Callable[[Label, str | None], Message]

PAGE = 1000  # rows per query
AT_ONCE = 500  # ids in one query: databases limit how many values a statement has
LONGEST_NAME, LONGEST_NOTE = 64, 2000  # characters of a kind and of who says it; of a note


@dataclass(frozen=True, slots=True)
class Statement:
    """A label that is to be said.

    inspection: its id. kind: of the defect, in the user's words. box: (x, y, width, height) around the defect, in pixels of
    the inspected picture, within it. Both only with LabelValue.DEFECT.
    """

    inspection: str
    value: LabelValue
    kind: str | None = None
    box: Box | None = None
    note: str | None = None


class Labels:
    """The labels of one journal. Every method may be called from any thread and raises JournalError if the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, statement: Statement, who: str, at: datetime | None = None, telling: Telling | None = None) -> Label:
        """Add one label; see say_all."""
        return self.say_all([statement], who, at, telling)[0]

    def say_all(
        self, statements: Sequence[Statement], who: str, at: datetime | None = None, telling: Telling | None = None
    ) -> list[Label]:
        """Add labels, all of them or none.

        Args:
            statements: in the order of saying.
            who: says them: a name, not empty.
            at: when they are said, aware; default now.
            telling: makes the message that the agent is to send of each, from the label and the part's id; default none.

        Returns:
            The labels as recorded. Each names the one that it supersedes.

        Raises:
            LabelRefused: an inspection is unknown, or a statement cannot be; nothing was added.
        """
        moment = at or datetime.now(timezone.utc)
        who = _short("who says it", who, LONGEST_NAME) or ""
        if not who:
            raise LabelRefused("a label names who says it: give a name")
        database = self._database
        with journal_errors(database.name), database.exclusive(), database.writer.begin() as connection:
            known = _known(connection, {one.inspection for one in statements})
            said = [_say(connection, one, known, who, moment) for one in statements]
            for label in said if telling else ():
                assert telling is not None
                of = known[label.inspection]
                add_messages(connection, of.number, [telling(label, of.part_id)], moment)
            return said

    def latest(self, inspections: Iterable[str], undone_too: bool = False) -> dict[str, Label]:
        """Return the label that holds, by the id of its inspection; none where nothing was said.

        undone_too: whether one that undoes what was said before is returned, too; default no.
        """
        ids = list(dict.fromkeys(inspections))
        found: list[Row[Any]] = []
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            for some in range(0, len(ids), AT_ONCE):
                query = select(labels).where(labels.c.inspection.in_(ids[some : some + AT_ONCE]))
                found += connection.execute(query.where(label_is_last() if undone_too else label_holds())).all()
        return {row.inspection: label_of(row) for row in found}

    def history(self, inspection: str) -> list[Label]:
        """Return all that was said of an inspection, undone or not, in the order of saying."""
        query = select(labels).where(labels.c.inspection == inspection).order_by(labels.c.number)
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            return [label_of(row) for row in connection.execute(query)]

    def labelled(self, station: str | None = None, since: datetime | None = None) -> Iterator[Label]:
        """Yield the labels that hold, in the order of saying.

        Args:
            station: only of its inspections; None (default) for all stations.
            since: only those said at this moment or later, aware; None (default) for all.
        """
        query = select(labels).where(label_holds()).order_by(labels.c.number).limit(PAGE)
        if station is not None:
            query = query.where(labels.c.station == station)
        if since is not None:
            query = query.where(labels.c.said_at >= since)
        number = 0
        while True:
            with journal_errors(self._database.name), self._database.readers.begin() as connection:
                rows = connection.execute(query.where(labels.c.number > number)).all()
            if not rows:
                return
            yield from map(label_of, rows)
            number = rows[-1].number

    def kinds(self, station: str) -> list[str]:
        """Return the kinds of defects that were ever named at a station, sorted: one step in the index for each."""
        query = select(func.min(labels.c.kind)).where(labels.c.station == station, labels.c.kind.is_not(None))
        found: list[str] = []
        with journal_errors(self._database.name), self._database.readers.begin() as connection:
            kind = connection.scalar(query)
            while kind is not None:
                found.append(kind)
                kind = connection.scalar(query.where(labels.c.kind > kind))
        return sorted(found)

    def note_learnt(self, numbers: Iterable[int], checkpoint_sha256: str) -> None:
        """Record that a checkpoint was made with these labels, so that retention need not keep their pictures for it.

        Args:
            numbers: of the labels; those that are recorded already for this checkpoint are left as they are.
            checkpoint_sha256: digest (hex) of the checkpoint.
        """
        database, now = self._database, datetime.now(timezone.utc)
        with journal_errors(database.name), database.exclusive(), database.writer.begin() as connection:
            known = set(
                connection.scalars(select(learnt.c.label).where(learnt.c.checkpoint_sha256 == checkpoint_sha256))
            )
            rows = [
                {"label": number, "checkpoint_sha256": checkpoint_sha256, "learnt_at": now}
                for number in dict.fromkeys(numbers)
                if number not in known
            ]
            if rows:
                connection.execute(insert(learnt), rows)


@contextmanager
def open_labels(url: str) -> Iterator[Labels]:
    """Open the labels of the journal at `url`. Raises JournalError if it is missing or of another schema version."""
    database = attach_database(url)
    try:
        yield Labels(database)
    finally:
        database.readers.dispose()
        database.writer.dispose()


def _known(connection: Connection, ids: set[str]) -> dict[str, Row[Any]]:
    """Return what a label needs of the inspections of these ids; lock their rows, so that of two people one sees the other's word."""
    columns = inspections.c
    needed = columns.id, columns.station, columns.width, columns.height, columns.taken_at, columns.evaluation
    query = select(*needed, columns.number, columns.part_id).order_by(columns.number)
    ordered = sorted(ids)
    found: dict[str, Row[Any]] = {}
    for some in range(0, len(ordered), AT_ONCE):
        here = query.where(columns.id.in_(ordered[some : some + AT_ONCE])).with_for_update()
        found.update({row.id: row for row in connection.execute(here)})
    return found


def _say(
    connection: Connection,
    one: Statement,
    known: dict[str, Row[Any]],
    who: str,
    moment: datetime,
) -> Label:
    of = known.get(one.inspection)
    if of is None:
        raise LabelRefused(
            f"inspection {one.inspection}: the journal has none of this id: it may be another agent's, or older than "
            "database.keep_days"
        )
    kind, note = _short("kind", one.kind, LONGEST_NAME), _short("note", one.note, LONGEST_NOTE)
    if one.value is not LabelValue.DEFECT and (kind or one.box):
        raise LabelRefused(
            f"inspection {one.inspection}: {'kind' if kind else 'box'} with the label {one.value.value}: only a defect has one"
        )
    if one.box is not None:
        _require_within(one.inspection, one.box, int(of.width), int(of.height))
    before = connection.scalar(
        select(labels.c.number).where(labels.c.inspection == one.inspection).order_by(labels.c.number.desc()).limit(1)
    )
    x, y, width, height = one.box or (None, None, None, None)
    row = {
        "inspection": one.inspection,
        "station": of.station,
        "label": one.value.value,
        "kind": kind,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "who": who,
        "said_at": moment,
        "note": note,
        "supersedes": before,
        "inspection_number": of.number,
        "taken_at": of.taken_at,
        "evaluation": of.evaluation,
    }
    inserted = connection.execute(insert(labels).values(row))
    assert inserted.inserted_primary_key is not None
    number = int(inserted.inserted_primary_key[0])
    return label_of(connection.execute(select(labels).where(labels.c.number == number)).one())


def _short(what: str, text: str | None, longest: int) -> str | None:
    """Return `text` without space around it; None where nothing is left. Raises LabelRefused when it is too long."""
    text = (text or "").strip()
    if len(text) > longest:
        raise LabelRefused(f"{what}: {len(text)} characters; at most {longest}: {text[:longest]}...")
    return text or None


def _require_within(inspection: str, box: Box, width: int, height: int) -> None:
    x, y, w, h = box
    if not (min(x, y) >= 0 and min(w, h) >= 1 and x + w <= width and y + h <= height):
        raise LabelRefused(
            f"inspection {inspection}: the box x {x}, y {y}, width {w}, height {h} does not lie in its picture of "
            f"{width} x {height} pixels"
        )
