"""A made-up host, and a curve of it: for benchmarks that store curves without measuring them.

It uses the service's own types. So only what fills a database imports it, never a referee.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable

import numpy as np
import sqlalchemy as sa

from profiler_service.analysis.curve import F64, AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.lhp import suffix_argmin
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage import rows, tables
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.statements import read_now
from profiler_service.storage.store import Store
from profiler_service.storage.tables import curve_arrays, generation, sweeps
from profiler_service.workload import Workload

CHUNK = 250
"""Curves stored in one transaction."""

PLATFORM = Platform(
    device="cpu",
    device_model="synthetic",
    memory_bytes=1 << 36,
    driver="",
    framework="",
    libraries=(),
    threads=1,
    cpus=1,
    flags=(),
)
PROTOCOL = TimingProtocol(timer="perf_counter")


def make_curve(*, first: int, side: int) -> LatencyCurve:
    """A curve of `linear`: side × side points from first × first on; multiples of 8 are fast."""
    axis = GridAxis(first=first, count=side)
    grid = Grid(axes=(axis, axis))
    dims = grid.all_dims()
    latency_s = 1e-9 * dims.prod(axis=1) * np.where((dims % 8 == 0).all(axis=1), 1.0, 1.5)
    return describe_curve(LINEAR.describe(), grid, latency_s)


def describe_curve(workload: Workload, grid: Grid, latency_s: F64) -> LatencyCurve:
    """The curve of such latencies, float64 [points], in seconds: every comparison is certain."""
    target = suffix_argmin(latency_s.reshape(grid.shape)).ravel()
    ratio = latency_s[target] / latency_s
    is_lhp = target == np.arange(grid.size)
    return LatencyCurve(
        workload=workload,
        platform=PLATFORM,
        protocol=PROTOCOL,
        grid=grid,
        latency_s=latency_s,
        low_s=latency_s * 0.999,
        high_s=latency_s * 1.001,
        num_samples=np.full(grid.size, 30, dtype=np.int32),
        status=np.where(is_lhp, PointStatus.LHP, PointStatus.DOMINATED).astype(np.int8),
        answers=AnswerTable(
            target=target, ratio=ratio, ratio_low=ratio * 0.99, ratio_high=ratio * 1.01
        ),
        measured_at=dt.datetime.now(dt.UTC),
    )


def store_curve(store: Store, host: str, curve: LatencyCurve) -> str:
    """The id of the curve, stored as that of a sweep by the host, which is registered."""
    spec = SweepSpec(workload=curve.workload, mode="grid", grid=curve.grid)
    sweep, _ = store.create_sweep(spec, host=host)
    store.start_sweep(sweep.id)
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    return curve_id


def store_many(database_url: str, host: str, curves: Iterable[LatencyCurve]) -> int:
    """How many curves were stored as those of sweeps by the host, which is registered.

    In a few large transactions: a service that is running meanwhile would wait for them.
    """
    engine = create_database_engine(parse_url(database_url))
    stored = 0
    source = iter(curves)
    try:
        while chunk := list(itertools.islice(source, CHUNK)):
            with engine.begin() as connection:
                now = read_now(connection)
                newest = connection.scalar(sa.select(generation.c.value)) or 0
                made = [
                    _make_rows(curve, host, now, newest + number)
                    for number, curve in enumerate(chunk, start=1)
                ]
                for table, values in zip(
                    (sweeps, tables.curves, curve_arrays), zip(*made, strict=True), strict=True
                ):
                    connection.execute(sa.insert(table), list(values))
                connection.execute(sa.update(generation).values(value=newest + len(chunk)))
            stored += len(chunk)
    finally:
        engine.dispose()
    return stored


def _make_rows(
    curve: LatencyCurve, host: str, now: dt.datetime, number: int
) -> tuple[rows.Values, rows.Values, rows.Values]:
    """The rows of a sweep that is done, of its curve's header and of its arrays."""
    spec = SweepSpec(workload=curve.workload, mode="grid", grid=curve.grid)
    sweep = rows.sweep_to_values(spec, host=host, demand=None, now=now)
    sweep |= {"state": SweepState.DONE, "started_at": now, "finished_at": now}
    header = rows.curve_to_values(curve, now=now)
    header |= {
        "sweep_id": sweep["id"],
        "host": host,
        "mode": spec.mode,
        "generation": number,
        "raced_from": None,
    }
    arrays = {"curve_id": header["id"], **rows.curve_arrays_to_values(curve)}
    return sweep, header, arrays
