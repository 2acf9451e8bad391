"""An index of the messages that were given up: they are few, and were found by reading all that were ever sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    dropped = sa.text("dropped IS NOT NULL")
    with op.batch_alter_table("outbox") as outbox:
        outbox.create_index("ix_outbox_dropped", ["seq"], sqlite_where=dropped, postgresql_where=dropped)
