"""The tables of platform changes, for SQLAlchemy; no logic. Others take them from `tables`."""

from __future__ import annotations

import sqlalchemy as sa

from profiler_service.storage.columns import Text, UtcDateTime, metadata

platform_changes = sa.Table(
    "platform_changes",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("host", Text, sa.ForeignKey("hosts.name"), nullable=False),
    sa.Column("old_platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("new_platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("protocol_key", Text, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("num_contrasts", sa.Integer),
    sa.Column("num_agree", sa.Integer, nullable=False, server_default="0"),
    sa.Column("num_changed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("num_unclear", sa.Integer, nullable=False, server_default="0"),
    sa.Column("num_failed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("patterns", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("finished_at", UtcDateTime),
    # The same change of the same host is one row, however often it happens.
    sa.Index(
        "uq_platform_changes_change",
        *("host", "old_platform_key", "new_platform_key", "protocol_key"),
        unique=True,
    ),
    sa.Index(None, "new_platform_key"),
)

replayed_facts = sa.Table(
    "replayed_facts",
    metadata,
    sa.Column("change_id", Text, sa.ForeignKey("platform_changes.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("fact_id", Text, sa.ForeignKey("facts.id"), nullable=False),
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id")),
    sa.Column("outcome", Text),
    sa.Column("new_fact_id", Text, sa.ForeignKey("facts.id")),
    sa.Column("reason", Text, nullable=False, server_default=""),
)
