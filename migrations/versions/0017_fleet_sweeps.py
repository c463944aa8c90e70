"""Sweeps of several hosts: what was asked for, and the sweep of each host."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `fleet_sweeps` and `fleet_sweep_hosts`."""
    op.create_table(
        "fleet_sweeps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("spec_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fleet_sweeps"),
    )
    op.create_index("ix_fleet_sweeps_label_spec_key", "fleet_sweeps", ["label", "spec_key"])
    op.create_table(
        "fleet_sweep_hosts",
        sa.Column("fleet_sweep_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fleet_sweep_id"],
            ["fleet_sweeps.id"],
            name="fk_fleet_sweep_hosts_fleet_sweep_id_fleet_sweeps",
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_fleet_sweep_hosts_sweep_id_sweeps"
        ),
        sa.PrimaryKeyConstraint("fleet_sweep_id", "sweep_id", name="pk_fleet_sweep_hosts"),
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_table("fleet_sweep_hosts")
    op.drop_index("ix_fleet_sweeps_label_spec_key", table_name="fleet_sweeps")
    op.drop_table("fleet_sweeps")
