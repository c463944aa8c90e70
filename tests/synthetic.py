"""Synthetic devices: known latencies, with the noise, drift and neighbours of real hosts.

Shares nothing with the measuring code; only turns batches into samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.grid import Grid
from profiler_service.plan.base import Batch, Planner

PLATFORM = Platform(
    device="cpu",
    device_model="synthetic",
    memory_bytes=1 << 30,
    driver="none",
    framework="none",
    libraries=(),
    threads=1,
    cpus=1,
    flags=(),
)
PROTOCOL = TimingProtocol(timer="perf_counter")

F64 = npt.NDArray[np.float64]


@dataclass
class SyntheticDevice:
    """`latency_s` [points] is the truth; everything else is what gets in its way."""

    latency_s: F64
    noise: float = 0.03
    """Scale of the heavy-tailed noise (Student t, 3 degrees of freedom), relative."""
    spikes: float = 0.02
    """Share of samples that a pre-emption prolongs by half and more."""
    drift: float = 0.05
    """Size of the slow wave and the ramp that every point shares, relative."""
    period_s: float = 0.7
    neighbour_from_s: float = float("inf")
    """From then on a noisy neighbour makes everything 30 % slower, and three times noisier."""
    cold_penalty: float = 1.0
    """How much longer the very first call of each point takes, if it isn't warmed up."""
    num_children: int = 4
    """Measuring processes."""
    tau_children: float = 0.0
    """Standard deviation of the log of a ratio of two points between measuring processes."""
    tau_arenas: float = 0.0
    """The same between batches, each of which maps new memory."""
    failing: frozenset[int] = frozenset()
    seed: int = 0
    clock_s: float = 0.0
    visits: int = 0
    _rng: np.random.Generator = field(init=False)
    _warm: npt.NDArray[np.bool_] = field(init=False)
    _warm_of: dict[int, set[int]] = field(init=False, default_factory=dict)
    """The points that each measuring process has visited."""
    _of_child: dict[int, F64] = field(init=False, default_factory=dict)
    """The log factor of each point in each measuring process."""
    _repeat_rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._repeat_rng = np.random.default_rng([self.seed, 77])
        self._warm = np.zeros(len(self.latency_s), dtype=bool)

    def measure(self, batch: Batch) -> Samples:
        ok = ~np.isin(batch.point, list(self.failing))
        point = batch.point[ok]
        n = len(point)
        child = batch.child % self.num_children
        truth = (self.latency_s * np.exp(self._repeat(child)))[point]
        warm = self._warm_of.setdefault(child, set())
        is_new = np.zeros(n, dtype=bool)
        is_new[np.unique(point, return_index=True)[1]] = True
        is_new &= ~np.isin(point, list(warm))
        warm |= {*point.tolist()}
        untimed = batch.warmup_calls * np.where(is_new, 1, 0 if batch.warms_once else 1)
        cost = truth * (batch.calls + untimed) + 5e-6
        start = self.clock_s + np.r_[0.0, np.cumsum(cost)[:-1]] if n else np.zeros(0)
        wave = self.drift * np.sin(2 * np.pi * start / self.period_s) + self.drift * start / 10
        busy = start >= self.neighbour_from_s
        noise = self.noise * np.where(busy, 3.0, 1.0) * self._rng.standard_t(3, n)
        spike = np.where(self._rng.random(n) < self.spikes, self._rng.uniform(0.5, 1.0, n), 0.0)
        factor = np.exp(np.clip(noise, -0.5, 2.0) / np.sqrt(batch.calls) + wave + spike)
        if batch.warmup_calls == 0 and self.cold_penalty != 1:
            is_first = np.zeros(n, dtype=bool)
            is_first[np.unique(point, return_index=True)[1]] = True
            factor *= np.where(is_first & ~self._warm[point], self.cold_penalty, 1.0)
        self._warm[point] = True
        seconds = float(cost.sum())
        samples = Samples(
            point=point,
            round=batch.round[ok],
            time_s=(start - self.clock_s).astype(np.float32),
            latency_s=truth * factor * np.where(busy, 1.3, 1.0),
            calls=batch.calls,
            unstable=np.zeros(n, dtype=bool),
            failures={int(p): "synthetic failure" for p in np.unique(batch.point[~ok])},
            seconds=seconds,
            child=child,
        )
        self.clock_s += seconds
        self.visits += n
        return samples

    def _repeat(self, child: int) -> F64 | float:
        """The log factor of each point in this process and a new arena.

        A ratio of two points has two such factors, so each has the deviation τ / √2.
        """
        if not self.tau_children and not self.tau_arenas:
            return 0.0
        if child not in self._of_child:
            self._of_child[child] = self._draw(self.tau_children)
        return self._of_child[child] + self._draw(self.tau_arenas)

    def _draw(self, tau: float) -> F64:
        factor: F64 = tau / np.sqrt(2) * self._repeat_rng.standard_normal(len(self.latency_s))
        return factor

    def run(self, planner: Planner) -> None:
        """Measures until the planner is content."""
        while (batch := planner.next_batch()) is not None:
            planner.record(self.measure(batch))


def smooth(grid: Grid, unit_s: float = 2e-11) -> F64:
    """A latency that only grows: 20 µs and, at batch 16, `unit_s` a multiply-add."""
    dims = grid.all_dims().astype(np.float64)
    weights = dims.prod(axis=1) if dims.shape[1] > 1 else dims[:, 0] ** 2
    latency: F64 = 20e-6 + unit_s * 16 * weights
    return latency


def stairs(grid: Grid, multiple: int, step: float = 0.03) -> F64:
    """`smooth`, and `step` slower for every axis whose dimension is no multiple of `multiple`."""
    return slow_where(grid, lambda dim: dim % multiple != 0, step)


def slow_where(
    grid: Grid, is_slow: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.bool_]], step: float
) -> F64:
    """`smooth`, and `step` slower for every axis whose dimension `is_slow`."""
    dims = grid.all_dims()
    factor = np.ones(grid.size)
    for axis in range(dims.shape[1]):
        factor *= np.where(is_slow(dims[:, axis]), 1 + step, 1.0)
    return smooth(grid) * factor
