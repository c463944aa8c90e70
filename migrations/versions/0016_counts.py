"""What monitoring asks for again and again is counted as it happens, and found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ENDED = """
INSERT INTO counts (host, subject, mode, state, value)
SELECT host, 'sweeps', mode, state, COUNT(*) FROM sweeps
WHERE state IN ('done', 'cancelled', 'failed') GROUP BY host, mode, state
"""
DISCARDED = """
INSERT INTO counts (host, subject, mode, state, value)
SELECT sweeps.host, 'discarded', '', '', SUM(batches.num_discarded)
FROM batches JOIN sweeps ON sweeps.id = batches.sweep_id
GROUP BY sweeps.host HAVING SUM(batches.num_discarded) > 0
"""


def upgrade() -> None:
    """Adds `counts`, with what was stored so far, and `ix_curves_grids`."""
    op.create_table(
        "counts",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host", "subject", "mode", "state", name="pk_counts"),
    )
    op.execute(ENDED)
    op.execute(DISCARDED)
    grids = sa.text("mode = 'grid'")
    op.create_index(
        "ix_curves_grids",
        "curves",
        ["host", "kind", "id"],
        sqlite_where=grids,
        postgresql_where=grids,
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_index("ix_curves_grids", "curves")
    op.drop_table("counts")
