"""Sweeps name the span in which they were asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.traceparent`; NULL where nobody traces."""
    op.add_column("sweeps", sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("sweeps", "traceparent")
