"""Which alarms stand: by the verdicts of pictures, and by changes that no single picture made."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import exists, func, insert, select
from sqlalchemy.engine import Connection

from edge_agent.core import AlarmChange, AlarmEvent, AlarmKind
from edge_agent.journal.tables import alarm_changes, inspections, line_alarm


def insert_change(connection: Connection, change: AlarmChange) -> None:
    """Record a change of an alarm, in a transaction that writes."""
    after = connection.scalar(select(func.max(inspections.c.number))) or 0
    row = {
        "id": change.id,
        "station": change.station,
        "kind": change.kind.value,
        "event": change.event.value,
        "at": change.at,
        "reason": change.reason,
        "after": after,
    }
    connection.execute(insert(alarm_changes), row)


def standing_alarms(connection: Connection) -> dict[str, frozenset[AlarmKind]]:
    """Return for each station that ever had an alarm which kinds still stand; simulated ones do not count."""
    changes = alarm_changes.c
    newest = select(func.max(changes.number)).group_by(changes.station, changes.kind)
    last = connection.execute(select(alarm_changes).where(changes.number.in_(newest))).all()
    ended_after = {row.station: row.after for row in last if row.kind == AlarmKind.DEFECT.value}
    found: dict[str, set[AlarmKind]] = {row.station: set() for row in last}
    for row in last:
        if row.event != AlarmEvent.CLEARED.value:
            found[row.station].add(AlarmKind(row.kind))
    columns = inspections.c
    newest = select(func.max(columns.number)).where(line_alarm(columns)).group_by(columns.station)
    query = select(columns.station, columns.number, columns.alarm).where(columns.number.in_(newest))
    for station, number, alarm in connection.execute(query).all():
        kinds = found.setdefault(station, set())
        if alarm != AlarmEvent.CLEARED.value and number > ended_after.get(station, 0):
            kinds.add(AlarmKind.DEFECT)
    return {station: frozenset(kinds) for station, kinds in found.items()}


def ended_after(connection: Connection, station: str) -> int:
    """Return the number of the last inspection before the station's alarm for defects was ended without a picture; else 0."""
    changes = alarm_changes.c
    ended = (changes.station == station) & (changes.kind == AlarmKind.DEFECT.value)
    return connection.scalar(select(changes.after).where(ended).order_by(changes.number.desc()).limit(1)) or 0


def old_changes(connection: Connection, moment: datetime, limit: int) -> list[int]:
    """Return the numbers of changes before `moment`, but for the last of each station and kind.

    Args:
        connection: that reads.
        moment: aware.
        limit: most numbers to return.
    """
    later = alarm_changes.alias("later").c
    changes = alarm_changes.c
    is_followed = exists().where(
        later.station == changes.station, later.kind == changes.kind, later.number > changes.number
    )
    return list(connection.scalars(select(changes.number).where(changes.at < moment, is_followed).limit(limit)))
