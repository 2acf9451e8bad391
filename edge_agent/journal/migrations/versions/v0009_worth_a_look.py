"""Indexes of the inspections that people look through first, which are few."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    look = sa.text("evaluation != 'OK' OR score >= threshold * 0.9")
    for name, key in (("look", []), ("station_look", ["station"])):
        op.create_index(
            f"ix_inspections_{name}",
            "inspections",
            [*key, "taken_at", "number", "evaluation"],
            sqlite_where=look,
            postgresql_where=look,
        )
