"""Confirmed pairs are kept as facts, besides the curves of their races."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

PARTIAL = {
    "ix_facts_repeated": (["platform_key", "protocol_key", "kind", "id"], "repeats IS NOT NULL"),
    "ix_facts_overruled": (["overruled_by"], "overruled_by IS NOT NULL"),
}


def upgrade() -> None:
    """Makes `facts`, empty: earlier races keep their answers in their curves."""
    op.create_table(
        "facts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("curve_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("workload_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("axes", sa.JSON(), nullable=False),
        sa.Column("platform_key", sa.Text(), nullable=False),
        sa.Column("protocol_key", sa.Text(), nullable=False),
        sa.Column("dims", sa.Text(), nullable=False),
        sa.Column("rival", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("num_pairs", sa.Integer(), nullable=False),
        sa.Column("num_children", sa.Integer(), nullable=False),
        sa.Column("num_arenas", sa.Integer(), nullable=False),
        sa.Column("between_arenas", sa.Double(), nullable=True),
        sa.Column("tau", sa.Double(), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("repeats", sa.Text(), nullable=True),
        sa.Column("overruled_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["curve_id"], ["curves.id"], name="fk_facts_curve_id_curves"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_facts_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_facts_host_hosts"),
        sa.ForeignKeyConstraint(
            ["platform_key"], ["platforms.key"], name="fk_facts_platform_key_platforms"
        ),
        sa.ForeignKeyConstraint(["repeats"], ["facts.id"], name="fk_facts_repeats_facts"),
        sa.ForeignKeyConstraint(["overruled_by"], ["facts.id"], name="fk_facts_overruled_by_facts"),
        sa.PrimaryKeyConstraint("id", name="pk_facts"),
    )
    op.create_index(
        "ix_facts_pair", "facts", ["workload_key", "platform_key", "protocol_key", "dims", "id"]
    )
    op.create_index("ix_facts_curve_id", "facts", ["curve_id"])
    for column in ("kind", "platform_key", "host"):
        op.create_index(f"ix_facts_{column}_id", "facts", [column, "id"])
    for name, (columns, condition) in PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "facts", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drops it."""
    op.drop_table("facts")
