"""The worker learns from its sweeps: the real planner and runner on a synthetic device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from profiler_service.answering.learned_models import get_basis, load_fit
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, LINEAR_KERNELS
from profiler_service.latency_model.fit import fit
from profiler_service.latency_model.settings import VERSION
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.base import Batch, Part
from profiler_service.plan.create import create_planner
from profiler_service.plan.learned import Learned, PredictedPair
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.processes.learning import Learning
from profiler_service.processes.sweep_runner import SweepRunner
from profiler_service.storage.model_records import ModelKey
from profiler_service.storage.store import Store, Sweep
from profiler_service.workload import Dims, Workload
from tests.storage.examples import create_samples
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice

HOST = "host"
KEY = ModelKey(workload=LINEAR.describe(), platform_key=PLATFORM.key, protocol_key=PROTOCOL.key)
UNEVEN = 1.1
"""Dims that aren't multiples of 8 take so much longer, on each axis."""


class Measurer:
    """A host on which multiples of 8 win, everywhere."""

    platform = PLATFORM
    protocol = PROTOCOL
    dtypes = ("float32",)
    backends = {"dense": ("float32",)}  # noqa: RUF012
    measured_cpus = ()

    def __init__(self) -> None:
        self._devices: dict[Grid, SyntheticDevice] = {}

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        if grid not in self._devices:
            dims = grid.all_dims().astype(np.float64)
            uneven = (dims % 8 != 0).sum(axis=1)
            latency_s = 1e-9 * dims.prod(axis=1) * UNEVEN**uneven
            self._devices[grid] = SyntheticDevice(latency_s, noise=0.005, spikes=0.0, drift=0.0)
        return Part(samples=self._devices[grid].measure(batch), rest=None)

    def read_gpu_use(self) -> float | None:
        return None

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        return {}

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def host(store: Store) -> Store:
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
    return store


def race(dims: Dims, learned: Learned | None = None) -> SweepSpec:
    grid = Grid.window(dims, (16, 16))
    return SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid, learned=learned)


def run(store: Store, spec: SweepSpec, learning: Learning | None) -> Sweep:
    """The sweep, after a runner has measured all of it."""
    sweep, _ = store.create_sweep(spec, host=HOST)
    runner = SweepRunner(store=store, measurer=Measurer(), learning=learning)
    while not runner.run_batch(sweep.id):
        pass
    return store.get_sweep(sweep.id)


def test_a_sweep_is_learned_from_when_it_ends(host: Store) -> None:
    learning = Learning(host, host.get_host(HOST))
    for dims in ((101, 203), (301, 97)):
        assert run(host, race(dims), learning).state is SweepState.DONE
    model = host.find_model(KEY, version=VERSION)
    assert model is not None
    # The first of two counts a little less than the second: 2^(-1/400) + 1.
    assert model.header.num_sweeps == pytest.approx(2 ** (-1 / 400) + 1)
    fit = load_fit(host, KEY)
    assert fit is not None
    # Both axes: (201, 201) isn't a multiple of 8, (208, 208) is. Growth: 2 · log(208 / 201).
    predicted = fit.predict([np.array([201, 208])] * 2)[1, 1]
    true = 2 * math.log(208 / 201) - 2 * math.log(UNEVEN)
    assert predicted == pytest.approx(true, abs=0.03)
    assert not learning.consider() or host.find_model(KEY, version=VERSION) is not None


def test_what_was_predicted_is_scored_even_if_the_race_drops_it(host: Store) -> None:
    # A model that is wrong: (102, 203) is no faster than (101, 203).
    pair = PredictedPair(
        dims=(102, 203), log_ratio=-0.1, deviation=0.01, half_width=0.05, distance=0.3
    )
    sweep = run(
        host,
        race((101, 203), Learned(effects=None, pair=pair)),
        Learning(host, host.get_host(HOST)),
    )
    assert sweep.curve_id is not None
    curve = host.load_curve(sweep.curve_id)
    assert curve.grid.dims(int(curve.answers.target[0])) == (104, 208)
    [scored] = host.list_scores("linear", PLATFORM.key, PROTOCOL.key, limit=10)
    assert (scored.dims, scored.rival) == ((101, 203), (102, 203))
    # log(102 / 101) = 0.0099 slower.
    assert scored.score.measured == pytest.approx(0.0099, abs=0.005)
    assert scored.score.is_miss
    assert scored.score.distance == 0.3


def test_without_a_prediction_nothing_is_scored(host: Store) -> None:
    run(host, race((101, 203)), Learning(host, host.get_host(HOST)))
    assert host.list_scores("linear", PLATFORM.key, PROTOCOL.key, limit=10) == []


