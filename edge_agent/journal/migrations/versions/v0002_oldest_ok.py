"""An index of the inspections that are OK by time: the oldest of them are the first to go when the journal is full."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    ok = sa.text("evaluation = 'OK'")
    with op.batch_alter_table("inspections") as inspections:
        inspections.create_index("ix_inspections_ok", ["taken_at"], sqlite_where=ok, postgresql_where=ok)
