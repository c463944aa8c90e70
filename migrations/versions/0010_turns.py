"""Sweeps have what decides on their turn: how long they may take, and who waits for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `sweeps.expected_s`, `sweeps.is_awaited` and `sweeps.client`.

    Nobody knows any more who waits for earlier sweeps, if they are still open.
    """
    op.add_column("sweeps", sa.Column("expected_s", sa.Double(), nullable=True))
    op.add_column("sweeps", sa.Column("is_awaited", sa.Boolean(), nullable=True))
    op.add_column("sweeps", sa.Column("client", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("sweeps", "client")
    op.drop_column("sweeps", "is_awaited")
    op.drop_column("sweeps", "expected_s")
