"""The agent's name, its epochs, alarms that no picture made, and topics that a broker retains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
    op.create_table(
        "epochs",
        sa.Column("first_seq", number, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("begun_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("first_seq", name="pk_epochs"),
    )
    op.create_table(
        "alarm_changes",
        sa.Column("number", number, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("after", number, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_alarm_changes"),
        sa.UniqueConstraint("id", name="uq_alarm_changes_id"),
    )
    op.create_index("ix_alarm_changes_station", "alarm_changes", ["station", "kind", "number"])
    op.create_table(
        "retained",
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("receiver", "topic", name="pk_retained"),
    )
    # In place: a copy of the table takes minutes where there are millions of rows.
    with op.batch_alter_table("inspections", recreate="never") as inspections:
        inspections.add_column(sa.Column("agent", sa.Text()))
    _allow_messages_without_inspection()


def _allow_messages_without_inspection() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("outbox", "inspection", nullable=True)
        return
    # SQLite can change this only in a copy, which would forget the highest seq that was ever given.
    highest = op.get_bind().scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"))
    with op.batch_alter_table("outbox", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as outbox:
        outbox.alter_column("inspection", existing_type=sa.Integer(), nullable=True)
    op.execute("DELETE FROM sqlite_sequence WHERE name IN ('outbox', '_alembic_tmp_outbox')")
    op.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', :seq)").bindparams(seq=highest or 0))