def test_an_idle_worker_learns_from_what_it_measured_before(host: Store) -> None:
    for dims in ((101, 203), (301, 97)):
        run(host, race(dims), None)
    assert host.find_model(KEY, version=VERSION) is None
    learning = Learning(host, host.get_host(HOST))
    waiting, _ = host.create_sweep(race((501, 97)), host=HOST)
    assert not learning.consider()  # it isn't idle
    host.request_cancel(waiting.id)
    assert learning.consider() and learning.consider()
    model = host.find_model(KEY, version=VERSION)
    assert model is not None
    # Oldest first.
    assert model.statistics.windows[:, :, 0].tolist() == [[101, 203], [301, 97]]
    # Then the spreads, and then there is nothing left to do.
    assert learning.consider()
    model = host.find_model(KEY, version=VERSION)
    assert model is not None and model.header.spreads is not None
    assert not learning.consider()


def test_spreads_are_learned_around_the_prior_whatever_relatives_say(host: Store) -> None:
    """Others take spreads over with a model's statistics, and use them around the prior."""
    learning = Learning(host, host.get_host(HOST))
    run(host, race((101, 203)), learning)
    model = host.find_model(KEY, version=VERSION)
    assert model is not None
    basis = get_basis(2)
    expected = fit(basis, model.statistics).find_spreads()
    # A relative: the same kind with another parameter that chooses no kernel, learned from before.
    relative = dataclasses.replace(KEY, workload=LINEAR.describe({"batch": 3}))
    found = dataclasses.replace(model.statistics, num_visits=999.0)
    other, _ = host.create_sweep(race((501, 97)), host=HOST)
    host.learn(other.id, relative, found, version=VERSION)
    host.request_cancel(other.id)
    around = load_fit(host, KEY)
    assert around is not None and around.find_spreads() != pytest.approx(expected)
    assert learning.consider()
    model = host.find_model(KEY, version=VERSION)
    assert model is not None and model.header.spreads == pytest.approx(expected)


def test_a_pruned_sweep_is_learned_from_its_first_visits(host: Store) -> None:
    sweep = run(host, race((101, 203)), None)
    while host.prune_some(older_than_s=0) is not None:
        pass
    assert Learning(host, host.get_host(HOST)).consider()
    model = host.find_model(KEY, version=VERSION)
    assert model is not None and sweep.progress is not None
    # Every point of the window of 17 × 17 but the first, whose first visits are the calibration's.
    assert 16 < model.header.num_visits < 17 * 17


def test_an_idle_worker_catches_up_for_a_second_at_a_time(host: Store) -> None:
    for dims in ((101, 203), (301, 97), (501, 97)):
        run(host, race(dims), None)
    learning = Learning(host, host.get_host(HOST))
    # Its end, and then what the clock says before each sweep: two fit into a second.
    seconds = iter([0.0, 0.0, 0.6, 1.2])
    assert learning.catch_up(clock=lambda: next(seconds)) == 2
    # The third sweep, then the spreads; then there is nothing left.
    assert learning.catch_up(clock=lambda: 0.0) == 2
    assert learning.catch_up(clock=lambda: 0.0) == 0


class Broken(Learning):
    """Learns nothing, and says why."""

    def _learn(self, *_: object) -> None:
        raise ArithmeticError("no")


def test_a_sweep_ends_well_even_if_learning_fails(
    host: Store, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = run(host, race((101, 203)), Broken(host, host.get_host(HOST)))
    assert sweep.state is SweepState.DONE and sweep.curve_id is not None
    assert "couldn't learn from sweep" in caplog.text
    # Later, by a version that can.
    assert Learning(host, host.get_host(HOST)).consider()


def test_sweeps_without_an_order_of_their_points_are_not_learned_from(host: Store) -> None:
    kernels = SweepSpec(workload=LINEAR_KERNELS.describe(), mode="kernels", grid=ALL_KERNELS)
    sweep, _ = host.create_sweep(kernels, host=HOST)
    Learning(host, host.get_host(HOST)).learn_from(sweep.id, create_planner(kernels))
    kind = kernels.workload.kind
    assert host.find_model_headers(kind, PLATFORM.key, PROTOCOL.key, version=VERSION) == []


def test_a_sweep_with_too_few_visits_is_not_tried_again(host: Store) -> None:
    sweep, _ = host.create_sweep(race((101, 203)), host=HOST)
    host.start_sweep(sweep.id)
    progress = Progress(fraction=1.0, stage="finished", num_samples=3, seconds=0.1)
    host.commit_batch(sweep.id, 0, create_samples(), progress)
    assert host.learn(
        sweep.id,
        KEY,
        Statistics.empty(3, 2),
        version=VERSION,
    )
    assert not host.learn(sweep.id, KEY, Statistics.empty(3, 2), version=VERSION)
    assert host.find_model(KEY, version=VERSION) is None


def test_a_model_of_another_version_is_made_anew(host: Store) -> None:
    learning = Learning(host, host.get_host(HOST))
    run(host, race((101, 203)), learning)
    found = host.find_model(KEY, version=VERSION)
    assert found is not None
    assert host.find_model(KEY, version="0-old") is None
    # An older version would find the same sweep, and learn from it.
    unlearned = host.find_unlearned(HOST, version="0-old", modes=["race"])
    assert unlearned is not None and unlearned.key == KEY
    assert dataclasses.astuple(unlearned.grid) == dataclasses.astuple(race((101, 203)).grid)
