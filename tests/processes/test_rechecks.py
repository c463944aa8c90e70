"""An idle worker confirms its oldest facts again, for no more than its share of the time."""

from __future__ import annotations

import dataclasses

import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.processes.idle_races import IdleRaces
from profiler_service.processes.rechecks import Rechecks
from profiler_service.storage.store import Store, Sweep
from tests.api.conftest import HOST, Worker
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import faster_at, growing, pair, race
from tests.storage.examples import create_samples


class Time:
    """A clock that only the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def rechecks(worker: Worker, clock: Time) -> Rechecks:
    host = worker.store.get_host(HOST)
    races = IdleRaces(worker.store, host, worker.enqueue, share=0.1, clock=clock)
    return Rechecks(worker.store, host, races)


def end(store: Store, sweep: Sweep, *, seconds: float = 3.0) -> None:
    """Ends the race without a new fact, after so much measuring."""
    store.start_sweep(sweep.id)
    progress = Progress(fraction=1.0, stage="finished", num_samples=3, seconds=seconds)
    store.commit_batch(sweep.id, 0, create_samples(), progress)
    store.finish_sweep(sweep.id, None, state=SweepState.DONE)


def test_the_oldest_fact_that_something_is_faster_is_raced_again(
    rechecks: Rechecks, worker: Worker
) -> None:
    race(worker, growing, pair((7, 7), 1.02, 1.03))
    race(worker, faster_at((8, 6)), pair((8, 6), 0.94, 0.96))
    race(worker, faster_at((9, 9)), pair((9, 9), 0.94, 0.96))
    sweep = rechecks.consider()
    assert sweep is not None
    assert worker.handed_in.get_nowait().id == sweep.id
    # Between the two points alone, and nobody waits for it.
    grid = sweep.spec.grid
    assert (sweep.spec.mode, grid.first, grid.last, grid.num_candidates) == (
        "race",
        (5, 6),
        (8, 6),
        2,
    )
    [waiting] = worker.store.list_open(HOST)
    assert not waiting.is_awaited


def test_it_goes_on_after_its_share_of_the_time(
    rechecks: Rechecks, worker: Worker, clock: Time
) -> None:
    for rival in ((8, 8), (9, 9)):
        race(worker, faster_at(rival), pair(rival, 0.94, 0.96))
    first = rechecks.consider()
    assert first is not None
    assert rechecks.consider() is None  # it is under way
    end(worker.store, first, seconds=3.0)
    # 3 s are a tenth of 30 s, so the next one comes 27 s later.
    assert rechecks.consider() is None
    clock.now_s += 26.9
    assert rechecks.consider() is None
    clock.now_s += 0.2
    second = rechecks.consider()
    # The first one brought no fact, and isn't tried again.
    assert second is not None and second.spec.grid.last == (9, 9)
    end(worker.store, second)
    clock.now_s += 1000
    assert rechecks.consider() is None


def test_a_host_that_has_something_to_measure_is_not_idle(
    rechecks: Rechecks, worker: Worker
) -> None:
    race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((50, 50), (9, 9)))
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    assert rechecks.consider() is None
    worker.store.start_sweep(sweep.id)
    assert rechecks.consider() is None
    worker.finish(sweep, growing)
    assert rechecks.consider() is not None


def test_what_was_confirmed_again_is_no_longer_the_oldest(worker: Worker) -> None:
    store = worker.store
    for rival in ((8, 8), (9, 9), (8, 8)):
        race(worker, faster_at(rival), pair(rival, 0.94, 0.96))
    key = (HOST, PLATFORM.key, PROTOCOL.key)
    oldest = store.find_stalest_fact(*key)
    assert oldest is not None and oldest.pair.rival == (9, 9)
    other = dataclasses.replace(PLATFORM, threads=2).key
    assert store.find_stalest_fact(HOST, other, PROTOCOL.key) is None
    # One that a later fact overrules is followed by it.
    race(worker, growing, pair((9, 9), 1.02, 1.03))
    oldest = store.find_stalest_fact(*key)
    assert oldest is not None and oldest.pair.rival == (8, 8)


def test_without_a_share_nothing_is_raced_again(worker: Worker) -> None:
    race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    host = worker.store.get_host(HOST)
    off = Rechecks(worker.store, host, IdleRaces(worker.store, host, worker.enqueue, share=0))
    assert off.consider() is None
