"""Fills a database with synthetic curves: this part alone uses the service's own store."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np

HOST = "stored"
FIRST, SIDE = 200, 100
"""Each curve is a grid of SIDE × SIDE points from FIRST × FIRST on: 10,000 points."""
LAST_ASKED = 256
"""Largest dims asked for on each axis: the window above it (an eighth) is inside of the curve."""


def fill(database_url: str, num_curves: int) -> None:
    """Stores so many curves of `linear`, one for each batch size from 1 on."""
    from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
    from profiler_service.analysis.lhp import suffix_argmin
    from profiler_service.analysis.samples import Platform, TimingProtocol
    from profiler_service.grid import Grid, GridAxis
    from profiler_service.kinds import LINEAR
    from profiler_service.plan.spec import SweepSpec, SweepState
    from profiler_service.storage.store import Store

    platform = Platform(
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
    axis = GridAxis(first=FIRST, count=SIDE)
    grid = Grid(axes=(axis, axis))
    dims = grid.all_dims()
    latency_s = 1e-9 * dims.prod(axis=1) * np.where((dims % 8 == 0).all(axis=1), 1.0, 1.5)
    target = suffix_argmin(latency_s.reshape(grid.shape)).ravel()
    ratio = latency_s[target] / latency_s
    is_lhp = target == np.arange(grid.size)
    protocol = TimingProtocol(timer="perf_counter")
    curve = LatencyCurve(
        workload=LINEAR.describe(),
        platform=platform,
        protocol=protocol,
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
    store = Store.open(database_url)
    store.register_host(HOST, platform, protocol=protocol, dtypes=("float32",))
    for number in range(num_curves):
        workload = LINEAR.describe({"batch": number + 1})
        spec = SweepSpec(workload=workload, mode="grid", grid=grid)
        sweep, _ = store.create_sweep(spec, host=HOST)
        store.start_sweep(sweep.id)
        store.finish_sweep(sweep.id, replace(curve, workload=workload), state=SweepState.DONE)
    store.close()
