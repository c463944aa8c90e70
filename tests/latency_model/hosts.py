"""Synthetic hosts with known effects, and what their sweeps say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.first_visits import find_first_visits
from profiler_service.latency_model.fit import Fit, fit
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.base import Batch
from tests.synthetic import SyntheticDevice

F64 = npt.NDArray[np.float64]
Truth = Callable[[npt.NDArray[np.int64]], F64]
"""The log latency [points] of dims [points, axes]."""

CALIBRATION_VISITS = 20


def effects_of_tiles(points: npt.NDArray[np.int64]) -> F64:
    """A host whose every axis has a trend, classes, growing classes and tiles.

    - Latency grows like the dimension to the power 0.8.
    - Multiples of 16 are 5 % faster.
    - Odd dims are 2 % slower for each octave above 512, and faster below.
    - Tiles of 64 are filled: latency grows like the filled-up dimension to the power 0.25, too.
    """
    log: F64 = np.full(len(points), np.log(20e-6) - 0.8 * np.log(512) * points.shape[1])
    for dims in points.T:
        log += 0.8 * np.log(dims)
        log -= 0.05 * (dims % 16 == 0)
        log += 0.02 * (dims % 2 == 1) * (np.log2(dims) - 9)
        log += 0.25 * np.log(-(-dims // 64) * 64 / dims)
    return log


def no_effects(points: npt.NDArray[np.int64]) -> F64:
    """A host on which all points are equally fast, up to growth."""
    log: F64 = np.log(20e-6) + 0.7 * np.log(points / 512).sum(axis=1)
    return log


@dataclass(kw_only=True)
class Host:
    """A synthetic host: drift, heavy tails and pre-empted calls, as in `tests.synthetic`."""

    truth: Truth
    noise: float = 0.02
    drift: float = 0.05
    spikes: float = 0.02

    def measure(self, grid: Grid, points: Sequence[npt.ArrayLike], seed: int) -> list[Samples]:
        """A sweep: a calibration of the first point, and then these batches of points."""
        device = SyntheticDevice(
            np.exp(self.truth(grid.all_dims().astype(np.int64))),
            noise=self.noise,
            drift=self.drift,
            spikes=self.spikes,
            period_s=0.01,
            seed=seed,
        )
        calibration = np.zeros(CALIBRATION_VISITS)
        batches = [np.asarray(each, dtype=np.int32) for each in (calibration, *points)]
        return [
            device.measure(
                Batch(
                    point=batch,
                    round=np.full(len(batch), number, dtype=np.int32),
                    calls=1,
                    warmup_calls=1,
                )
            )
            for number, batch in enumerate(batches)
        ]

    def visit(self, grid: Grid, count: int, seed: int) -> list[Samples]:
        """A sweep of so many points of the grid, in random order, in batches of 64."""
        rng = np.random.default_rng([seed, 1])
        points = rng.permutation(grid.size)[:count]
        return self.measure(
            grid, [points[start : start + 64] for start in range(0, count, 64)], seed
        )


def random_window(seed: int, num_axes: int) -> Grid:
    """A window above random dims from 100 to 1,300, an eighth of each dimension wide."""
    dims = np.random.default_rng([seed, 2]).integers(100, 1300, num_axes).tolist()
    return Grid.window(dims, [max(dim // 8, 8) for dim in dims])


def learn_from(
    host: Host,
    windows: Sequence[Grid],
    *,
    count: int = 200,
    before: Statistics | None = None,
    basis: Basis | None = None,
) -> Fit:
    """The fit after one sweep over each window, learned from one after the other."""
    basis = basis or Basis(len(windows[0].axes))
    known = before or Statistics.empty(basis.size, basis.num_axes)
    for seed, grid in enumerate(windows):
        visits = find_first_visits(host.visit(grid, min(count, grid.size), seed), grid)
        known = known.followed_by(learn(visits, fit(basis, known)))
    return fit(basis, known)


def true_log_ratios(truth: Truth, grid: Grid) -> F64:
    """The log latency of each point of the grid, less the first one's."""
    log = truth(grid.all_dims().astype(np.int64))
    ratios: F64 = log - log[0]
    return ratios
