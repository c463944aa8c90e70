"""Small curves with answers known by hand, without noise."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.lhp import find_edges, suffix_argmin
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.workload import Workload

PLATFORM = Platform(
    device="cpu",
    device_model="Synthetic 9000",
    memory_bytes=4 << 30,
    driver="none",
    framework="none 1.0",
    libraries=(("blas", "3.14"),),
    threads=1,
    cpus=1,
    flags=(("tf32", "off"),),
)
PROTOCOL = TimingProtocol(timer="perf_counter")
NUM_SAMPLES = 20
MEASURED_AT = dt.datetime(2025, 11, 22, 12, 0, tzinfo=dt.UTC)

Latency = Callable[[Sequence[int]], float]


def stairs(multiple: int) -> Latency:
    """1 ms if every dim is a multiple of `multiple`, else 2 ms; and 1 µs per unit of dim."""

    def latency_s(dims: Sequence[int]) -> float:
        step = 1e-3 if all(dim % multiple == 0 for dim in dims) else 2e-3
        return step + 1e-6 * sum(dims)

    return latency_s


def build_curve(
    grid: Grid,
    latency: Latency,
    *,
    workload: Workload | None = None,
    platform: Platform = PLATFORM,
    protocol: TimingProtocol = PROTOCOL,
    failing: Sequence[Sequence[int]] = (),
    num_samples: int = NUM_SAMPLES,
) -> LatencyCurve:
    """The curve of a device that has no noise: intervals of ±0.1 %."""
    failures = {grid.find_index(dims): "out of memory" for dims in failing}
    failed = np.isin(np.arange(grid.size), [index for index in failures if index is not None])
    latency_s = np.array([latency(dims) for dims in grid])
    latency_s[failed] = np.nan
    target = suffix_argmin(latency_s.reshape(grid.shape)).ravel()
    target[failed] = -1
    ratio = np.where(failed, np.nan, latency_s[target] / latency_s)
    status = np.where(target == np.arange(grid.size), PointStatus.LHP, PointStatus.DOMINATED)
    status[failed] = PointStatus.UNMEASURED
    status[find_edges(~failed.reshape(grid.shape)).ravel()] = PointStatus.EDGE
    return LatencyCurve(
        workload=workload or LINEAR.describe(),
        platform=platform,
        protocol=protocol,
        grid=grid,
        latency_s=latency_s,
        low_s=latency_s * 0.999,
        high_s=latency_s * 1.001,
        num_samples=np.where(failed, 0, num_samples).astype(np.int32),
        status=status.astype(np.int8),
        answers=AnswerTable(
            target=target, ratio=ratio, ratio_low=ratio * 0.99, ratio_high=ratio * 1.01
        ),
        measured_at=MEASURED_AT,
        failures={index: reason for index, reason in failures.items() if index is not None},
        evidence=Evidence(calls=grid.size * num_samples, seconds=1.5),
    )


def square(first: int, last: int) -> Grid:
    """The two-axis grid of every point from `first` to `last` on both axes."""
    axis = GridAxis(first=first, count=last - first + 1)
    return Grid(axes=(axis, axis))
