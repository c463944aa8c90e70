"""Hosts register which backends of products they have, and for which dtypes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `hosts.backends`: only `dense`, until a host registers again."""
    op.add_column("hosts", sa.Column("backends", sa.JSON, nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("hosts", "backends")
