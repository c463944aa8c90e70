"""Predictions from what hosts have learned, read from a real store."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.analysis.neighbours import Neighbours
from profiler_service.analysis.samples import Platform
from profiler_service.answering.learned_models import empty_fit, load_fit
from profiler_service.answering.predictions import (
    FRESH_S,
    LOADING,
    OLD_S,
    PredictedWindow,
    Predictions,
)
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.latency_model.calibration import Standing
from profiler_service.latency_model.first_visits import FirstVisits
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.settings import VERSION
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.model_records import ModelKey
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Workload
from tests.api.conftest import HOST
from tests.api.curves import PLATFORM, PROTOCOL
from tests.storage.test_platform_changes import A, B, finish, register

WINDOW = Grid.window((201, 301), (31, 31))
SPEC = SweepSpec(workload=LINEAR.describe(), mode="race", grid=WINDOW)

LEARNED: dict[tuple[object, ...], Statistics] = {}
"""What visits say, by the window, the slowness, and what was known before."""


def key_of(workload: Workload, platform: Platform = PLATFORM) -> ModelKey:
    return ModelKey(workload=workload, platform_key=platform.key, protocol_key=PROTOCOL.key)


def teach(
    store: Store, key: ModelKey, *, sweeps: int, host: str = HOST, slower: float = 0.1
) -> None:
    """Lets the model learn windows where multiples of 8 win, by `slower` on each axis."""
    rng = np.random.default_rng(7)
    for number in range(sweeps):
        first = rng.integers(100, 600, 2)
        points = first + rng.integers(0, 32, (300, 2))
        log = np.log(points).sum(axis=1) + slower * (points % 8 != 0).sum(axis=1)
        visits = FirstVisits(
            points=points,
            log_latency=log + 0.005 * rng.standard_normal(300),
            near=Neighbours.of_lengths([300]),
        )
        grid = Grid.window(first.tolist(), (31, 31))
        spec = SweepSpec(workload=key.workload, mode="race", grid=grid, seed=number)
        sweep, _ = store.create_sweep(spec, host=host)
        before = load_fit(store, key) or empty_fit(2)
        # The tests teach the same windows again and again, each once on SQLite and on PostgreSQL.
        known = hashlib.sha256(before.precision.tobytes() + before.right.tobytes()).digest()
        asked = (number, slower, known)
        if asked not in LEARNED:
            LEARNED[asked] = learn(visits, before)
        found = LEARNED[asked]
        assert store.learn(sweep.id, key, found, version=VERSION)
        store.request_cancel(sweep.id)


@pytest.fixture
def host(store: Store) -> Host:
    return store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"])


async def predict(predictions: Predictions, platform: Platform = PLATFORM) -> PredictedWindow:
    return await predictions.predict(
        LINEAR.describe(), WINDOW, platform_key=platform.key, protocol_key=PROTOCOL.key
    )


pytestmark = pytest.mark.anyio


async def test_nothing_learned_promises_nothing(store: Store, host: Host) -> None:
    predictions = Predictions(store)
    found = await predict(predictions)
    # Growth alone: the queried point itself is the fastest.
    assert found.model.is_empty and found.prediction.pair.dims == (201, 301)
    assert found.landscape.distance == float("inf")
    assert await predictions.prepare(SPEC, host) == SPEC


async def test_what_was_learned_elsewhere_is_predicted_here(store: Store, host: Host) -> None:
    teach(store, key_of(LINEAR.describe()), sweeps=10)
    found = await predict(Predictions(store))
    pair = found.prediction.pair
    assert pair.dims == (208, 304)
    # log(208 / 201 · 304 / 301) - 2 · 0.1 = 0.044 - 0.2
    assert pair.log_ratio == pytest.approx(-0.156, abs=0.01)
    # But no prediction was held against a measurement yet.
    assert found.prediction.standing is Standing.UNCALIBRATED
    assert not found.prediction.is_believed and pair.half_width is None


async def test_a_race_starts_from_what_is_known_well_enough(store: Store, host: Host) -> None:
    key = key_of(LINEAR.describe())
    teach(store, key, sweeps=3)
    early = (await Predictions(store).prepare(SPEC, host)).learned
    assert early is not None and early.effects is None and early.pair.dims == (208, 304)
    teach(store, key, sweeps=8)
    later = (await Predictions(store).prepare(SPEC, host)).learned
    assert later is not None and later.effects is not None
    assert [*map(len, later.effects)] == [32, 32]
    # The first positions that are multiples of 8: 208 and 304.
    assert [int(np.argmin(axis)) for axis in later.effects] == [7, 3]
    grid = replace(SPEC, mode="grid")
    assert await Predictions(store).prepare(grid, host) == grid  # no race


async def test_a_service_that_must_not_learn_knows_nothing(store: Store, host: Host) -> None:
    teach(store, key_of(LINEAR.describe()), sweeps=10)
    predictions = Predictions(store, is_on=False)
    assert (await predict(predictions)).model.is_empty
    assert await predictions.prepare(SPEC, host) == SPEC


async def test_other_fixed_parameters_count_half(store: Store, host: Host) -> None:
    teach(store, key_of(LINEAR.describe({"batch": "32"})), sweeps=10)
    teach(store, key_of(LINEAR.describe({"dtype": "bfloat16"})), sweeps=10, slower=-0.1)
    found = await predict(Predictions(store))
    # Of the same dtype: multiples of 8 win here, too. The other dtype has other kernels.
    assert found.prediction.pair.dims == (208, 304)
    # Ten sweeps, of which the older ones are forgotten a little, and all count half.
    assert found.model.fit.num_sweeps == pytest.approx(5, abs=0.1)
    assert found.model.updated_at is None


async def test_a_model_in_memory_answers_at_once_and_is_renewed_for_the_next(
    store: Store, host: Host
) -> None:
    now_s = [100.0]
    predictions = Predictions(store, clock=lambda: now_s[0])
    assert (await predict(predictions)).model.is_empty
    teach(store, key_of(LINEAR.describe()), sweeps=10)
    now_s[0] += FRESH_S
    assert (await predict(predictions)).model.is_empty  # what is in memory, at once
    [loading] = [task for task in asyncio.all_tasks() if task.get_name() == LOADING]
    await loading
    assert not (await predict(predictions)).model.is_empty


async def test_an_old_model_is_renewed_before_it_predicts(store: Store, host: Host) -> None:
    now_s = [100.0]
    predictions = Predictions(store, clock=lambda: now_s[0])
    assert (await predict(predictions)).model.is_empty
    teach(store, key_of(LINEAR.describe()), sweeps=10)
    now_s[0] += OLD_S
    assert not (await predict(predictions)).model.is_empty


@pytest.mark.parametrize("num_agree", [0, 13])
async def test_a_platform_that_agrees_with_the_one_before_inherits_its_model(
    store: Store, num_agree: int
) -> None:
    before = register(store, A)
    workload = LINEAR.describe()
    old = ModelKey(workload=workload, platform_key=A.key, protocol_key=before.protocol_key)
    teach(store, old, sweeps=10, host=before.name)
    register(store, B)
    finish(store, num_agree=num_agree)
    found = await Predictions(store).predict(
        workload, WINDOW, platform_key=B.key, protocol_key=before.protocol_key
    )
    assert found.model.is_empty == (num_agree == 0)
    if num_agree:
        assert found.prediction.pair.dims == (208, 304)
        # Scores of the platform before don't count: predictions must prove themselves again.
        assert found.prediction.standing is Standing.UNCALIBRATED
