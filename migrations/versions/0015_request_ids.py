"""Sweeps name the request that asked for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.request_id`; of earlier sweeps, it isn't known."""
    op.add_column("sweeps", sa.Column("request_id", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("sweeps", "request_id")
