"""Changes of hosts' platforms, and the facts that are measured again after each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `platform_changes` and `replayed_facts`."""
    op.create_table(
        "platform_changes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("old_platform_key", sa.Text(), nullable=False),
        sa.Column("new_platform_key", sa.Text(), nullable=False),
        sa.Column("protocol_key", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("num_contrasts", sa.Integer(), nullable=True),
        sa.Column("num_agree", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("num_changed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("num_unclear", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("num_failed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("patterns", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_platform_changes_host_hosts"),
        sa.ForeignKeyConstraint(
            ["old_platform_key"],
            ["platforms.key"],
            name="fk_platform_changes_old_platform_key_platforms",
        ),
        sa.ForeignKeyConstraint(
            ["new_platform_key"],
            ["platforms.key"],
            name="fk_platform_changes_new_platform_key_platforms",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_platform_changes"),
    )
    op.create_index(
        "uq_platform_changes_change",
        "platform_changes",
        ["host", "old_platform_key", "new_platform_key", "protocol_key"],
        unique=True,
    )
    op.create_index(
        "ix_platform_changes_new_platform_key", "platform_changes", ["new_platform_key"]
    )
    op.create_table(
        "replayed_facts",
        sa.Column("change_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("new_fact_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(
            ["change_id"],
            ["platform_changes.id"],
            name="fk_replayed_facts_change_id_platform_changes",
        ),
        sa.ForeignKeyConstraint(["fact_id"], ["facts.id"], name="fk_replayed_facts_fact_id_facts"),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_replayed_facts_sweep_id_sweeps"
        ),
        sa.ForeignKeyConstraint(
            ["new_fact_id"], ["facts.id"], name="fk_replayed_facts_new_fact_id_facts"
        ),
        sa.PrimaryKeyConstraint("change_id", "number", name="pk_replayed_facts"),
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_table("replayed_facts")
    op.drop_index("ix_platform_changes_new_platform_key", table_name="platform_changes")
    op.drop_index("uq_platform_changes_change", table_name="platform_changes")
    op.drop_table("platform_changes")
