"""Which inspections may be deleted: looked for among the oldest, a few thousand rows at a look; deletes none itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.engine import Connection

from edge_agent.journal.tables import deliveries, follows, inspections, line_alarm, outbox

# Rows that a look goes past at most: some ten milliseconds' worth, as the line waits. Without a limit, a million rows
# whose messages wait for a broker that is away were read for every inspection of a journal that is full.
LOOK = 5000
LAST = 2**63 - 1  # no inspection has a higher number


class PurgeStep(NamedTuple):
    """One step: how many inspections were deleted, and whether a next step may find more."""

    rows: int
    more: bool


@dataclass(slots=True)
class PurgeSearch:
    """Goes through the inspections by age, at every look from where the last one ended, and at the end begins anew.

    within: which of them an index leads to; which: those of them that are meant. None: all. What may not go is passed
    over: inspections with messages that wait, and the last that each station's alarm rests on.
    """

    within: ColumnElement[bool] | None = None
    which: ColumnElement[bool] | None = None
    _place: tuple[datetime, int] | None = None  # taken_at and number of the last one that was looked at
    _found: bool = False  # in this round

    def look(self, connection: Connection, limit: int, before: datetime | None = None) -> tuple[Sequence[int], bool]:
        """Numbers of up to `limit` inspections that may go, taken before this moment; and whether there may be more."""
        columns = inspections.c
        in_order = select(columns.number, columns.taken_at).order_by(columns.taken_at, columns.number)
        if self.within is not None:
            in_order = in_order.where(self.within)
        if self._place is not None:
            in_order = in_order.where(follows(*self._place))
        until = in_order if before is None else in_order.where(columns.taken_at < before)
        further = connection.execute(until.offset(LOOK - 1).limit(1)).first()
        # One upper bound: of two a database may take the later one, and read on to there.
        found = until if further is None else in_order.where(columns.taken_at <= further.taken_at)
        if self.which is not None:
            found = found.where(self.which)
        rows = connection.execute(found.where(*_may_go()).limit(limit)).all()
        self._found = self._found or bool(rows)
        if len(rows) == limit:
            self._place, more = (rows[-1].taken_at, rows[-1].number), True
        elif further is not None:
            self._place, more = (further.taken_at, LAST), True
        else:
            more, self._place, self._found = self._found, None, False
        return [row.number for row in rows], more


def _may_go() -> tuple[ColumnElement[bool], ...]:
    columns, later = inspections.c, inspections.alias("later").c
    waits = exists().where(
        outbox.c.inspection == columns.number, deliveries.c.seq == outbox.c.seq, deliveries.c.sent_at.is_(None)
    )
    superseded = exists().where(later.station == columns.station, later.number > columns.number, line_alarm(later))
    return ~waits, ~line_alarm(columns) | superseded
