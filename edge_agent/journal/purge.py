"""Searches the oldest inspections for those that may be deleted, a few thousand rows at a time; deletes none itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.engine import Connection

from edge_agent.journal.tables import (
    deliveries,
    follows,
    inspections,
    label_is_to_learn,
    labels,
    line_alarm,
    outbox,
)

# Most rows that one search step reads: some ten milliseconds, as the line waits. Without a limit, a full journal read a
# million rows whose messages wait for an unreachable broker, at every inspection.
LOOK = 5000
LAST = 2**63 - 1  # the highest number that an inspection can have


class PurgeStep(NamedTuple):
    """The result of one step: how many inspections were deleted, and whether another step may find more."""

    rows: int
    more: bool


@dataclass(slots=True)
class PurgeSearch:
    """Searches the inspections by the time of inspection; each step continues where the last one ended, and starts over at the end.

    It skips inspections that must stay: those with waiting messages, those with a label that is still to be learnt, and each
    station's last one that changed or repeated its alarm.

    Attributes:
        within: condition that an index covers; None (default) for all inspections.
        which: further condition on those rows, which no index needs to cover; None (default) for no condition.
        start: time and number that every pass begins after; None (default) to begin with the first.
    """

    within: ColumnElement[bool] | None = None
    which: ColumnElement[bool] | None = None
    start: tuple[datetime, int] | None = None
    _position: tuple[datetime, int] | None = None  # inspected_at and number of the last row that was read
    _found: bool = False  # whether this pass has found any

    def find(
        self, connection: Connection, limit: int, labelled_since: datetime | None, before: datetime | None = None
    ) -> tuple[Sequence[int], bool]:
        """Find the next inspections that may be deleted.

        Args:
            connection: an open transaction that may read.
            limit: most inspections to return, at least 1.
            labelled_since: skip those with a label that is still to be learnt and was said at this moment or later, aware;
                None for whenever it was said.
            before: only those inspected before this moment, aware; None (default) for any.

        Returns:
            Their numbers, and whether another call may find more.
        """
        columns = inspections.c
        in_order = select(columns.number, columns.inspected_at).order_by(columns.inspected_at, columns.number)
        if self.within is not None:
            in_order = in_order.where(self.within)
        if position := self._position or self.start:
            in_order = in_order.where(follows(columns.inspected_at, *position))
        until = in_order if before is None else in_order.where(columns.inspected_at < before)
        further = connection.execute(until.offset(LOOK - 1).limit(1)).first()
        # One upper bound: given two, a database may use the later one, and read on to there.
        found = until if further is None else in_order.where(columns.inspected_at <= further.inspected_at)
        if self.which is not None:
            found = found.where(self.which)
        rows = connection.execute(found.where(*_deletable(labelled_since)).limit(limit)).all()
        self._found = self._found or bool(rows)
        if len(rows) == limit:
            self._position, more = (rows[-1].inspected_at, rows[-1].number), True
        elif further is not None:
            self._position, more = (further.inspected_at, LAST), True
        else:
            more, self._position, self._found = self._found, None, False
        return [row.number for row in rows], more


def _deletable(labelled_since: datetime | None) -> tuple[ColumnElement[bool], ...]:
    columns, later = inspections.c, inspections.alias("later").c
    waits = exists().where(
        outbox.c.inspection == columns.number, deliveries.c.seq == outbox.c.seq, deliveries.c.sent_at.is_(None)
    )
    superseded = exists().where(later.station == columns.station, later.number > columns.number, line_alarm(later))
    to_learn = exists().where(labels.c.inspection == columns.id, label_is_to_learn(labelled_since))
    return ~waits, ~to_learn, ~line_alarm(columns) | superseded
