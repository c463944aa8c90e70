"""Simulated hosts, whose true latencies are known, and the service's planner racing on them.

Everything here but the planner itself shares no code with the service; only `race_on` imports it.
Measures nothing: any machine gives the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.answers.dims import Dims
from benchmarks.contender import Race, race_window
from benchmarks.learning_host import Host
from benchmarks.race_verdict import F64

if TYPE_CHECKING:
    from profiler_service.analysis.samples import Samples
    from profiler_service.grid import Grid
    from profiler_service.plan.base import Batch
    from profiler_service.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What gets in the way of a simulated call. All sizes are relative."""

    scale: float = 0.01
    """Of each call's own noise: Student's t with three degrees of freedom."""
    spikes: float = 0.03
    """Share of the calls that take much longer."""
    spike: tuple[float, float] = (0.2, 1.0)
    """How much longer these take, at least and at most."""
    first_call: float = 0.05
    """How much longer the first call of each shape takes."""
    drift: float = 0.01
    """Size of the slow wave that all calls share."""
    drift_period_s: float = 5.0
    process: float = 0.0
    """By how much each point's latency differs from process to process, a standard deviation."""
    pages: float = 0.0
    """By how much it differs with the pages that its operands lie on, likewise."""


CHILDREN = 4
"""Measuring processes of a simulated host."""


class Device:
    """A simulated host: calls of points whose true latencies `truth_s` [points] are known."""

    def __init__(self, truth_s: F64, noise: Noise, seed: int) -> None:
        self.truth_s = truth_s
        self._noise = noise
        self._rng = np.random.default_rng(seed)
        self._is_called = np.zeros((CHILDREN, len(truth_s)), dtype=np.bool_)
        self._phase = self._rng.uniform(0, 2 * np.pi)
        self._clock_s = 0.0
        self._processes = noise.process * self._rng.standard_normal(self._is_called.shape)
        self._child = 0
        self._pages: F64 = np.zeros(len(truth_s))

    def start_batch(self, child: int) -> None:
        """The calls from now on are of this process, modulo their number, on new pages."""
        self._child = child % CHILDREN
        self._pages = self._noise.pages * self._rng.standard_normal(len(self.truth_s))

    def is_warm(self, point: int) -> bool:
        """Whether the process of the batch has called this point before."""
        return bool(self._is_called[self._child, point])

    def call(self, point: int) -> float:
        """Seconds of the next call of this point."""
        noise, rng = self._noise, self._rng
        log = noise.scale * float(np.clip(rng.standard_t(3), -20, 20))
        wave = 2 * np.pi * self._clock_s / noise.drift_period_s
        log += noise.drift * float(np.sin(wave + self._phase))
        log += float(self._processes[self._child, point] + self._pages[point])
        if rng.random() < noise.spikes:
            log += float(np.log1p(rng.uniform(*noise.spike)))
        if not self._is_called[self._child, point]:
            self._is_called[self._child, point] = True
            log += float(np.log1p(noise.first_call))
        took_s = float(self.truth_s[point] * np.exp(log))
        self._clock_s += took_s
        return took_s

    @property
    def clock_s(self) -> float:
        """Seconds of all calls so far."""
        return self._clock_s


def race_on(
    device: Device,
    kind: str,
    dims: Dims,
    side: int,
    seed: int,
    *,
    budget_s: float | None = None,
    host: Host | None = None,
) -> Race:
    """The race of the service's planner over `side` × `side` points of the kind on the device.

    `budget_s` and `host` are those of `contender.race_window`.
    """
    from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
    from profiler_service.kinds import get_workload_kind

    def measure(workload: Workload, grid: Grid, batch: Batch) -> Samples:
        batch_started_s = device.clock_s
        device.start_batch(batch.child)
        time_s, latency_s = [], []
        for point in batch.point.tolist():
            is_warm = batch.warms_once and device.is_warm(point)
            for _ in range(0 if is_warm else batch.warmup_calls):
                device.call(point)
            time_s.append(device.clock_s - batch_started_s)
            took_s = sum(device.call(point) for _ in range(batch.calls))
            latency_s.append(took_s / batch.calls)
        return Samples(
            point=batch.point,
            round=batch.round,
            time_s=np.array(time_s, dtype=np.float32),
            latency_s=np.array(latency_s),
            calls=batch.calls,
            unstable=np.zeros(len(batch.point), dtype=np.bool_),
            seconds=device.clock_s - batch_started_s,
            child=batch.child % CHILDREN,
        )

    platform = Platform(
        device="cpu",
        device_model="simulated",
        memory_bytes=1 << 30,
        driver="none",
        framework="none",
        libraries=(),
        threads=1,
        cpus=1,
        flags=(),
    )
    protocol = TimingProtocol(timer="perf_counter")
    workload = get_workload_kind(kind).describe()
    return race_window(
        workload, dims, side, seed, measure, platform, protocol, budget_s=budget_s, host=host
    )
