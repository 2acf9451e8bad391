"""The map threshold of each inspection, so that its overlay can be drawn again as it was; NULL in older rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("inspections") as inspections:
        inspections.add_column(sa.Column("map_threshold", sa.Float(53)))
