"""What a host learns from its sweeps, and how good its predictions were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `latency_models` and `scores`, and what a sweep got from a model and gave to it."""
    op.add_column("sweeps", sa.Column("learned", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("sweeps", sa.Column("learned_as", sa.Text(), nullable=True))
    op.create_table(
        "latency_models",
        sa.Column("platform_key", sa.Text(), nullable=False),
        sa.Column("protocol_key", sa.Text(), nullable=False),
        sa.Column("workload_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("axes", sa.JSON(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("num_visits", sa.Double(), nullable=False),
        sa.Column("num_sweeps", sa.Double(), nullable=False),
        sa.Column("spreads", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "platform_key", "protocol_key", "workload_key", name="pk_latency_models"
        ),
        sa.ForeignKeyConstraint(
            ["platform_key"], ["platforms.key"], name="fk_latency_models_platform_key_platforms"
        ),
    )
    op.create_table(
        "scores",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("platform_key", sa.Text(), nullable=False),
        sa.Column("protocol_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("workload_key", sa.Text(), nullable=False),
        sa.Column("dims", sa.Text(), nullable=False),
        sa.Column("rival", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Double(), nullable=False),
        sa.Column("deviation", sa.Double(), nullable=False),
        sa.Column("half_width", sa.Double(), nullable=True),
        sa.Column("distance", sa.Double(), nullable=True),
        sa.Column("measured", sa.Double(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scores"),
        sa.UniqueConstraint("sweep_id", name="uq_scores_sweep_id"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_scores_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(
            ["platform_key"], ["platforms.key"], name="fk_scores_platform_key_platforms"
        ),
    )
    op.create_index(
        "ix_scores_platform_key_protocol_key_kind_id",
        "scores",
        ["platform_key", "protocol_key", "kind", "id"],
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_table("scores")
    op.drop_table("latency_models")
    op.drop_column("sweeps", "learned_as")
    op.drop_column("sweeps", "learned")
