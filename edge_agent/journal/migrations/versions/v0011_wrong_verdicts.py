"""Finds labels that say that a verdict was wrong, in the order of time, and the kinds of defects of a station."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
    op.add_column("labels", sa.Column("inspection_number", number))
    op.add_column("labels", sa.Column("taken_at", moment))
    op.add_column("labels", sa.Column("evaluation", sa.Text()))
    of = "FROM inspections WHERE inspections.id = labels.inspection"
    op.execute(
        f"UPDATE labels SET inspection_number = (SELECT number {of}), taken_at = (SELECT taken_at {of}),"
        f" evaluation = (SELECT evaluation {of})"
    )
    wrong = sa.text("label = 'good' AND evaluation != 'OK' OR label = 'defect' AND evaluation = 'OK'")
    for name, key in (("wrong", []), ("station_wrong", ["station"])):
        op.create_index(
            f"ix_labels_{name}",
            "labels",
            [*key, "label", "taken_at", "inspection_number"],
            sqlite_where=wrong,
            postgresql_where=wrong,
        )
    named = sa.text("kind IS NOT NULL")
    op.create_index("ix_labels_kind", "labels", ["station", "kind"], sqlite_where=named, postgresql_where=named)
