"""The oldest version that may use the schema, pruned samples, and imports' origins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `compatibility`, `sweeps.pruned_to`, `sweeps.pruned_at` and `curves.origin`.

    A later migration that takes something away must raise `compatibility.oldest` to the first
    revision whose versions no longer use it.
    """
    compatibility = op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compatibility"),
    )
    op.bulk_insert(compatibility, [{"id": 1, "oldest": revision}])
    op.add_column("sweeps", sa.Column("pruned_to", sa.Integer(), nullable=True))
    op.add_column("sweeps", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("curves", sa.Column("origin", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("curves", "origin")
    op.drop_column("sweeps", "pruned_at")
    op.drop_column("sweeps", "pruned_to")
    op.drop_table("compatibility")
