"""The first version: inspections with their regions, the ledger of stored files, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
    op.create_table(
        "inspections",
        sa.Column("number", number, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", moment, nullable=False),
        sa.Column("inspected_at", moment, nullable=False),
        sa.Column("part_id", sa.Text()),
        sa.Column("trigger_id", sa.Text()),
        sa.Column("origin", sa.Text()),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("evaluation", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(53)),
        sa.Column("threshold", sa.Float(53), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("alarm", sa.Text()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("checkpoint_sha256", sa.Text(), nullable=False),
        sa.Column("calibration_id", sa.Text()),
        sa.Column("config_sha256", sa.Text(), nullable=False),
        sa.Column("timings", sa.JSON(), nullable=False),
        sa.Column("image_uri", sa.Text()),
        sa.Column("image_sha256", sa.Text()),
        sa.Column("image_size", sa.BigInteger()),
        sa.Column("overlay_uri", sa.Text()),
        sa.Column("overlay_sha256", sa.Text()),
        sa.Column("overlay_size", sa.BigInteger()),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_inspections"),
        sa.UniqueConstraint("id", name="uq_inspections_id"),
    )
    op.create_index("ix_inspections_station_taken_at", "inspections", ["station", "taken_at"])
    op.create_index("ix_inspections_taken_at", "inspections", ["taken_at"])
    op.create_index(
        "ix_inspections_alarm",
        "inspections",
        ["station", "number", "alarm", "simulated"],
        sqlite_where=sa.text("alarm IS NOT NULL AND simulated IS 0"),
        postgresql_where=sa.text("alarm IS NOT NULL AND simulated IS false"),
    )
    for uri in ("image_uri", "overlay_uri"):
        kept = sa.text(f"{uri} IS NOT NULL")
        op.create_index(f"ix_inspections_{uri}", "inspections", [uri], sqlite_where=kept, postgresql_where=kept)

    op.create_table(
        "regions",
        sa.Column("inspection", number, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("x", sa.Integer(), nullable=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("peak", sa.Float(53), nullable=False),
        sa.Column("area_px", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("inspection", "position", name="pk_regions"),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.number"], name="fk_regions_inspection"),
    )

    op.create_table(
        "ledger",
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station", "path", "sha256", name="pk_ledger"),
    )
    op.create_index("ix_ledger_stat", "ledger", ["station", "inode", "size", "mtime_ns"])

    op.create_table(
        "outbox",
        sa.Column("seq", number, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("station", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("inspection", number, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("sent_at", moment),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.number"], name="fk_outbox_inspection"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_inspection", "outbox", ["inspection"])
    unsent = sa.text("sent_at IS NULL")
    op.create_index("ix_outbox_unsent", "outbox", ["seq", "sent_at"], sqlite_where=unsent, postgresql_where=unsent)
