"""Which kernels ran at points of a curve."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `kernel_names`; curves from before have none."""
    op.create_table(
        "kernel_names",
        sa.Column("curve_id", sa.Text(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["curve_id"], ["curves.id"], name="fk_kernel_names_curve_id_curves"
        ),
        sa.PrimaryKeyConstraint("curve_id", name="pk_kernel_names"),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("kernel_names")
