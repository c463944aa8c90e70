"""An idle worker measures the canaries, after everything else and for its share of the time."""

from __future__ import annotations

import datetime as dt

import pytest

from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.processes.canaries import Canaries
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker
from tests.api.test_lhp_facts import WINDOW, growing, race
from tests.processes.test_rechecks import Time, end

SETTINGS = Settings(canaries="5,6;7,7", canary_every_s=3600, canary_share=0.1)


@pytest.fixture
def clock() -> Time:
    return Time()


def watch(worker: Worker, clock: Time, settings: Settings = SETTINGS) -> Canaries:
    host = worker.store.get_host(HOST)
    return Canaries(worker.store, host, worker.enqueue, settings, clock=clock)


def test_a_canary_is_raced_as_a_question_about_it_would_be(worker: Worker, clock: Time) -> None:
    sweep = watch(worker, clock).consider()
    assert sweep is not None
    assert worker.handed_in.get_nowait().id == sweep.id
    assert (sweep.spec.workload, sweep.spec.mode) == (LINEAR.describe(), "race")
    assert sweep.spec.grid == WINDOW
    [waiting] = worker.store.list_open(HOST)
    assert not waiting.is_awaited  # so every question comes first


def test_one_follows_the_other_after_its_share_of_the_time(worker: Worker, clock: Time) -> None:
    canaries = watch(worker, clock)
    first = canaries.consider()
    assert first is not None
    assert canaries.consider() is None  # it is under way
    end(worker.store, first, seconds=3.0)
    # 3 s are a tenth of 30 s, so the next one comes 27 s later.
    assert canaries.consider() is None
    clock.now_s += 26.9
    assert canaries.consider() is None
    clock.now_s += 0.2
    second = canaries.consider()
    assert second is not None and second.spec.grid.first == (7, 7)
    end(worker.store, second)
    assert canaries.consider() is None
    # The first one is due again an hour after it was started: 3600 - 27.1 s from now.
    clock.now_s += 3572
    assert canaries.consider() is None
    clock.now_s += 1
    third = canaries.consider()
    assert third is not None and third.spec.grid.first == (5, 6)


@pytest.mark.parametrize(("minutes", "is_due"), [(1, False), (61, True)])
def test_what_a_question_measured_is_due_an_hour_after_that(
    worker: Worker, clock: Time, minutes: float, is_due: bool
) -> None:
    measured_at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)
    race(worker, growing, measured_at=measured_at)
    canaries = watch(worker, clock, SETTINGS.model_copy(update={"canaries": "5,6"}))
    assert (canaries.consider() is not None) == is_due


def test_a_host_that_has_something_to_measure_is_not_idle(worker: Worker, clock: Time) -> None:
    canaries = watch(worker, clock)
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((50, 50), (9, 9)))
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    assert canaries.consider() is None
    worker.finish(sweep, growing)
    assert canaries.consider() is not None


def test_one_that_is_too_large_is_left_out_and_named(
    worker: Worker, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    # A weight of 900,000² float32 takes 3 TB.
    settings = SETTINGS.model_copy(update={"canaries": "900000,900000;7,7"})
    canaries = watch(worker, clock, settings)
    assert canaries.consider() is None
    assert "the canary 900000,900000 isn't measured: " in caplog.text
    sweep = canaries.consider()
    assert sweep is not None and sweep.spec.grid.first == (7, 7)


@pytest.mark.parametrize("off", [{"canaries": ""}, {"canary_every_s": 0.0}])
def test_nothing_is_measured_unless_it_was_asked_for(
    worker: Worker, clock: Time, off: dict[str, object]
) -> None:
    assert watch(worker, clock, SETTINGS.model_copy(update=off)).consider() is None
