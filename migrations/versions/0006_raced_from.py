"""Curves are found by the point that a race was from, and by the generation that they came with.

So a question reads the curves that may answer it, and no others.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RACES = ("race", "survey")


def upgrade() -> None:
    """Adds `curves.raced_from`, filled for the races that are there, and both indexes."""
    op.add_column("curves", sa.Column("raced_from", sa.Text(), nullable=True))
    curves = sa.table(
        "curves",
        sa.column("id", sa.Text),
        sa.column("mode", sa.Text),
        sa.column("grid", sa.JSON),
        sa.column("raced_from", sa.Text),
    )
    connection = op.get_bind()
    found = connection.execute(
        sa.select(curves.c.id, curves.c.grid).where(curves.c.mode.in_(RACES))
    ).all()
    filled = [
        {"curve": id_, "dims": ",".join(str(axis[0]) for axis in grid)} for id_, grid in found
    ]
    if filled:
        connection.execute(
            sa.update(curves)
            .where(curves.c.id == sa.bindparam("curve"))
            .values(raced_from=sa.bindparam("dims")),
            filled,
        )
    op.create_index(
        "ix_curves_answering",
        "curves",
        ["workload_key", "platform_key", "protocol_key", "raced_from", "generation"],
    )
    op.create_index("ix_curves_generation", "curves", ["generation"])


def downgrade() -> None:
    """Drops them."""
    op.drop_index("ix_curves_generation", "curves")
    op.drop_index("ix_curves_answering", "curves")
    op.drop_column("curves", "raced_from")
