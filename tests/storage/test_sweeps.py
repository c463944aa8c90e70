"""Sweeps and their states, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from profiler_service.errors import ConflictError, PlatformMismatchError, UnknownSweepError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.storage.store import Host, Page, Store, Sweep
from profiler_service.workload import Workload
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)

NO_ID = "0" * 32


def test_new_sweep_is_queued_as_asked_for(store: Store, host: Host) -> None:
    spec = create_spec(seed=2**40)
    guide = tuple((0.25,) * axis.count for axis in spec.grid.axes)
    spec = replace(spec, budget_s=0.25, guide=guide)
    before = dt.datetime.now(dt.UTC)
    sweep, new = store.create_sweep(spec, host="east")
    assert new
    assert before <= sweep.created_at <= dt.datetime.now(dt.UTC)
    assert sweep == Sweep(
        id=sweep.id,
        host="east",
        spec=spec,
        state=SweepState.QUEUED,
        created_at=sweep.created_at,
        started_at=None,
        finished_at=None,
        cancel_requested=False,
        progress=None,
        error="",
        curve_id=None,
    )
    assert store.get_sweep(sweep.id) == sweep


def test_equal_request_joins_the_unfinished_sweep(store: Store, sweep: Sweep) -> None:
    assert store.create_sweep(create_spec(seed=99), host="east") == (sweep, False)
    running = store.start_sweep(sweep.id)
    assert store.create_sweep(create_spec(seed=99), host="east") == (running, False)


def test_unlike_requests_get_sweeps_of_their_own(store: Store, sweep: Sweep) -> None:
    store.register_host("west", create_platform(), protocol=PROTOCOL, dtypes=[])
    requests = [
        (create_spec(), "west"),
        (create_spec(start=2), "east"),
        (create_spec(mode="race"), "east"),
        (create_spec(batch=1), "east"),
    ]
    ids = {store.create_sweep(spec, host=host)[0].id for spec, host in requests}
    assert len(ids | {sweep.id}) == 5


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "cancel requested"])
def test_ended_or_cancelled_sweep_is_not_joined(store: Store, sweep: Sweep, end: str) -> None:
    if end == "cancel requested":
        store.start_sweep(sweep.id)
        assert store.request_cancel(sweep.id).state == SweepState.RUNNING
    else:
        store.finish_sweep(sweep.id, None, state=SweepState(end))
    other, new = store.create_sweep(create_spec(), host="east")
    assert new
    assert other.id > sweep.id


def test_started_sweep_stays_started(store: Store, sweep: Sweep) -> None:
    started = store.start_sweep(sweep.id)
    assert started.state == SweepState.RUNNING
    assert started.started_at is not None
    assert started.started_at >= sweep.created_at
    assert store.start_sweep(sweep.id) == started


def test_sweep_with_samples_goes_on_only_as_it_was_measured(store: Store, sweep: Sweep) -> None:
    store.start_sweep(sweep.id, measured_as="old")
    # Nothing is measured yet: the host may still change.
    started = store.start_sweep(sweep.id, measured_as="one")
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    assert store.start_sweep(sweep.id, measured_as="one").state == SweepState.RUNNING
    with pytest.raises(PlatformMismatchError) as caught:
        store.start_sweep(sweep.id, measured_as="other")
    assert "new sweep" in caught.value.hint
    assert store.get_sweep(sweep.id) == replace(started, progress=PROGRESS)
    # An ended sweep is only looked at, from whatever host.
    store.finish_sweep(sweep.id, None, state=SweepState.CANCELLED)
    assert store.start_sweep(sweep.id, measured_as="other").state == SweepState.CANCELLED


def test_queued_sweep_is_cancelled_at_once(store: Store, sweep: Sweep) -> None:
    cancelled = store.request_cancel(sweep.id)
    assert cancelled.state == SweepState.CANCELLED
    assert cancelled.cancel_requested
    assert cancelled.finished_at is not None
    assert cancelled.started_at is None
    assert store.start_sweep(sweep.id) == cancelled
    with pytest.raises(ConflictError):
        store.request_cancel(sweep.id)


def test_running_sweep_is_only_marked_to_be_cancelled(store: Store, sweep: Sweep) -> None:
    store.start_sweep(sweep.id)
    marked = store.request_cancel(sweep.id)
    assert (marked.state, marked.cancel_requested) == (SweepState.RUNNING, True)
    assert marked.finished_at is None
    assert store.request_cancel(sweep.id) == marked


def test_failed_sweep_says_why(store: Store, sweep: Sweep) -> None:
    store.fail_sweep(sweep.id, "the child died\0")
    failed = store.get_sweep(sweep.id)
    assert (failed.state, failed.error) == (SweepState.FAILED, "the child died\ufffd")
    assert failed.finished_at is not None
    store.fail_sweep(sweep.id, "again")
    assert store.get_sweep(sweep.id) == failed


def test_unknown_sweep_is_a_typed_error(store: Store) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.get_sweep(NO_ID),
        lambda: store.start_sweep(NO_ID),
        lambda: store.request_cancel(NO_ID),
        lambda: store.fail_sweep(NO_ID, "why"),
        lambda: store.commit_batch(NO_ID, 0, create_samples(), PROGRESS),
        lambda: store.load_batches(NO_ID),
        lambda: store.last_measured_at(NO_ID),
        lambda: store.finish_sweep(NO_ID, create_curve(), state=SweepState.DONE),
    ]
    for call in calls:
        with pytest.raises(UnknownSweepError):
            call()


def test_sweep_of_an_uninstalled_kind_stays_readable(store: Store, host: Host) -> None:
    workload = Workload(kind="departed", params=(("a", 1), ("b", "x")), axes=("width", "depth"))
    spec = SweepSpec(
        workload=workload,
        mode="race",
        grid=Grid(axes=(GridAxis(first=8, count=2), GridAxis(first=3, count=2, step=5))),
    )
    sweep, _ = store.create_sweep(spec, host="east")
    curve = replace(create_curve(workload=LINEAR.describe()), workload=workload)
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    assert store.get_sweep(sweep.id).spec == spec
    assert store.list_sweeps().items[0].spec.workload == workload
    assert store.get_curve_header(curve_id).workload == workload
    assert store.load_curve(curve_id).workload == workload


def test_threads_asking_for_the_same_get_one_sweep(store: Store, host: Host) -> None:
    threads = 6
    barrier = threading.Barrier(threads)

    def create(seed: int) -> tuple[str, bool]:
        barrier.wait()
        sweep, new = store.create_sweep(create_spec(seed=seed), host="east")
        return sweep.id, new

    with ThreadPoolExecutor(threads) as pool:
        created = list(pool.map(create, range(threads)))
    assert len({sweep_id for sweep_id, _ in created}) == 1
    assert sum(new for _, new in created) == 1
    assert len(store.list_sweeps().items) == 1


def test_sweeps_are_listed_by_host_state_and_mode(store: Store, sweep: Sweep) -> None:
    store.register_host("west", create_platform(), protocol=PROTOCOL, dtypes=[])
    other, _ = store.create_sweep(create_spec(), host="west")
    store.start_sweep(other.id)
    third, _ = store.create_sweep(create_spec(start=2), host="west")

    def ids(page: Page[Sweep]) -> list[str]:
        return [sweep.id for sweep in page.items]

    assert ids(store.list_sweeps()) == [third.id, other.id, sweep.id]
    assert ids(store.list_sweeps(host="west")) == [third.id, other.id]
    assert ids(store.list_sweeps(state=SweepState.QUEUED)) == [third.id, sweep.id]
    assert ids(store.list_sweeps(host="west", state=SweepState.RUNNING)) == [other.id]
    race, _ = store.create_sweep(create_spec(mode="race"), host="west")
    assert ids(store.list_sweeps(mode="race")) == [race.id]
    assert ids(store.list_sweeps(mode="grid", host="west")) == [third.id, other.id]
    assert ids(store.list_sweeps(mode="survey")) == []
