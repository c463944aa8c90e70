"""Fills databases with synthetic curves: this part alone uses the service's own store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.stored_curve import (
    PLATFORM,
    PROTOCOL,
    describe_curve,
    make_curve,
    store_curve,
    store_many,
)
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Store

HOST = "pages"
FIRST, SIDE = 16, 8
"""Each curve of the list is a grid of SIDE × SIDE points."""
NOISE = 0.01
KINDS = ("line", "grid", "lhps")
"""Kinds of large curves: of one axis with noise, of two axes, and of one axis with nothing but
LHPs, of which a figure can leave out nothing but LHPs."""


def fill(
    database_url: str, *, num_curves: int, num_points: int, looks: int
) -> dict[str, list[str]]:
    """Ids of the large curves by kind, `looks` of each, stored beside a list of small ones."""
    store = Store.open(database_url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    store_many(database_url, HOST, _small_curves(num_curves))
    large = {
        kind: [
            store_curve(store, HOST, _large_curve(kind, num_points, number))
            for number in range(looks)
        ]
        for kind in KINDS
    }
    store.close()
    return large


def add_what_pages_show(database_url: str, host: str, num_points: int) -> tuple[str, list[str]]:
    """A sweep under way, which pages follow, and ids of two curves to draw and to compare."""
    store = Store.open(database_url)
    curves = [store_curve(store, host, _large_curve("line", num_points, n)) for n in range(2)]
    axis = GridAxis(first=FIRST, count=SIDE)
    spec = SweepSpec(workload=MATMUL.describe(), mode="grid", grid=Grid(axes=(axis,)))
    sweep, _ = store.create_sweep(spec, host=host)
    store.start_sweep(sweep.id)
    store.close()
    return sweep.id, curves


def _small_curves(count: int) -> Iterator[LatencyCurve]:
    curve = make_curve(first=FIRST, side=SIDE)
    for number in range(count):
        yield replace(curve, workload=LINEAR.describe({"batch": number + 1}))


def _large_curve(kind: str, num_points: int, seed: int) -> LatencyCurve:
    """A curve of that kind with about so many points; no two seeds have one workload."""
    workload = MATMUL.describe({"batch": seed + 1})
    if kind == "grid":
        curve = make_curve(first=1, side=round(num_points**0.5))
        return replace(curve, workload=LINEAR.describe({"batch": 100_000 + seed}))
    grid = Grid(axes=(GridAxis(first=1, count=num_points),))
    size = grid.all_dims()[:, 0].astype(np.float64)
    latency_s = 1e-6 + 1e-9 * size
    if kind == "line":
        generator = np.random.default_rng(seed)
        latency_s *= np.where(size % 8 == 0, 1.0, 1.3) * generator.lognormal(0, NOISE, num_points)
    return describe_curve(workload, grid, latency_s)
