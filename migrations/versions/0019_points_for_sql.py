"""Points of curves that SQL can read, and in PostgreSQL, views for dashboards."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

PLATFORMS = """
SELECT key AS platform, fields->>'device' AS device, fields->>'device_model' AS device_model,
    (fields->>'memory_bytes')::bigint AS memory_bytes, fields->>'driver' AS driver,
    fields->>'framework' AS framework, (fields->>'threads')::integer AS threads,
    (fields->>'cpus')::integer AS cpus, registered_at
FROM platforms
"""
# The status is the one that the service acts on: `rows.host_from_row`.
HOSTS = """
SELECT h.name, CASE
        WHEN h.is_ephemeral AND clock_timestamp() - h.last_seen_at > interval '1 day' THEN 'retired'
        WHEN h.status = 'approved' AND h.offered_platform_key IS NOT NULL THEN 'quarantined'
        ELSE h.status
    END AS status,
    h.platform_key AS platform, p.fields->>'device_model' AS device_model,
    h.protocol_key AS protocol, h.labels::text AS labels, h.is_ephemeral AS ephemeral,
    h.registered_at, h.last_seen_at,
    extract(epoch FROM clock_timestamp() - h.last_seen_at)::double precision AS silent_s,
    h.clock_skew_s,
    (
        SELECT count(*) FROM sweeps AS s
        WHERE s.host = h.name AND s.state IN ('queued', 'running') AND NOT s.cancel_requested
    ) AS num_open
FROM hosts AS h JOIN platforms AS p ON p.key = h.platform_key
"""
# The key of a workload: `Workload.key`.
SWEEPS = """
SELECT s.id, s.host, s.kind, s.kind || '[' || coalesce((
        SELECT string_agg(each.key || '=' || each.value, ',' ORDER BY each.key COLLATE "C")
        FROM json_each_text(s.params) AS each
    ), '') || ']' AS workload,
    s.mode, s.state, s.cancel_requested, s.created_at, s.started_at, s.finished_at,
    extract(epoch FROM s.started_at - s.created_at)::double precision AS waited_s,
    extract(epoch FROM s.finished_at - s.started_at)::double precision AS took_s,
    (s.progress->>'fraction')::double precision AS fraction, s.progress->>'stage' AS stage,
    (s.progress->>'num_samples')::bigint AS num_samples,
    (s.progress->>'seconds')::double precision AS seconds, s.error, c.id AS curve
FROM sweeps AS s LEFT JOIN curves AS c ON c.sweep_id = s.id
"""
CURVES = """
SELECT c.id, c.sweep_id AS sweep, c.host, c.kind, c.workload_key AS workload, (
        SELECT string_agg(each.axis, ',' ORDER BY each.number)
        FROM json_array_elements_text(c.axes) WITH ORDINALITY AS each (axis, number)
    ) AS axis_names,
    c.mode, c.platform_key AS platform, p.fields->>'device_model' AS device_model,
    c.protocol_key AS protocol, c.num_measured, c.num_failures, c.num_lhps, c.num_undecided,
    CASE WHEN c.mode = 'grid' AND c.num_measured > 0
        THEN 1 - c.num_lhps::double precision / c.num_measured
    END AS redundancy,
    c.measured_at,
    (h.platform_key, h.protocol_key) IS DISTINCT FROM (c.platform_key, c.protocol_key) AS stale,
    EXISTS (SELECT 1 FROM point_arrays AS a WHERE a.curve_id = c.id) AS has_points
FROM curves AS c JOIN platforms AS p ON p.key = c.platform_key
    LEFT JOIN hosts AS h ON h.name = c.host
"""
# The numbers of a status: `PointStatus`.
CURVE_POINTS = """
SELECT c.id AS curve, c.host, c.kind, c.workload_key AS workload, c.mode,
    c.platform_key AS platform, c.protocol_key AS protocol, c.measured_at, point.dims,
    split_part(point.dims, ',', 1)::integer AS dim_1,
    nullif(split_part(point.dims, ',', 2), '')::integer AS dim_2,
    nullif(split_part(point.dims, ',', 3), '')::integer AS dim_3,
    nullif(split_part(point.dims, ',', 4), '')::integer AS dim_4,
    '*' || substr(point.dims, strpos(point.dims || ',', ',')) AS slice,
    point.latency_s, point.low_s, point.high_s, point.num_samples,
    (ARRAY['lhp', 'dominated', 'undecided', 'edge'])[point.status] AS status,
    point.status = 1 AS is_lhp
FROM point_arrays AS a JOIN curves AS c ON c.id = a.curve_id
    CROSS JOIN LATERAL unnest(a.dims, a.latency_s, a.low_s, a.high_s, a.num_samples, a.status)
    AS point (dims, latency_s, low_s, high_s, num_samples, status)
"""
# The point that a race was asked about is the first one of its grid.
RACES = """
SELECT c.id AS curve, c.host, c.kind, c.workload_key AS workload, c.mode,
    c.platform_key AS platform, c.protocol_key AS protocol, c.measured_at, c.raced_from AS dims,
    a.first_latency_s AS latency_s, a.first_low_s AS low_s, a.first_high_s AS high_s
FROM curves AS c JOIN point_arrays AS a ON a.curve_id = c.id
WHERE c.raced_from IS NOT NULL AND a.first_latency_s IS NOT NULL
"""
FACTS = """
SELECT id, curve_id AS curve, sweep_id AS sweep, host, kind, workload_key AS workload,
    platform_key AS platform, protocol_key AS protocol, dims, rival, verdict, ratio, low, high,
    num_pairs, num_children, num_arenas, measured_at, repeats, overruled_by
FROM facts
"""
VIEWS = {
    "platforms": PLATFORMS,
    "hosts": HOSTS,
    "sweeps": SWEEPS,
    "curves": CURVES,
    "curve_points": CURVE_POINTS,
    "races": RACES,
    "facts": FACTS,
}


def upgrade() -> None:
    """Adds `point_arrays`, and in PostgreSQL the schema `dashboards` with its views.

    SQLite has the table, but no arrays, so nothing is kept in it there.
    """

    def array(item: type[sa.types.TypeEngine[Any]]) -> sa.types.TypeEngine[Any]:
        return sa.JSON().with_variant(postgresql.ARRAY(item), "postgresql")

    op.create_table(
        "point_arrays",
        sa.Column("curve_id", sa.Text(), nullable=False),
        sa.Column("dims", array(sa.Text), nullable=False),
        sa.Column("latency_s", array(sa.REAL), nullable=False),
        sa.Column("low_s", array(sa.REAL), nullable=False),
        sa.Column("high_s", array(sa.REAL), nullable=False),
        sa.Column("num_samples", array(sa.Integer), nullable=False),
        sa.Column("status", array(sa.SmallInteger), nullable=False),
        sa.Column("first_latency_s", sa.Double(), nullable=True),
        sa.Column("first_low_s", sa.Double(), nullable=True),
        sa.Column("first_high_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["curve_id"], ["curves.id"], name="fk_point_arrays_curve_id_curves"
        ),
        sa.PrimaryKeyConstraint("curve_id", name="pk_point_arrays"),
    )
    if _is_postgres():
        op.execute("CREATE SCHEMA dashboards")
        for name, query in VIEWS.items():
            op.execute(f"CREATE VIEW dashboards.{name} AS {query}")


def downgrade() -> None:
    """Drops them."""
    if _is_postgres():
        op.execute("DROP SCHEMA dashboards CASCADE")
    op.drop_table("point_arrays")


def _is_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"
