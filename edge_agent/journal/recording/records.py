"""Commits a group of records: verdicts with their regions and ledger entries, and what follows earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Text, bindparam, cast, insert, select, update
from sqlalchemy.engine import Connection

from edge_agent.core import EvidenceState, Message, Record
from edge_agent.journal.recording import ledger
from edge_agent.journal.rows import delivery_rows, evidence_columns, inspection_row, outbox_rows, region_rows
from edge_agent.journal.tables import deliveries, inspections, outbox, regions

# Made once: to make one takes several times as long as to execute it.
_KNOWN = select(inspections.c.id, inspections.c.number, inspections.c.evidence).where(
    inspections.c.id.in_(bindparam("ids", expanding=True))
)
_INSPECTION, _REGIONS, _MESSAGES = insert(inspections), insert(regions), insert(outbox)
_COMPLETE = (
    update(inspections)
    .where(inspections.c.number == bindparam("which"))
    .values({name: bindparam(name) for name in evidence_columns(None)})
)
# A message gets its seq when it is inserted, so its delivery rows refer to it by id.
_DELIVER = insert(deliveries).from_select(
    ["seq", "receiver"],
    select(outbox.c.seq, cast(bindparam("receiver"), Text)).where(outbox.c.id == bindparam("message")),
)


def write(connection: Connection, records: Sequence[Record], now: datetime, agent: str) -> list[bool]:
    """Write records, and return of each whether it was new: nothing is written of one that was not.

    Args:
        connection: in a transaction that writes.
        records: in the order of their messages.
        now: when they are recorded, aware.
        agent: name of the agent that records.
    """
    known = {row.id: row for row in connection.execute(_KNOWN, {"ids": [one.inspection.id for one in records]})}
    begun: list[Record] = []
    are_new: list[bool] = []
    ids: set[str] = set()
    for record in records:
        inspection, row = record.inspection, known.get(record.inspection.id)
        file = inspection.frame.file
        if record.completes:
            is_new = row is not None and row.evidence == EvidenceState.PENDING.value and inspection.id not in ids
        elif row is not None or inspection.id in ids:
            is_new = False
        else:
            is_new = file is None or ledger.enter(connection, inspection.frame.station, file)
            begun += [record] if is_new else []
        ids.add(inspection.id)
        are_new.append(is_new)
    numbers = {row.id: row.number for row in known.values()}
    if begun:
        connection.execute(_INSPECTION, [inspection_row(one.inspection, one.evidence, now, agent) for one in begun])
        found = connection.execute(_KNOWN, {"ids": [one.inspection.id for one in begun]})
        numbers |= {row.id: row.number for row in found}
    written = [one for one, is_new in zip(records, are_new, strict=True) if is_new]
    seen = [row for one in begun for row in region_rows(numbers[one.inspection.id], one.inspection.verdict.regions)]
    followed = [
        {"which": numbers[one.inspection.id], **evidence_columns(one.evidence)} for one in written if one.completes
    ]
    told = [row for one in written for row in outbox_rows(numbers[one.inspection.id], one.messages, now)]
    to_deliver = [row for one in written for row in delivery_rows(one.messages)]
    for statement, rows in ((_REGIONS, seen), (_COMPLETE, followed), (_MESSAGES, told), (_DELIVER, to_deliver)):
        if rows:
            connection.execute(statement, rows)
    return are_new


def add_messages(connection: Connection, number: int | None, messages: Sequence[Message], now: datetime) -> None:
    """Add messages to the outbox, each for its receivers; ids that are there already are an error.

    Args:
        connection: in a transaction that writes.
        number: of the inspection that they are about; None for none.
        messages: in the order of sending.
        now: when they are recorded, aware.
    """
    for statement, rows in ((_MESSAGES, outbox_rows(number, messages, now)), (_DELIVER, delivery_rows(messages))):
        if rows:
            connection.execute(statement, rows)
