"""What people say of inspections, and which checkpoints were made with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
    op.create_table(
        "labels",
        sa.Column("number", number, nullable=False),
        sa.Column("inspection", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text()),
        sa.Column("x", sa.Integer()),
        sa.Column("y", sa.Integer()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("said_at", moment, nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("supersedes", number),
        sa.PrimaryKeyConstraint("number", name="pk_labels"),
    )
    op.create_index("ix_labels_inspection", "labels", ["inspection", "number"])
    op.create_index("ix_labels_station", "labels", ["station", "number"])
    op.create_table(
        "learnt",
        sa.Column("label", number, autoincrement=False, nullable=False),
        sa.Column("checkpoint_sha256", sa.Text(), nullable=False),
        sa.Column("learnt_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("label", "checkpoint_sha256", name="pk_learnt"),
        sa.ForeignKeyConstraint(["label"], ["labels.number"], name="fk_learnt_label"),
    )
