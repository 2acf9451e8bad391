"""The journal's tables and column types; no queries (journal.py), no schema changes (migrations/)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    Label,
    MetaData,
    Table,
    Text,
    and_,
    exists,
    literal_column,
    or_,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.types import TypeDecorator, TypeEngine


class Utc(TypeDecorator[datetime]):
    """A moment: timestamptz in PostgreSQL; in SQLite text as 2026-11-20T08:15:30.123456+00:00, which sorts by time."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        stored_as: TypeEngine[Any] = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(stored_as)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> object:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone, so it is no moment: give an aware datetime")
        value = value.astimezone(timezone.utc)
        return value if dialect.name == "postgresql" else value.isoformat(timespec="microseconds")

    def process_result_value(self, value: str | datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(timezone.utc)


def as_text(value: str) -> str:
    """Return what SafeText stores of a text."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def as_nanoseconds(value: int) -> int:
    """Return what Nanoseconds stores of a time."""
    return min(max(value, -(2**63)), 2**63 - 1)


class SafeText(TypeDecorator[str]):
    """Text from outside. Bytes that are not UTF-8 (in file names) and NUL, which no database stores, become escapes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else as_text(value)


class Inode(TypeDecorator[int]):
    """An inode number: unsigned 64 bits (file servers do use the highest bit), stored in a signed column."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return value - 2**64 if value is not None and value >= 2**63 else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        return value + 2**64 if value is not None and value < 0 else value


class Nanoseconds(TypeDecorator[int]):
    """A file's time in nanoseconds since 1970. File systems allow years beyond 2262, which a signed column cannot hold."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else as_nanoseconds(value)


# SQLite numbers rows by itself only where the column's type is exactly INTEGER.
_number = BigInteger().with_variant(Integer(), "sqlite")

# Migrations can only change constraints that have names.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

inspections = Table(
    "inspections",
    metadata,
    Column("number", _number, primary_key=True),  # in the order of recording, whatever the clock does
    Column("id", Text, nullable=False, unique=True),
    Column("station", SafeText, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("taken_at", Utc, nullable=False),
    Column("inspected_at", Utc, nullable=False),
    Column("part_id", SafeText),
    Column("trigger_id", SafeText),
    Column("origin", SafeText),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("evaluation", Text, nullable=False),
    Column("score", Float(53)),
    Column("threshold", Float(53), nullable=False),
    Column("map_threshold", Float(53)),  # NULL: recorded before schema 0005
    Column("reason", SafeText),
    Column("alarm", Text),
    Column("model", Text, nullable=False),
    Column("model_sha256", Text, nullable=False),
    Column("checkpoint_sha256", Text, nullable=False),
    Column("calibration_id", Text),
    Column("config_sha256", Text, nullable=False),
    Column("timings", JSON, nullable=False),
    Column("image_uri", SafeText),  # NULL: none was kept, or, where there is a digest, retention has deleted it
    Column("image_sha256", Text),
    Column("image_size", BigInteger),
    Column("overlay_uri", SafeText),
    Column("overlay_sha256", Text),
    Column("overlay_size", BigInteger),
    Column("simulated", Boolean, nullable=False),
    Column("agent", SafeText),  # its name; NULL: recorded before schema 0010
    Column("evidence", Text),  # an EvidenceState; NULL: the pictures are as asked for
)


def line_alarm(columns: ReadOnlyColumnCollection[str, Column[Any]]) -> ColumnElement[bool]:
    """Return the condition that an inspection of these columns changed or repeated its station's alarm, not simulated."""
    return columns.alarm.is_not(None) & columns.simulated.is_(False)


def follows(time: Column[Any], moment: datetime, number: int) -> ColumnElement[bool]:
    """Return the condition that an inspection comes after another in the order of a time and number.

    In this form, and without another lower bound of the time beside it, the database seeks to that place in the index.
    Written as "later, or at the same time with a higher number" it scans the index from its start for every page.

    Args:
        time: the column of the time, taken_at or inspected_at.
        moment: that time of the other inspection, aware.
        number: of the other inspection.
    """
    return and_(time >= moment, or_(time > moment, _columns.number > number))


def precedes(time: Column[Any], moment: datetime, number: int) -> ColumnElement[bool]:
    """Return the condition that an inspection comes before another in the order of a time and number; see follows().

    Args:
        time: the column of the time, taken_at or inspected_at.
        moment: that time of the other inspection, aware.
        number: of the other inspection.
    """
    return and_(time <= moment, or_(time < moment, _columns.number < number))


_columns = inspections.c
_line_alarm = line_alarm(_columns)
# A literal, not a bound parameter: a database uses a partial index only for a condition that equals the index's.
inspection_is_ok = _columns.evaluation == literal_column("'OK'")
# What people look through first: all that is not OK, and what is OK with a score not far below the threshold.
worth_a_look = (_columns.evaluation != literal_column("'OK'")) | (
    _columns.score >= _columns.threshold * literal_column("0.9")
)
Index("ix_inspections_station_taken_at", _columns.station, _columns.taken_at)
Index("ix_inspections_taken_at", _columns.taken_at)
# Retention goes by inspected_at: a camera's or a file's own time may be wrong by decades.
Index("ix_inspections_inspected_at", _columns.inspected_at)
Index("ix_inspections_ok", _columns.inspected_at, sqlite_where=inspection_is_ok, postgresql_where=inspection_is_ok)
# The columns of its condition are in the index too, or SQLite would look up each row to check it.
Index(
    "ix_inspections_alarm",
    _columns.station,
    _columns.number,
    _columns.alarm,
    _columns.simulated,
    sqlite_where=_line_alarm,
    postgresql_where=_line_alarm,
)
is_pending = _columns.evidence == literal_column("'pending'")
# Almost no row is in it.
Index("ix_inspections_pending", _columns.number, sqlite_where=is_pending, postgresql_where=is_pending)
# The evaluation is in them too, so that counting NotOK looks up no row.
for _name, _key in (("look", ()), ("station_look", (_columns.station,))):
    Index(
        f"ix_inspections_{_name}",
        *_key,
        _columns.taken_at,
        _columns.number,
        _columns.evaluation,
        sqlite_where=worth_a_look,
        postgresql_where=worth_a_look,
    )
for _uri in (_columns.image_uri, _columns.overlay_uri):
    _kept = _uri.is_not(None)
    Index(f"ix_inspections_{_uri.name}", _uri, sqlite_where=_kept, postgresql_where=_kept)

regions = Table(
    "regions",
    metadata,
    Column("inspection", _number, ForeignKey("inspections.number"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("x", Integer, nullable=False),
    Column("y", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("peak", Float(53), nullable=False),
    Column("area_px", BigInteger, nullable=False),
)

# No foreign key to inspections: the ledger has to outlive the rows that retention deletes.
ledger = Table(
    "ledger",
    metadata,
    Column("station", SafeText, primary_key=True),
    Column("path", SafeText, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("inode", Inode, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", Nanoseconds, nullable=False),
)
Index("ix_ledger_stat", ledger.c.station, ledger.c.inode, ledger.c.size, ledger.c.mtime_ns)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", _number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("station", SafeText, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("inspection", _number, ForeignKey("inspections.number")),  # NULL: of an alarm that no picture made
    Column("created_at", Utc, nullable=False),
    sqlite_autoincrement=True,  # a seq is never used twice
)
Index("ix_outbox_inspection", outbox.c.inspection)

# One row per message and receiver.
deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", _number, ForeignKey("outbox.seq"), primary_key=True, autoincrement=False),
    Column("receiver", Text, primary_key=True),
    Column("sent_at", Utc),  # or dropped; NULL: it waits
    Column("dropped", SafeText),  # the reason; NULL: it was not dropped
)
# The columns of the condition are in the index too, or SQLite would look up each row to check it.
_waits = deliveries.c.sent_at.is_(None)
Index(
    "ix_deliveries_waiting",
    deliveries.c.receiver,
    deliveries.c.seq,
    deliveries.c.sent_at,
    sqlite_where=_waits,
    postgresql_where=_waits,
)
# Almost no row is in it. Without it a query for dropped messages scans every sent row, and blocks the agent's writes.
_dropped = deliveries.c.dropped.is_not(None)
Index("ix_deliveries_dropped", deliveries.c.seq, sqlite_where=_dropped, postgresql_where=_dropped)

# A message is of the last epoch that begins at its seq or before.
epochs = Table(
    "epochs",
    metadata,
    Column("first_seq", _number, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),  # UUID
    Column("place", Text, nullable=False),  # what tells this database from a copy of it
    Column("begun_at", Utc, nullable=False),
)


def epoch_of(seq: Column[Any]) -> Label[Any]:
    """Return the epoch of a message, by its seq, as the column `epoch`."""
    last = select(epochs.c.epoch).where(epochs.c.first_seq <= seq).order_by(epochs.c.first_seq.desc()).limit(1)
    return last.correlate(seq.table).scalar_subquery().label("epoch")


# Alarms that no single picture raised or cleared; those that one did are in inspections.alarm. Rows are only ever added.
alarm_changes = Table(
    "alarm_changes",
    metadata,
    Column("number", _number, primary_key=True),  # in the order of recording, whatever the clock does
    Column("id", Text, nullable=False, unique=True),  # of its message
    Column("station", SafeText, nullable=False),
    Column("kind", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("reason", SafeText, nullable=False),
    Column("after", _number, nullable=False),  # number of the last inspection before it
)
Index("ix_alarm_changes_station", alarm_changes.c.station, alarm_changes.c.kind, alarm_changes.c.number)

# Topics that a receiver keeps for later subscribers until the agent clears them.
retained = Table(
    "retained",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("topic", SafeText, primary_key=True),
)

# What people say of inspections. Rows are only ever added, and outlive their inspections: no foreign key to those.
labels = Table(
    "labels",
    metadata,
    Column("number", _number, primary_key=True),  # in the order of saying, whatever the clocks do
    Column("inspection", Text, nullable=False),  # its id
    Column("station", SafeText, nullable=False),
    Column("label", Text, nullable=False),  # good, defect, unsure; none: what was said before is undone
    Column("kind", SafeText),  # of the defect
    Column("x", Integer),  # of the box around the defect, in pixels of the inspected picture; NULL: no box
    Column("y", Integer),
    Column("width", Integer),
    Column("height", Integer),
    Column("who", SafeText, nullable=False),
    Column("said_at", Utc, nullable=False),
    Column("note", SafeText),
    Column("supersedes", _number),  # number of the label of this inspection that held before; NULL: none
    # As of its inspection, so that wrong verdicts are found in the order of time. NULL: it was deleted before schema 0011.
    Column("inspection_number", _number),
    Column("taken_at", Utc),
    Column("evaluation", Text),
)
Index("ix_labels_inspection", labels.c.inspection, labels.c.number)
Index("ix_labels_station", labels.c.station, labels.c.number)
_named = labels.c.kind.is_not(None)
Index("ix_labels_kind", labels.c.station, labels.c.kind, sqlite_where=_named, postgresql_where=_named)
# Literals, see inspection_is_ok.
label_says_wrong = (labels.c.label == literal_column("'good'")) & (labels.c.evaluation != literal_column("'OK'")) | (
    labels.c.label == literal_column("'defect'")
) & (labels.c.evaluation == literal_column("'OK'"))
for _name, _key in (("wrong", ()), ("station_wrong", (labels.c.station,))):
    Index(
        f"ix_labels_{_name}",
        *_key,
        labels.c.label,
        labels.c.taken_at,
        labels.c.inspection_number,
        sqlite_where=label_says_wrong,
        postgresql_where=label_says_wrong,
    )


def label_is_last() -> ColumnElement[bool]:
    """Return the condition that nothing was said of a label's inspection after it."""
    later = labels.alias("later").c
    return ~exists().where(later.inspection == labels.c.inspection, later.number > labels.c.number)


def label_holds() -> ColumnElement[bool]:
    """Return the condition that a label is the last one of its inspection, and undoes nothing."""
    return label_is_last() & (labels.c.label != "none")


def label_is_to_learn(since: datetime | None) -> ColumnElement[bool]:
    """Return the condition that a label holds, was said at `since` (None: ever) or later, and no checkpoint has learnt it."""
    to_learn = label_holds() & ~exists().where(learnt.c.label == labels.c.number)
    return to_learn if since is None else to_learn & (labels.c.said_at >= since)


# One row per label and checkpoint that was made with it; retention need not keep the picture any longer.
learnt = Table(
    "learnt",
    metadata,
    Column("label", _number, ForeignKey("labels.number"), primary_key=True, autoincrement=False),
    Column("checkpoint_sha256", Text, primary_key=True),
    Column("learnt_at", Utc, nullable=False),
)
