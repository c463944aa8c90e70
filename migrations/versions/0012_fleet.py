"""Hosts have labels, a status that operators set, and an identity apart from their name."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds what operators say of hosts and what is found of them; `join_keys`; `installation`.

    Hosts that are there already measure, so they are approved. Their machine becomes known when
    they register again.
    """
    op.add_column("hosts", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column(
        "hosts", sa.Column("status", sa.Text(), nullable=False, server_default="approved")
    )
    op.add_column("hosts", sa.Column("machine", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "hosts", sa.Column("is_ephemeral", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("hosts", sa.Column("findings", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("hosts", sa.Column("role", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("offered_platform_key", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("clock_skew_s", sa.Double(), nullable=True))
    op.create_table(
        "join_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("is_approved", sa.Boolean(), nullable=False),
        sa.Column("is_ephemeral", sa.Boolean(), nullable=False),
        sa.Column("is_reusable", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_join_keys"),
    )
    installation = op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.bulk_insert(installation, [{"id": 1, "value": uuid.uuid4().hex[:8]}])


def downgrade() -> None:
    """Drops them."""
    op.drop_table("installation")
    op.drop_table("join_keys")
    for column in (
        *("clock_skew_s", "offered_platform_key", "role"),
        *("findings", "is_ephemeral", "machine", "status", "labels"),
    ):
        op.drop_column("hosts", column)
