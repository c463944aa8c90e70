"""A model whose host is known by hand: what a store has when a host has learned enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from profiler_service.answering.learned_models import get_basis
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.latency_model.calibration import Score
from profiler_service.latency_model.settings import VERSION
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.model_records import ModelKey, ScoredPair
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.api.conftest import HOST
from tests.api.curves import PLATFORM, PROTOCOL

NOISE = 0.003
FIRST, LAST = 64, 512
"""What was measured of each axis."""


def log_latency(dims: npt.NDArray[np.int64], penalty: float = 0.05) -> npt.NDArray[np.float64]:
    """Latency grows like the root of each dimension, and by `penalty` if it is no multiple of 8."""
    log: npt.NDArray[np.float64] = 0.5 * np.log(dims) + penalty * (dims % 8 != 0)
    return np.asarray(log.sum(axis=1))


def teach(store: Store, *, workload: Workload | None = None, penalty: float = 0.05) -> None:
    """The store's model learns from one more sweep, as if it had visited 2,000 points."""
    workload = workload or LINEAR.describe()
    num_axes = len(workload.axes)
    rng = np.random.default_rng(7)
    dims = rng.integers(FIRST, LAST + 1, size=(2000, num_axes)).astype(np.int64)
    basis = get_basis(num_axes)
    rows, value = basis.rows(dims), log_latency(dims, penalty)
    rows, value = rows - rows.mean(axis=0), value - value.mean()
    found = Statistics(
        matrix=rows.T @ rows / NOISE**2,
        right=rows.T @ value / NOISE**2,
        num_visits=float(len(dims)),
        num_sweeps=1.0,
        windows=np.tile(np.array([[FIRST, LAST]], dtype=np.int64), (1, num_axes, 1)),
    )
    store.learn(create_sweep(store, workload), key_of(workload), found, version=VERSION)


def score(store: Store, num: int, *, error: float = 0.5, half_width: float | None = None) -> None:
    """So many predictions are held against measurements: off by `error` deviations of 1 %.

    One half was slower than predicted, the other one faster.
    """
    for number in range(num):
        side = 1 if number % 2 else -1
        store.add_score(
            create_sweep(store, LINEAR.describe()),
            key_of(LINEAR.describe()),
            ScoredPair(
                workload_key=LINEAR.describe().key,
                dims=(100, 100),
                rival=(104, 104),
                score=Score(
                    predicted=-0.06,
                    deviation=0.01,
                    half_width=half_width,
                    distance=0.0,
                    measured=-0.06 + side * error * 0.01,
                ),
            ),
        )


def key_of(workload: Workload) -> ModelKey:
    return ModelKey(workload=workload, platform_key=PLATFORM.key, protocol_key=PROTOCOL.key)


def create_sweep(store: Store, workload: Workload) -> str:
    """A sweep that has ended without a curve, far from all questions; its id."""
    dims = (9000,) * len(workload.axes)
    spec = SweepSpec(workload=workload, mode="grid", grid=Grid.window(dims, (0,) * len(dims)))
    sweep, _ = store.create_sweep(spec, host=HOST)
    store.start_sweep(sweep.id)
    store.fail_sweep(sweep.id, "its curve was deleted")
    return sweep.id
