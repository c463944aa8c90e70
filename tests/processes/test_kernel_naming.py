"""A worker names kernels once a sweep has ended, and nobody waits for it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import torch

from profiler_service.errors import LhpError, MeasurementFailedError, StoreUnavailableError
from profiler_service.grid import Grid
from profiler_service.kinds import EMBEDDING, LINEAR, MATMUL
from profiler_service.measurement.identity import CPU
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.turn import DeviceTurn
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import RaceTerms, SweepSpec, SweepState
from profiler_service.plan.turns import Demand
from profiler_service.processes.kernel_naming import NAMING_S, KernelNaming
from profiler_service.processes.sweep_runner import SweepRunner
from profiler_service.storage.store import Store, Sweep
from profiler_service.storage.tables import curve_arrays
from profiler_service.workload import Dims, Workload
from tests.databases import only_sqlite
from tests.processes.fake_worker import (
    HOST,
    PROTOCOL,
    FakeMeasurer,
    FakePlanner,
    begun,
    create_sweep,
    platform,
    spec,
)
from tests.storage.test_schema import connect

AWAITED = Demand(expected_s=1.0, is_awaited=True)


class NamingMeasurer(FakeMeasurer):
    """Names what it is told to; remembers the points of each request, and how sweeps were then."""

    def __init__(
        self,
        log: Path,
        store: Store,
        *,
        name: Callable[[Dims], str] = lambda dims: f"kernel {dims[0] % 2}",
        error: LhpError | None = None,
        is_running: bool = True,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(log)
        self._store = store
        self._name = name
        self._error = error
        self._is_running = is_running
        self._meanwhile = meanwhile
        self.requests: list[list[Dims]] = []
        self.states: list[list[SweepState]] = []

    def name_kernels(
        self,
        workload: Workload,
        points: Sequence[Dims],
        *,
        limit_s: float,
        must_stop: Callable[[], bool],
    ) -> dict[Dims, str] | None:
        self.requests.append(list(points))
        self.states.append([each.state for each in self._store.list_sweeps().items])
        assert limit_s == NAMING_S
        if self._error is not None:
            raise self._error
        if not self._is_running:
            return None
        self._meanwhile()
        if must_stop():
            return {}
        return {each: self._name(each) for each in points}


def create_runner(
    store: Store, measurer: FakeMeasurer, device_turn: DeviceTurn | None = None
) -> SweepRunner:
    return SweepRunner(
        store=store,
        measurer=measurer,
        create_planner=FakePlanner,
        naming=KernelNaming(store, HOST, measurer),
        device_turn=device_turn,
    )


def run(runner: SweepRunner, sweep: Sweep) -> None:
    while not runner.run_batch(sweep.id):
        pass


def names_of(store: Store, sweep: Sweep) -> dict[Dims, str] | None:
    """The names kept for the sweep's curve; None if none were looked for."""
    curve_id = store.get_sweep(sweep.id).curve_id
    assert curve_id is not None
    return store.find_kernel_names([curve_id]).get(curve_id)


def test_kernels_are_named_when_the_answer_is_already_there(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 3)
    measurer = NamingMeasurer(log, store)
    run(create_runner(store, measurer), sweep)
    # The grid's middle comes first; then the line through it.
    assert measurer.requests == [[(2,), (3,), (1,)]]
    assert measurer.states == [[SweepState.DONE]]
    assert names_of(store, sweep) == {(1,): "kernel 1", (2,): "kernel 0", (3,): "kernel 1"}
    assert begun(log) == [0, 1, 2]


def test_of_a_race_the_asked_point_and_its_answer_come_first(store: Store, log: Path) -> None:
    create_sweep(store, 1)
    race, _ = store.create_sweep(spec(3, "race"), host=HOST)
    measurer = NamingMeasurer(log, store)
    runner = create_runner(store, measurer)
    run(runner, race)
    # The planner of these tests finds no answer, so it is the first point.
    assert measurer.requests[0][0] == (1,)


