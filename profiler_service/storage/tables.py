"""The tables for SQLAlchemy; no logic.

The migrations make the schema, not this module; a test compares the two. Large arrays are in
tables of their own, so that listing never reads them. A table with `for_workers` false is the
service's alone: no host's database role may read it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from profiler_service.storage.columns import Text, UtcDateTime
from profiler_service.storage.columns import metadata as metadata  # with every table, from here
from profiler_service.storage.platform_change_tables import platform_changes as platform_changes
from profiler_service.storage.platform_change_tables import replayed_facts as replayed_facts

platforms = sa.Table(
    "platforms",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("registered_at", UtcDateTime, nullable=False),
)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("protocol_key", Text, nullable=False),
    sa.Column("dtypes", sa.JSON, nullable=False),
    sa.Column("backends", sa.JSON(none_as_null=True)),
    sa.Column("registered_at", UtcDateTime, nullable=False),
    sa.Column("last_seen_at", UtcDateTime, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("status", Text, nullable=False, server_default="approved"),
    sa.Column("machine", Text, nullable=False, server_default=""),
    sa.Column("is_ephemeral", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("findings", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("role", Text),
    sa.Column("offered_platform_key", Text),
    sa.Column("clock_skew_s", sa.Double),
)

join_keys = sa.Table(
    "join_keys",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("digest", Text, nullable=False),
    sa.Column("name", Text),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("is_approved", sa.Boolean, nullable=False),
    sa.Column("is_ephemeral", sa.Boolean, nullable=False),
    sa.Column("is_reusable", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("used_at", UtcDateTime),
    sa.Column("used_by", Text),
    sa.Column("revoked_at", UtcDateTime),
    info={"for_workers": False},
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", Text, nullable=False),
    info={"for_workers": False},
)

leases = sa.Table(
    "leases",
    metadata,
    # No foreign key: a worker takes the lease before it knows the platform to register.
    sa.Column("host", Text, primary_key=True),
    sa.Column("worker", Text, nullable=False),
    sa.Column("description", Text, nullable=False),
    sa.Column("device_lock", Text, nullable=False),
    sa.Column("renewed_at", UtcDateTime, nullable=False),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("host", Text, sa.ForeignKey("hosts.name"), nullable=False),
    sa.Column("spec_key", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("axes", sa.JSON, nullable=False),
    sa.Column("mode", Text, nullable=False),
    sa.Column("grid", sa.JSON, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("budget_s", sa.Double),
    sa.Column("guide", sa.JSON(none_as_null=True)),
    sa.Column("terms", sa.JSON(none_as_null=True)),
    sa.Column("tau", sa.Double),
    sa.Column("expected_s", sa.Double),
    sa.Column("is_awaited", sa.Boolean),
    sa.Column("client", Text),
    sa.Column("request_id", Text),
    sa.Column("traceparent", Text),
    sa.Column("machine", Text),
    sa.Column("state", Text, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("measured_as", Text),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("error", Text, nullable=False),
    sa.Column("pruned_to", sa.Integer),
    sa.Column("pruned_at", UtcDateTime),
    sa.Column("learned", sa.JSON(none_as_null=True)),
    sa.Column("learned_as", Text),
    sa.Index(None, "host", "id"),
    sa.Index(None, "state", "id"),
)

unfinished = sa.text("state IN ('queued', 'running') AND NOT cancel_requested")
"""The sweeps that an equal request joins instead of making a new one."""

sa.Index(
    "uq_sweeps_unfinished",
    sweeps.c.host,
    sweeps.c.spec_key,
    unique=True,
    sqlite_where=unfinished,
    postgresql_where=unfinished,
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("num_samples", sa.Integer, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("num_discarded", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("child", sa.Integer, nullable=False, server_default="0"),
    sa.Column("measured_at", UtcDateTime, nullable=False),
    sa.Column("failures", sa.JSON, nullable=False),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
)

curves = sa.Table(
    "curves",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id"), nullable=False, unique=True),
    sa.Column("host", Text, sa.ForeignKey("hosts.name"), nullable=False),
    sa.Column("workload_key", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("axes", sa.JSON, nullable=False),
    sa.Column("platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("protocol_key", Text, nullable=False),
    sa.Column("protocol", sa.JSON, nullable=False),
    sa.Column("mode", Text, nullable=False),
    sa.Column("grid", sa.JSON, nullable=False),
    sa.Column("num_measured", sa.Integer, nullable=False),
    sa.Column("num_lhps", sa.Integer, nullable=False),
    sa.Column("num_undecided", sa.Integer, nullable=False),
    sa.Column("num_failures", sa.Integer, nullable=False),
    sa.Column("measured_at", UtcDateTime, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("raced_from", Text),
    sa.Column("origin", sa.JSON(none_as_null=True)),
    sa.Index(None, "workload_key", "platform_key", "protocol_key", "generation"),
    sa.Index(
        "ix_curves_answering",
        *("workload_key", "platform_key", "protocol_key", "raced_from", "generation"),
    ),
    sa.Index(None, "generation"),
    sa.Index(None, "kind", "id"),
    sa.Index(None, "platform_key", "id"),
    sa.Index(None, "host", "id"),
)

curve_arrays = sa.Table(
    "curve_arrays",
    metadata,
    sa.Column("curve_id", Text, sa.ForeignKey("curves.id"), primary_key=True),
    sa.Column("failures", sa.JSON, nullable=False),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
)


def _array(item: type[sa.types.TypeEngine[Any]]) -> sa.types.TypeEngine[Any]:
    """An array of PostgreSQL. SQLite has none; a column of this type stays empty there."""
    return sa.JSON().with_variant(postgresql.ARRAY(item), "postgresql")


point_arrays = sa.Table(
    "point_arrays",
    metadata,
    sa.Column("curve_id", Text, sa.ForeignKey("curves.id"), primary_key=True),
    sa.Column("dims", _array(sa.Text), nullable=False),
    sa.Column("latency_s", _array(sa.REAL), nullable=False),
    sa.Column("low_s", _array(sa.REAL), nullable=False),
    sa.Column("high_s", _array(sa.REAL), nullable=False),
    sa.Column("num_samples", _array(sa.Integer), nullable=False),
    sa.Column("status", _array(sa.SmallInteger), nullable=False),
    sa.Column("first_latency_s", sa.Double),
    sa.Column("first_low_s", sa.Double),
    sa.Column("first_high_s", sa.Double),
)
"""The measured points of curves once more, for views that dashboards read; empty in SQLite."""

kernel_names = sa.Table(
    "kernel_names",
    metadata,
    sa.Column("curve_id", Text, sa.ForeignKey("curves.id"), primary_key=True),
    sa.Column("names", sa.JSON, nullable=False),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("curve_id", Text, sa.ForeignKey("curves.id"), nullable=False),
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id"), nullable=False),
    sa.Column("host", Text, sa.ForeignKey("hosts.name"), nullable=False),
    sa.Column("workload_key", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("axes", sa.JSON, nullable=False),
    sa.Column("platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("protocol_key", Text, nullable=False),
    sa.Column("dims", Text, nullable=False),
    sa.Column("rival", Text, nullable=False),
    sa.Column("verdict", Text, nullable=False),
    sa.Column("ratio", sa.Double, nullable=False),
    sa.Column("low", sa.Double, nullable=False),
    sa.Column("high", sa.Double, nullable=False),
    sa.Column("num_pairs", sa.Integer, nullable=False),
    sa.Column("num_children", sa.Integer, nullable=False),
    sa.Column("num_arenas", sa.Integer, nullable=False),
    sa.Column("between_arenas", sa.Double),
    sa.Column("tau", sa.Double),
    sa.Column("worker", Text, nullable=False, server_default=""),
    sa.Column("noise", sa.Double),
    sa.Column("measured_at", UtcDateTime, nullable=False),
    sa.Column("repeats", Text, sa.ForeignKey("facts.id")),
    sa.Column("overruled_by", Text, sa.ForeignKey("facts.id")),
    sa.Index("ix_facts_pair", "workload_key", "platform_key", "protocol_key", "dims", "id"),
    sa.Index(None, "curve_id"),
    sa.Index(None, "kind", "id"),
    sa.Index(None, "platform_key", "id"),
    sa.Index(None, "host", "id"),
)

repeated = sa.text("repeats IS NOT NULL")
"""Facts about a pair that had been confirmed before."""
overruled = sa.text("overruled_by IS NOT NULL")

sa.Index(
    "ix_facts_repeated",
    *(facts.c.platform_key, facts.c.protocol_key, facts.c.kind, facts.c.id),
    sqlite_where=repeated,
    postgresql_where=repeated,
)
sa.Index(
    "ix_facts_overruled", facts.c.overruled_by, sqlite_where=overruled, postgresql_where=overruled
)

latency_models = sa.Table(
    "latency_models",
    metadata,
    sa.Column("platform_key", Text, sa.ForeignKey("platforms.key"), primary_key=True),
    sa.Column("protocol_key", Text, primary_key=True),
    sa.Column("workload_key", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("axes", sa.JSON, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("num_visits", sa.Double, nullable=False),
    sa.Column("num_sweeps", sa.Double, nullable=False),
    sa.Column("spreads", sa.JSON(none_as_null=True)),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id"), nullable=False, unique=True),
    sa.Column("platform_key", Text, sa.ForeignKey("platforms.key"), nullable=False),
    sa.Column("protocol_key", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("workload_key", Text, nullable=False),
    sa.Column("dims", Text, nullable=False),
    sa.Column("rival", Text, nullable=False),
    sa.Column("predicted", sa.Double, nullable=False),
    sa.Column("deviation", sa.Double, nullable=False),
    sa.Column("half_width", sa.Double),
    sa.Column("distance", sa.Double),
    sa.Column("measured", sa.Double, nullable=False),
    sa.Column("scored_at", UtcDateTime, nullable=False),
    sa.Index(None, "platform_key", "protocol_key", "kind", "id"),
)
"""Predictions, each with what was measured of its pair. No distance: nothing had been learned."""

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("digest", Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", Text, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    info={"for_workers": False},
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("address", Text, nullable=False),
    sa.Column("action", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Index(None, "action", "id"),
    sa.Index(None, "subject", "id"),
    info={"for_workers": False},
)

counts = sa.Table(
    "counts",
    metadata,
    # No foreign key: what a host did stays counted.
    sa.Column("host", Text, primary_key=True),
    sa.Column("subject", Text, primary_key=True),
    sa.Column("mode", Text, primary_key=True),
    sa.Column("state", Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

grids = sa.text("mode = 'grid'")
"""Curves whose redundancy has a meaning."""

sa.Index(
    "ix_curves_grids",
    *(curves.c.host, curves.c.kind, curves.c.id),
    sqlite_where=grids,
    postgresql_where=grids,
)

fleet_sweeps = sa.Table(
    "fleet_sweeps",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("label", Text, nullable=False),
    sa.Column("spec_key", Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index(None, "label", "spec_key"),
    info={"for_workers": False},
)

fleet_sweep_hosts = sa.Table(
    "fleet_sweep_hosts",
    metadata,
    sa.Column("fleet_sweep_id", Text, sa.ForeignKey("fleet_sweeps.id"), primary_key=True),
    sa.Column("sweep_id", Text, sa.ForeignKey("sweeps.id"), primary_key=True),
    info={"for_workers": False},
)

generation = sa.Table(
    "generation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)

compatibility = sa.Table(
    "compatibility",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("oldest", Text, nullable=False),
)
"""One row: versions whose newest migration is this one or a later one can use the schema."""
