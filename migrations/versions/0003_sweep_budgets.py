"""Sweeps may have a budget of measuring time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.budget_s`; earlier sweeps have none."""
    op.add_column("sweeps", sa.Column("budget_s", sa.Double, nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("sweeps", "budget_s")