def test_no_kernel_is_named_while_a_question_waits(store: Store, log: Path) -> None:
    first = create_sweep(store, 1, AWAITED)
    second, _ = store.create_sweep(spec(2), host=HOST, demand=AWAITED)
    measurer = NamingMeasurer(log, store)
    runner = create_runner(store, measurer)
    run(runner, first)
    assert measurer.requests == []
    assert not runner.name_kernels_if_idle()
    run(runner, second)
    # Of the second one at once, and of the first one when the host is idle.
    assert [len(each) for each in measurer.requests] == [2]
    assert names_of(store, first) is None
    assert runner.name_kernels_if_idle()
    assert names_of(store, first) == {(1,): "kernel 1"}
    assert not runner.name_kernels_if_idle()


def test_a_sweep_that_nobody_waits_for_keeps_none_from_being_named(store: Store, log: Path) -> None:
    first = create_sweep(store, 1, AWAITED)
    store.create_sweep(spec(2), host=HOST)
    run(create_runner(store, NamingMeasurer(log, store)), first)
    assert names_of(store, first) == {(1,): "kernel 1"}


def test_a_question_that_comes_meanwhile_ends_the_naming(store: Store, log: Path) -> None:
    first = create_sweep(store, 1)

    def ask() -> None:
        store.create_sweep(spec(2), host=HOST, demand=AWAITED)

    runner = create_runner(store, NamingMeasurer(log, store, meanwhile=ask))
    run(runner, first)
    assert names_of(store, first) is None


@pytest.mark.parametrize(
    "error", [MeasurementFailedError("gone"), MeasurementFailedError("no such kind")]
)
def test_what_can_not_be_named_is_tried_once_and_the_sweep_stays_done(
    store: Store, log: Path, error: LhpError
) -> None:
    sweep = create_sweep(store, 2)
    measurer = NamingMeasurer(log, store, error=error)
    runner = create_runner(store, measurer)
    run(runner, sweep)
    assert store.get_sweep(sweep.id).state is SweepState.DONE
    assert names_of(store, sweep) == {}
    assert not runner.name_kernels_if_idle()
    assert len(measurer.requests) == 1


def test_while_no_child_runs_naming_is_put_off(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 2)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    assert names_of(store, sweep) is None
    # A worker that is started later looks for curves without names.
    assert create_runner(store, NamingMeasurer(log, store)).name_kernels_if_idle()
    assert names_of(store, sweep) is not None


def test_calls_that_take_longer_than_all_naming_may_are_left_alone(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 700)  # the middle takes 351 ms a call
    measurer = NamingMeasurer(log, store)
    run(create_runner(store, measurer), sweep)
    assert measurer.requests == []
    assert names_of(store, sweep) == {}


def test_a_cancelled_sweep_is_left_alone_until_the_host_is_idle(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 3)
    measurer = NamingMeasurer(log, store)
    runner = create_runner(store, measurer)
    runner.run_batch(sweep.id)
    store.request_cancel(sweep.id)
    run(runner, sweep)
    assert measurer.requests == []
    assert runner.name_kernels_if_idle()
    assert names_of(store, sweep) == {(1,): "kernel 1", (2,): "kernel 0", (3,): "kernel 1"}


class ForgetfulStore(Store):
    """Can keep no names, once."""

    failed = False

    def keep_kernel_names(self, curve_id: str, names: dict[Dims, str]) -> bool:  # type: ignore[override]
        if not self.failed:
            self.failed = True
            raise StoreUnavailableError("away")
        return super().keep_kernel_names(curve_id, names)


