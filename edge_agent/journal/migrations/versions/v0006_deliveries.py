"""A delivery row for each receiver of a message, so that one receiver that is away holds up no other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
    op.create_table(
        "deliveries",
        sa.Column("seq", number, autoincrement=False, nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("sent_at", moment),
        sa.Column("dropped", sa.Text()),
        sa.PrimaryKeyConstraint("seq", "receiver", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["seq"], ["outbox.seq"], name="fk_deliveries_seq"),
    )
    op.execute("INSERT INTO deliveries SELECT seq, 'mqtt', sent_at, dropped FROM outbox")
    waits, dropped = sa.text("sent_at IS NULL"), sa.text("dropped IS NOT NULL")
    op.create_index(
        "ix_deliveries_waiting",
        "deliveries",
        ["receiver", "seq", "sent_at"],
        sqlite_where=waits,
        postgresql_where=waits,
    )
    op.create_index("ix_deliveries_dropped", "deliveries", ["seq"], sqlite_where=dropped, postgresql_where=dropped)
    # In place: a copy of the table would forget the highest seq that was ever given.
    with op.batch_alter_table("outbox", recreate="never") as outbox:
        outbox.drop_index("ix_outbox_unsent")
        outbox.drop_index("ix_outbox_dropped")
        outbox.drop_column("sent_at")
        outbox.drop_column("dropped")
