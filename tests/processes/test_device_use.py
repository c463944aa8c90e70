"""What others use while a sweep is measured: waited for on a GPU, and told with the curve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import OthersUse, Samples
from profiler_service.grid import Grid
from profiler_service.plan.base import Batch
from profiler_service.plan.spec import SweepState
from profiler_service.processes.sweep_runner import StopRequest, SweepRunner
from profiler_service.storage.store import Store
from profiler_service.workload import Workload
from tests.processes.fake_worker import FakeMeasurer, FakePlanner, begun, create_sweep

BATCH_S = 0.01


class SharedMeasurer(FakeMeasurer):
    """Its processors, or its GPU, are used by others, too."""

    def __init__(
        self,
        log: Path,
        *,
        others_shares: Iterable[float | None] = (),
        read_gpu_use: Callable[[], float | None] = lambda: None,
    ) -> None:
        super().__init__(log, batch_s=BATCH_S)
        self._others_shares = iter(others_shares)
        self._read_gpu_use = read_gpu_use

    def read_gpu_use(self) -> float | None:
        return self._read_gpu_use()

    def measure(self, workload: Workload, grid: Grid, batch: Batch) -> Samples:
        samples = super().measure(workload, grid, batch)
        share = next(self._others_shares, None)
        if share is None:
            return samples
        return replace(samples, use=OthersUse(others_s=share * BATCH_S, watched_s=BATCH_S))


def runner_on(store: Store, measurer: FakeMeasurer, *, yield_s: float = 0.0) -> SweepRunner:
    return SweepRunner(store=store, measurer=measurer, create_planner=FakePlanner, yield_s=yield_s)


def evidence_of(store: Store, sweep_id: str) -> Evidence:
    curve_id = store.get_sweep(sweep_id).curve_id
    assert curve_id is not None
    return store.get_curve_header(curve_id).evidence


@pytest.mark.parametrize(
    ("shares", "mean", "disturbed"),
    [
        ([0.0, 0.0, 0.0], 0.0, False),
        ([0.05, 0.25, 0.0], 0.1, False),  # a tenth is borne
        ([0.1, 0.25, 0.1], 0.15, True),
        ([0.3, None, 0.3], 0.3, True),  # it isn't known for one of the batches
    ],
)
def test_a_curve_measured_beside_others_on_a_cpu_is_marked_disturbed(
    store: Store, log: Path, shares: list[float | None], mean: float, disturbed: bool
) -> None:
    sweep = create_sweep(store, 3)
    runner = runner_on(store, SharedMeasurer(log, others_shares=shares))
    while not runner.run_batch(sweep.id):
        pass
    evidence = evidence_of(store, sweep.id)
    assert evidence.others_share == pytest.approx(mean)
    assert evidence.disturbed is disturbed


def test_where_use_is_not_known_nothing_is_said_of_it(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 1)
    runner = runner_on(store, SharedMeasurer(log))
    while not runner.run_batch(sweep.id):
        pass
    evidence = evidence_of(store, sweep.id)
    assert (evidence.others_share, evidence.disturbed) == (None, None)


def test_what_others_used_before_a_restart_still_counts(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 4)
    first = runner_on(store, SharedMeasurer(log, others_shares=[0.6, 0.6]))
    first.run_batch(sweep.id)
    first.run_batch(sweep.id)
    # Another process goes on, when the machine is quiet.
    second = runner_on(store, SharedMeasurer(log, others_shares=[0.0, 0.0]))
    while not second.run_batch(sweep.id):
        pass
    assert evidence_of(store, sweep.id).others_share == pytest.approx(0.3)


def test_a_busy_gpu_is_waited_for_and_then_measured_and_the_curve_says_so(
    store: Store, log: Path
) -> None:
    sweep = create_sweep(store, 2)
    readings: list[str] = []

    def read_gpu_use() -> float:
        readings.append(store.get_sweep(sweep.id).error)
        return 0.93

    runner = runner_on(store, SharedMeasurer(log, read_gpu_use=read_gpu_use), yield_s=1.5)
    while not runner.run_batch(sweep.id):
        pass
    assert len(readings) > 2
    assert readings[0] == ""
    assert readings[-1] == "waiting for at most 1.5 s: others use the GPU"
    assert begun(log) == [0, 1]
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.error) == (SweepState.DONE, "")
    evidence = evidence_of(store, sweep.id)
    assert (evidence.others_share, evidence.disturbed) == (0.93, True)


def test_a_gpu_is_measured_as_soon_as_others_have_ended(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 2)
    uses = iter([0.93, 0.5, 0.02])
    runner = runner_on(store, SharedMeasurer(log, read_gpu_use=lambda: next(uses)), yield_s=3600.0)
    while not runner.run_batch(sweep.id):  # a fourth reading would raise
        pass
    evidence = evidence_of(store, sweep.id)
    assert (evidence.others_share, evidence.disturbed) == (0.02, False)


def test_a_job_that_only_keeps_memory_on_the_gpu_is_not_waited_for(store: Store, log: Path) -> None:
    # It waits for the answer, so it uses nothing. One reading, one look for the whole sweep.
    uses = iter([0.0])
    sweep = create_sweep(store, 3)
    runner = runner_on(store, SharedMeasurer(log, read_gpu_use=lambda: next(uses)), yield_s=3600.0)
    while not runner.run_batch(sweep.id):
        pass
    assert evidence_of(store, sweep.id).disturbed is False


def test_a_worker_that_waits_for_a_busy_gpu_can_be_stopped(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 1)
    waiting = threading.Event()

    def read_gpu_use() -> float:
        waiting.set()
        return 0.93

    runner = runner_on(store, SharedMeasurer(log, read_gpu_use=read_gpu_use), yield_s=3600.0)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            runner.run_batch(sweep.id)
        except StopRequest as request:
            raised.append(request)

    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(60)
    runner.stop()
    thread.join(60)
    assert not thread.is_alive() and len(raised) == 1
    assert begun(log) == []
    assert store.get_sweep(sweep.id).state is SweepState.RUNNING


def test_a_sweep_that_waits_for_a_busy_gpu_can_be_cancelled(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 5)

    def read_gpu_use() -> float:
        store.request_cancel(sweep.id)
        return 0.93

    runner = runner_on(store, SharedMeasurer(log, read_gpu_use=read_gpu_use), yield_s=3600.0)
    while not runner.run_batch(sweep.id):
        pass
    assert store.get_sweep(sweep.id).state is SweepState.CANCELLED
    assert len(begun(log)) <= 1