def test_names_that_could_not_be_kept_are_found_again(
    database_url: str, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ForgetfulStore.open(database_url)
    sweep = create_sweep(store, 2)
    runner = create_runner(store, NamingMeasurer(log, store))
    run(runner, sweep)
    assert "aren't kept: away" in caplog.text
    assert store.get_sweep(sweep.id).state is SweepState.DONE
    assert names_of(store, sweep) is None
    assert runner.name_kernels_if_idle()
    assert names_of(store, sweep) is not None
    store.close()


def test_whoever_looks_whether_the_host_is_idle_waits_for_no_turn(store: Store, log: Path) -> None:
    partition = uuid.uuid4().hex
    sweep = create_sweep(store, 1)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    turn = DeviceTurn(CPU, partition=partition)
    runner = create_runner(store, NamingMeasurer(log, store), turn)
    with DeviceTurn(CPU, partition=partition).held():
        assert not runner.name_kernels_if_idle()
    assert runner.name_kernels_if_idle()
    assert names_of(store, sweep) is not None


def test_nothing_is_named_beside_a_batch(store: Store, log: Path) -> None:
    ended, sweep = create_sweep(store, 1), create_sweep(store, 2)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), ended)
    begin, go_on = threading.Event(), threading.Event()

    class WaitingMeasurer(NamingMeasurer):
        def measure_part(self, *arguments, **options):  # type: ignore[no-untyped-def]
            begin.set()
            assert go_on.wait(60)
            return super().measure_part(*arguments, **options)

    runner = create_runner(store, WaitingMeasurer(log, store))
    measuring = threading.Thread(target=runner.run_batch, args=(sweep.id,))
    measuring.start()
    assert begin.wait(60)
    assert not runner.name_kernels_if_idle()
    go_on.set()
    measuring.join()
    assert runner.name_kernels_if_idle()


def test_a_runner_that_was_stopped_names_nothing(store: Store, log: Path) -> None:
    sweep = create_sweep(store, 1)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    runner = create_runner(store, NamingMeasurer(log, store))
    runner.stop()
    assert not runner.name_kernels_if_idle()


@only_sqlite
@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="oneDNN has no bfloat16 kernels for this processor",
)
def test_a_real_child_s_kernels_are_kept_with_their_curve(store: Store) -> None:
    with Measurer(device="cpu") as measurer:
        store.register_host(
            HOST, measurer.platform, protocol=measurer.protocol, dtypes=measurer.dtypes
        )
        workload = LINEAR.describe({"dtype": "bfloat16"})
        window = Grid.window((197, 93), (32, 32))
        sweep, _ = store.create_sweep(
            SweepSpec(
                workload=workload,
                mode="race",
                grid=window,
                budget_s=0.3,
                terms=RaceTerms(settle_s=0.1),
            ),
            host=HOST,
        )
        naming = KernelNaming(store, HOST, measurer)
        run(SweepRunner(store=store, measurer=measurer, naming=naming), sweep)
    kept = names_of(store, sweep)
    # More points than the queried one, unless this machine is very busy.
    assert kept is not None and (197, 93) in kept
    assert all(each.startswith("matmul ") for each in kept.values())


@pytest.mark.parametrize("mode", ["grid", "race", "survey", "nearest", "largest", "kernels"])
def test_curves_of_every_mode_are_named(store: Store, log: Path, mode: Mode) -> None:
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    sweep, _ = store.create_sweep(spec(2, mode), host=HOST)
    run(create_runner(store, NamingMeasurer(log, store)), sweep)
    assert names_of(store, sweep) == {(1,): "kernel 1", (2,): "kernel 0"}


def test_a_workload_without_backends_is_named_by_an_idle_host(store: Store, log: Path) -> None:
    create_sweep(store, 1)
    without = replace(spec(1), workload=EMBEDDING.describe())
    sweep, _ = store.create_sweep(without, host=HOST)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    assert create_runner(store, NamingMeasurer(log, store)).name_kernels_if_idle()
    assert names_of(store, sweep) == {(1,): "kernel 1"}


def test_a_damaged_curve_is_named_as_such_and_passed_over(
    store: Store, log: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = create_sweep(store, 1)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    with connect(database_url) as connection:
        connection.execute(sa.update(curve_arrays).values(arrays=b"nothing that Arrow reads"))
    runner = create_runner(store, NamingMeasurer(log, store))
    assert runner.name_kernels_if_idle()
    assert "can't be named" in caplog.text
    assert not runner.name_kernels_if_idle()


def test_an_idle_host_compiles_nothing(store: Store, log: Path) -> None:
    create_sweep(store, 1)
    compiled = replace(spec(1), workload=MATMUL.describe({"backend": "compiled"}))
    sweep, _ = store.create_sweep(compiled, host=HOST)
    run(create_runner(store, NamingMeasurer(log, store, is_running=False)), sweep)
    measurer = NamingMeasurer(log, store)
    assert create_runner(store, measurer).name_kernels_if_idle()
    assert (measurer.requests, names_of(store, sweep)) == ([], {})
