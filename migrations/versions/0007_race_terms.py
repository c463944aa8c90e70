"""Races have terms: what is wanted of them, and when they may stop."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.terms` and `sweeps.tau`; earlier sweeps have none."""
    op.add_column("sweeps", sa.Column("terms", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("sweeps", sa.Column("tau", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("sweeps", "tau")
    op.drop_column("sweeps", "terms")
