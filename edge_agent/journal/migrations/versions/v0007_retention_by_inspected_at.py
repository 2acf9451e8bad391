"""Indexes by the time of inspection, by which retention goes from now on; taken_at is what a camera or a file says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    ok = sa.text("evaluation = 'OK'")
    with op.batch_alter_table("inspections") as inspections:
        inspections.drop_index("ix_inspections_ok")
        inspections.create_index("ix_inspections_ok", ["inspected_at"], sqlite_where=ok, postgresql_where=ok)
        inspections.create_index("ix_inspections_inspected_at", ["inspected_at"])
