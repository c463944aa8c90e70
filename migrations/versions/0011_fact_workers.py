"""Facts name the worker that confirmed them, and the noise that they had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `facts.worker` and `facts.noise`; of earlier facts, neither is known."""
    op.add_column("facts", sa.Column("worker", sa.Text(), nullable=False, server_default=""))
    op.add_column("facts", sa.Column("noise", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("facts", "noise")
    op.drop_column("facts", "worker")
