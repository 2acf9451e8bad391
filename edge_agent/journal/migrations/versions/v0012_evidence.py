"""Why the pictures of an inspection are not what was asked for, and an index of those that follow their verdict."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # In place: a copy of the table takes minutes where there are millions of rows.
    with op.batch_alter_table("inspections", recreate="never") as inspections:
        inspections.add_column(sa.Column("evidence", sa.Text()))
    pending = sa.text("evidence = 'pending'")
    op.create_index("ix_inspections_pending", "inspections", ["number"], sqlite_where=pending, postgresql_where=pending)
