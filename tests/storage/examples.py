"""Domain objects for the store's tests, small enough to check by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.storage.store import Host, HostStatus, Store
from profiler_service.workload import Workload

PROTOCOL = TimingProtocol(timer="perf_counter")
PROGRESS = Progress(fraction=0.25, stage="screening", num_samples=3, seconds=0.5)


def create_platform(*, threads: int = 1) -> Platform:
    return Platform(
        device="cpu",
        device_model="Example 9000",
        memory_bytes=8 << 30,
        driver="Linux 6.1",
        framework="torch 2.13.0+cpu",
        libraries=(("mkl", "2024.2"), ("onednn", "3.7")),
        threads=threads,
        cpus=threads,
        flags=(("denormals", "kept"),),
    )


def create_host(
    *,
    status: HostStatus,
    silent_s: float,
    clock_skew_s: float | None = None,
    has_been_heard: bool = True,
) -> Host:
    """A host that registered some time ago, and whose worker spoke since unless said otherwise."""
    registered_at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return Host(
        name="east",
        platform_key=create_platform().key,
        protocol_key=PROTOCOL.key,
        dtypes=("float32",),
        backends={},
        registered_at=registered_at,
        last_seen_at=registered_at + dt.timedelta(hours=1 if has_been_heard else 0),
        silent_s=silent_s,
        role="lhp_host_1",
        status=status,
        clock_skew_s=clock_skew_s,
    )


def create_spec(
    *, start: int = 1, count: int = 4, seed: int = 0, mode: Mode = "grid", batch: int = 16
) -> SweepSpec:
    """A one-axis sweep of `count` points from `start`."""
    return SweepSpec(
        workload=MATMUL.describe({"batch": batch}),
        mode=mode,
        grid=Grid(axes=(GridAxis(first=start, count=count),)),
        seed=seed,
    )


def create_samples(count: int = 3, *, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(
        point=generator.integers(0, 1000, count, dtype=np.int32),
        round=np.arange(count, dtype=np.int32),
        time_s=np.linspace(0, 1, count, dtype=np.float32),
        latency_s=generator.lognormal(-10, 0.1, count),
        calls=5,
        unstable=generator.random(count) < 0.5,
        num_discarded=2,
        failures={7: "out of memory"},
        seconds=1.5,
    )


def create_curve(
    *,
    workload: Workload | None = None,
    platform: Platform | None = None,
    failures: Mapping[int, str] | None = None,
    protocol: TimingProtocol = PROTOCOL,
) -> LatencyCurve:
    """A curve of four points: an LHP, a dominated, an undecided and an unmeasured one."""
    workload = workload or MATMUL.describe()
    nan = np.nan
    return LatencyCurve(
        workload=workload,
        platform=platform or create_platform(),
        protocol=protocol,
        grid=Grid(
            axes=(GridAxis(first=8, count=2), GridAxis(first=3, count=2, step=5))
            if workload.kind == LINEAR.name
            else (GridAxis(first=8, count=4, step=2),)
        ),
        latency_s=np.array([2.1e-5, 2.2e-5, 2.3e-5, nan]),
        low_s=np.array([2.0e-5, 2.1e-5, 2.2e-5, nan]),
        high_s=np.array([2.2e-5, 2.3e-5, 2.4e-5, nan]),
        num_samples=np.array([10, 11, 12, 0], dtype=np.int32),
        status=np.array(
            [
                PointStatus.LHP,
                PointStatus.DOMINATED,
                PointStatus.UNDECIDED,
                PointStatus.UNMEASURED,
            ],
            dtype=np.int8,
        ),
        answers=AnswerTable(
            target=np.array([0, 2, 2, -1], dtype=np.int32),
            ratio=np.array([1.01, 0.97, nan, nan]),
            ratio_low=np.array([1.0, 0.96, nan, nan]),
            ratio_high=np.array([1.02, 0.98, nan, nan]),
            rival=np.array([1, 2, -1, -1], dtype=np.int32),
        ),
        # 14:30 two hours east of Greenwich: 12:30 UTC
        measured_at=dt.datetime(
            2026, 3, 1, 14, 30, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))
        ),
        failures={3: "out of memory"} if failures is None else failures,
        evidence=Evidence(calls=500, seconds=1.25),
    )


def finish_new_sweep(store: Store, curve: LatencyCurve, *, start: int, host: str = "east") -> str:
    """The id of `curve`, kept for a sweep of its own that starts at `start`."""
    sweep, new = store.create_sweep(create_spec(start=start), host=host)
    assert new
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    return curve_id
