"""A made-up host, and a curve of it: for benchmarks that store curves without measuring them.

It uses the service's own types. So only what fills a database imports it, never a referee.
"""

from __future__ import annotations

import datetime as dt

import numpy as np

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.lhp import suffix_argmin
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage.store import Store

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
    target = suffix_argmin(latency_s.reshape(grid.shape)).ravel()
    ratio = latency_s[target] / latency_s
    is_lhp = target == np.arange(grid.size)
    return LatencyCurve(
        workload=LINEAR.describe(),
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


def store_curve(store: Store, host: str, curve: LatencyCurve) -> None:
    """Stores the curve as that of a sweep by the host, which is registered."""
    spec = SweepSpec(workload=curve.workload, mode="grid", grid=curve.grid)
    sweep, _ = store.create_sweep(spec, host=host)
    store.start_sweep(sweep.id)
    store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
