"""A worker and a user's command take turns to measure on one device."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from profiler_service.grid import Grid
from profiler_service.measurement.identity import CPU
from profiler_service.measurement.turn import DeviceTurn
from profiler_service.plan.base import Batch, Part
from profiler_service.plan.spec import SweepState
from profiler_service.processes.sweep_runner import StopRequest, SweepRunner
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.databases import only_sqlite
from tests.processes.fake_worker import (
    HOST,
    PATIENCE_S,
    FakeMeasurer,
    FakePlanner,
    begun,
    create_sweep,
    wait_until,
)
from tests.processes.test_one_measurer import HandIn, Make, hand_in, make, num_kept
from tests.processes.test_yielding import LONG, OneBatchPlanner

__all__ = ["hand_in", "make"]

pytestmark = only_sqlite


@pytest.fixture
def partition() -> str:
    return uuid.uuid4().hex


def runner_in_turns(store: Store, log: Path, partition: str) -> SweepRunner:
    return SweepRunner(
        store=store,
        measurer=FakeMeasurer(log),
        create_planner=FakePlanner,
        device_turn=DeviceTurn(CPU, partition=partition),
    )


def test_a_batch_waits_for_its_turn(store: Store, log: Path, partition: str) -> None:
    sweep = create_sweep(store, 1)
    runner = runner_in_turns(store, log, partition)
    guest = DeviceTurn(CPU, partition=partition)
    with guest.held():
        running = threading.Thread(target=runner.run_batch, args=(sweep.id,))
        running.start()
        wait_until(guest.is_awaited)
        assert begun(log) == []
    running.join(PATIENCE_S)
    assert begun(log) == [0]
    assert runner.run_batch(sweep.id)
    assert store.get_sweep(sweep.id).state is SweepState.DONE


def test_a_worker_that_waits_for_its_turn_can_be_stopped(
    store: Store, log: Path, partition: str
) -> None:
    sweep = create_sweep(store, 2)
    runner = runner_in_turns(store, log, partition)
    guest = DeviceTurn(CPU, partition=partition)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            runner.run_batch(sweep.id)
        except StopRequest as request:
            ended.append(request)

    with guest.held():
        running = threading.Thread(target=run)
        running.start()
        wait_until(guest.is_awaited)
        runner.stop()
        running.join(PATIENCE_S)
    assert [type(each) for each in ended] == [StopRequest]
    assert begun(log) == []
    assert not store.get_sweep(sweep.id).state.is_final  # a worker goes on with it later


class AskedMeasurer(FakeMeasurer):
    """Makes one visit after the other, and asks after each whether to yield, until it must."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.visits: list[int] = []

    def measure_part(
        self, workload: Workload, grid: Grid, batch: Batch, *, must_yield: Callable[[int], bool]
    ) -> Part:
        self.visits.append(len(batch.point))
        if len(self.visits) == 1:
            wait_until(lambda: must_yield(1))
            done = 1
        else:
            done = len(batch.point)
        samples = self.measure(workload, grid, batch.select(np.arange(done)))
        rest = batch.select(np.arange(done, len(batch.point)))
        return Part(samples=samples, rest=rest if len(rest.point) else None)


def test_a_long_batch_is_broken_off_for_who_waits(store: Store, log: Path, partition: str) -> None:
    sweep = create_sweep(store, 5, LONG)
    measurer = AskedMeasurer(log)
    turn = DeviceTurn(CPU, partition=partition)
    runner = SweepRunner(
        store=store, measurer=measurer, create_planner=OneBatchPlanner, device_turn=turn
    )
    got = threading.Event()

    def visit() -> None:
        wait_until(lambda: bool(measurer.visits))
        with DeviceTurn(CPU, partition=partition).held():
            got.set()

    guest = threading.Thread(target=visit)
    guest.start()
    assert not runner.run_batch(sweep.id)
    assert got.wait(PATIENCE_S)
    guest.join()
    # Five visits were planned; one was made before the guest's turn, and four are made after it.
    while not runner.run_batch(sweep.id):
        pass
    assert measurer.visits == [5, 4]
    assert store.get_sweep(sweep.id).state is SweepState.DONE


def test_a_guest_gets_its_turn_beside_a_real_worker(
    store: Store, make: Make, hand_in: HandIn
) -> None:
    """The worker measures without a pause, and goes on after the guest has died in its turn."""
    machine = make("one", FAKE_BATCH_S="0.02")
    machine.start()
    wait_until(lambda: HOST in [each.name for each in store.list_hosts()])
    sweep = hand_in(10_000)
    wait_until(lambda: num_kept(store, sweep.id) >= 2)

    turn = DeviceTurn(CPU, partition=f"{os.environ['LHP_PARTITION']} one")
    for _ in range(3):
        with turn.held() as is_mine:
            assert is_mine
            wait_until(turn.is_awaited)  # the worker has ended its batch, and waits
            kept = num_kept(store, sweep.id)
            assert len(begun(machine.log)) == kept
        wait_until(lambda before=kept: num_kept(store, sweep.id) > before)  # type: ignore[misc]
