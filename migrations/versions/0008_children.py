"""Several processes measure in turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `batches.child`; earlier batches were measured by process 0."""
    op.add_column("batches", sa.Column("child", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("batches", "child")
