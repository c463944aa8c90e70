"""Races of networks may be guided by a stored curve."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.guide`; earlier sweeps have none."""
    op.add_column("sweeps", sa.Column("guide", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("sweeps", "guide")
