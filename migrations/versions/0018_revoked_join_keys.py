"""Join keys can be revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `join_keys.revoked_at`."""
    op.add_column("join_keys", sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("join_keys", "revoked_at")
