"""Each host has one live worker, which holds the host's lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates `leases`, empty: every host is free. Adds `sweeps.machine`, not known of old ones."""
    op.create_table(
        "leases",
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("device_lock", sa.Text, nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_leases"),
    )
    op.add_column("sweeps", sa.Column("machine", sa.Text, nullable=True))


def downgrade() -> None:
    """Drops both."""
    op.drop_column("sweeps", "machine")
    op.drop_table("leases")
