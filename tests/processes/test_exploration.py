"""What an idle worker measures by itself, where its model is least sure."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.turns import Demand
from profiler_service.processes.exploration import BUDGET_S, Exploration
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.answering.test_predictions import key_of, teach
from tests.api.conftest import HOST, Worker
from tests.processes.test_rechecks import Time


@pytest.fixture
def exploration(worker: Worker, settings: Settings) -> Exploration:
    return explore(worker, settings, share=0.1)


def explore(worker: Worker, settings: Settings, *, share: float) -> Exploration:
    host = worker.store.get_host(HOST)
    races = IdleRaces(worker.store, host, worker.enqueue, share=share, clock=Time())
    rng = np.random.default_rng(1)
    return Exploration(worker.store, host, races, settings, rng=rng)


def ask(store: Store, first: tuple[int, int], *, request_id: str | None = "asked") -> None:
    """A question that has been answered, about 32 larger dims of one axis."""
    grid = Grid.window(first, (32, 0))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=grid)
    demand = Demand(expected_s=3, is_awaited=True, request_id=request_id)
    sweep, _ = store.create_sweep(spec, host=HOST, demand=demand)
    store.request_cancel(sweep.id)


def test_it_races_near_a_question_and_keeps_to_its_form(
    exploration: Exploration, worker: Worker
) -> None:
    ask(worker.store, (400, 300))
    sweep = exploration.consider()
    assert sweep is not None and worker.handed_in.get_nowait().id == sweep.id
    first, second = sweep.spec.grid.axes
    # Within half an octave: 400 / √2 = 283 to 400 · √2 = 566. The fixed axis stays as it is.
    assert 283 <= first.first <= 566 and (first.count, first.step) == (33, 1)
    assert (second.first, second.count) == (300, 1)
    assert (sweep.spec.mode, sweep.spec.budget_s) == ("race", BUDGET_S)
    # What the model would say is scored, too.
    assert sweep.spec.learned is not None
    [waiting] = worker.store.list_open(HOST)
    assert not waiting.is_awaited
    assert exploration.consider() is None  # one at a time


def test_it_prefers_where_the_model_is_least_sure(exploration: Exploration, worker: Worker) -> None:
    # Windows between 100 and 631 are well known.
    teach(worker.store, key_of(LINEAR.describe()), sweeps=20)
    for first in ((300, 300), (5000, 300), (350, 300)):
        ask(worker.store, first)
    sweep = exploration.consider()
    assert sweep is not None
    assert sweep.spec.grid.first[0] > 3000


def test_nothing_is_explored_where_nobody_asked(exploration: Exploration, worker: Worker) -> None:
    assert exploration.consider() is None
    ask(worker.store, (400, 300), request_id=None)  # the worker's own
    assert exploration.consider() is None


def test_without_a_share_nothing_is_explored(worker: Worker, settings: Settings) -> None:
    ask(worker.store, (400, 300))
    assert explore(worker, settings, share=0).consider() is None


def test_windows_beyond_the_operators_bounds_are_left_out(
    worker: Worker, settings: Settings
) -> None:
    ask(worker.store, (400, 300))
    strict = settings.model_copy(update={"max_dim": 300})
    assert explore(worker, strict, share=1).consider() is None
