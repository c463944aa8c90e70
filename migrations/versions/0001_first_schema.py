"""The first schema: platforms, hosts, sweeps with their samples, curves, and the generation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UNFINISHED = "state IN ('queued', 'running') AND NOT cancel_requested"


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "platforms",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_platforms"),
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("platform_key", sa.Text, nullable=False),
        sa.Column("protocol_key", sa.Text, nullable=False),
        sa.Column("dtypes", sa.JSON, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
        sa.ForeignKeyConstraint(
            ["platform_key"], ["platforms.key"], name="fk_hosts_platform_key_platforms"
        ),
    )
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("spec_key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("axes", sa.JSON, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("grid", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("measured_as", sa.Text, nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.JSON, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_sweeps_host_hosts"),
    )
    op.create_index(
        "uq_sweeps_unfinished",
        "sweeps",
        ["host", "spec_key"],
        unique=True,
        sqlite_where=sa.text(UNFINISHED),
        postgresql_where=sa.text(UNFINISHED),
    )
    op.create_index("ix_sweeps_host_id", "sweeps", ["host", "id"])
    op.create_index("ix_sweeps_state_id", "sweeps", ["state", "id"])
    op.create_table(
        "batches",
        sa.Column("sweep_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("num_samples", sa.Integer, nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("num_discarded", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.JSON, nullable=False),
        sa.Column("arrays", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "number", name="pk_batches"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_batches_sweep_id_sweeps"),
    )
    op.create_table(
        "curves",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("sweep_id", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("workload_key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("axes", sa.JSON, nullable=False),
        sa.Column("platform_key", sa.Text, nullable=False),
        sa.Column("protocol_key", sa.Text, nullable=False),
        sa.Column("protocol", sa.JSON, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("grid", sa.JSON, nullable=False),
        sa.Column("num_measured", sa.Integer, nullable=False),
        sa.Column("num_lhps", sa.Integer, nullable=False),
        sa.Column("num_undecided", sa.Integer, nullable=False),
        sa.Column("num_failures", sa.Integer, nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_curves"),
        sa.UniqueConstraint("sweep_id", name="uq_curves_sweep_id"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_curves_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_curves_host_hosts"),
        sa.ForeignKeyConstraint(
            ["platform_key"], ["platforms.key"], name="fk_curves_platform_key_platforms"
        ),
    )
    op.create_index(
        "ix_curves_workload_key_platform_key_protocol_key_generation",
        "curves",
        ["workload_key", "platform_key", "protocol_key", "generation"],
    )
    op.create_index("ix_curves_kind_id", "curves", ["kind", "id"])
    op.create_index("ix_curves_platform_key_id", "curves", ["platform_key", "id"])
    op.create_index("ix_curves_host_id", "curves", ["host", "id"])
    op.create_table(
        "curve_arrays",
        sa.Column("curve_id", sa.Text, nullable=False),
        sa.Column("failures", sa.JSON, nullable=False),
        sa.Column("arrays", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("curve_id", name="pk_curve_arrays"),
        sa.ForeignKeyConstraint(
            ["curve_id"], ["curves.id"], name="fk_curve_arrays_curve_id_curves"
        ),
    )
    generation = op.create_table(
        "generation",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generation"),
    )
    op.bulk_insert(generation, [{"id": 1, "value": 0}])


def downgrade() -> None:
    """Drops every table, and with them everything that was measured."""
    for table in (
        "generation",
        "curve_arrays",
        "curves",
        "batches",
        "sweeps",
        "hosts",
        "platforms",
    ):
        op.drop_table(table)
