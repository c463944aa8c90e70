"""The store's contract, on every database that it runs on."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Samples, TimingProtocol
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    PlatformMismatchError,
    UnknownCurveError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownSweepError,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.storage import rows
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.store import CurveHeader, Host, Page, Store, Sweep
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


@pytest.fixture
def host(store: Store) -> Host:
    """A registered host named `east`."""
    return store.register_host(
        "east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "bfloat16"]
    )


@pytest.fixture
def sweep(store: Store, host: Host) -> Sweep:
    """A queued sweep on `east`."""
    return store.create_sweep(create_spec(), host=host.name)[0]


def finish_new_sweep(store: Store, curve: LatencyCurve, *, start: int, host: str = "east") -> str:
    """The id of `curve`, kept for a sweep of its own that starts at `start`."""
    sweep, new = store.create_sweep(create_spec(start=start), host=host)
    assert new
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    return curve_id


def assert_same_samples(found: Samples, given: Samples) -> None:
    for name in ("point", "round", "time_s", "latency_s", "unstable"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name), strict=True)
    assert found.calls == given.calls
    assert found.num_discarded == given.num_discarded
    assert found.failures == given.failures
    assert found.seconds == given.seconds


def test_open_store_answers(store: Store) -> None:
    store.ping()


# Hosts and platforms


def test_registered_host_is_found_as_registered(store: Store) -> None:
    before = dt.datetime.now(dt.UTC)
    host = store.register_host(
        "east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "bfloat16"]
    )
    after = dt.datetime.now(dt.UTC)
    assert (host.name, host.platform_key) == ("east", create_platform().key)
    assert host.protocol_key == PROTOCOL.key
    assert host.dtypes == ("float32", "bfloat16")
    assert before <= host.registered_at == host.last_seen_at <= after
    assert host.registered_at.tzinfo is dt.UTC
    assert store.get_host("east") == host
    assert store.get_platform(create_platform().key) == create_platform()


def test_host_on_a_changed_platform_keeps_its_name_and_first_registration(
    store: Store, host: Host
) -> None:
    changed = create_platform(threads=2)
    flushed = replace(PROTOCOL, cache="flushed")
    again = store.register_host("east", changed, protocol=flushed, dtypes=["float32"])
    assert again.platform_key == changed.key != host.platform_key
    assert again.protocol_key == flushed.key != host.protocol_key
    assert again.dtypes == ("float32",)
    assert again.registered_at == host.registered_at
    assert again.last_seen_at > host.last_seen_at
    assert store.list_hosts() == [again]
    assert store.list_platforms() == [create_platform(), changed]


def test_hosts_are_listed_by_name(store: Store) -> None:
    for name in ("west", "east", "north"):
        store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=[])
    assert [host.name for host in store.list_hosts()] == ["east", "north", "west"]
    assert store.list_platforms() == [create_platform()]


def test_heartbeat_moves_only_last_seen(store: Store, host: Host) -> None:
    store.touch_host("east")
    seen = store.get_host("east")
    assert seen.last_seen_at > host.last_seen_at
    assert replace(seen, last_seen_at=host.last_seen_at) == host


# A URL may hold any character; PostgreSQL's text can't.
@pytest.mark.parametrize("name", ["west", "", "ea\0st", "\ud800"])
def test_unknown_names_are_typed_errors(store: Store, host: Host, name: str) -> None:
    with pytest.raises(UnknownHostError):
        store.get_host(name)
    with pytest.raises(UnknownHostError):
        store.touch_host(name)
    with pytest.raises(UnknownHostError):
        store.create_sweep(create_spec(), host=name)
    with pytest.raises(UnknownPlatformError):
        store.get_platform(name)
    with pytest.raises(UnknownSweepError):
        store.get_sweep(name)
    with pytest.raises(UnknownCurveError):
        store.get_curve_header(name)
    assert store.list_sweeps(host=name).items == []
    assert store.list_curves(kind=name, platform_key=name, host=name).items == []
    assert store.find_curves(name, name, name) == []
    assert store.find_newest_protocol(name, name) is None


# Sweeps


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
        grid=Grid(axes=(GridAxis(start=8, count=2), GridAxis(start=3, count=2, step=5))),
    )
    sweep, _ = store.create_sweep(spec, host="east")
    curve = replace(create_curve(workload=LINEAR.describe()), workload=workload)
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    assert store.get_sweep(sweep.id).spec == spec
    assert store.list_sweeps().items[0].spec.workload == workload
    assert store.get_curve_header(curve_id).workload == workload
    assert store.load_curve(curve_id).workload == workload


# Samples


def test_committed_samples_come_back_bit_for_bit(store: Store, sweep: Sweep) -> None:
    given = [create_samples(10_000, seed=1), create_samples(0), create_samples(1, seed=2)]
    later = Progress(fraction=0.5, stage="round 1 of 2", num_samples=10_001, seconds=2.0)
    # out of order: index decides, not time
    assert store.commit_batch(sweep.id, 2, given[2], PROGRESS)
    assert store.commit_batch(sweep.id, 0, given[0], PROGRESS)
    assert store.commit_batch(sweep.id, 1, given[1], later)
    found = store.load_batches(sweep.id)
    assert len(found) == 3
    for mine, theirs in zip(found, given, strict=True):
        assert_same_samples(mine, theirs)
    assert store.get_sweep(sweep.id).progress == later


def test_sweep_without_batches_loads_none(store: Store, sweep: Sweep) -> None:
    assert store.load_batches(sweep.id) == []


def test_sweep_was_last_measured_when_its_newest_batch_was_kept(store: Store, sweep: Sweep) -> None:
    assert store.last_measured_at(sweep.id) == sweep.created_at
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    before = dt.datetime.now(dt.UTC)
    store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    after = dt.datetime.now(dt.UTC)
    last = store.last_measured_at(sweep.id)
    assert before <= last <= after
    assert last.utcoffset() == dt.timedelta(0)
    # Neither a batch that is kept already nor the end of the sweep is a measurement.
    assert not store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert store.last_measured_at(sweep.id) == last


def test_batch_is_kept_once(store: Store, sweep: Sweep) -> None:
    first = create_samples(seed=1)
    assert store.commit_batch(sweep.id, 0, first, PROGRESS)
    later = replace(PROGRESS, fraction=0.9)
    assert not store.commit_batch(sweep.id, 0, create_samples(seed=2), later)
    (found,) = store.load_batches(sweep.id)
    assert_same_samples(found, first)
    assert store.get_sweep(sweep.id).progress == PROGRESS


def test_numpy_numbers_are_kept_as_numbers(store: Store, sweep: Sweep) -> None:
    samples = replace(
        create_samples(),
        calls=np.int64(5),  # type: ignore[arg-type]
        num_discarded=np.int32(2),  # type: ignore[arg-type]
        seconds=np.float64(1.5),
        failures={np.int32(7): "out of memory"},  # type: ignore[dict-item]
    )
    progress = Progress(
        fraction=np.float64(0.25),
        stage="screening",
        num_samples=np.int64(3),  # type: ignore[arg-type]
        seconds=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert store.commit_batch(sweep.id, 0, samples, progress)
    (found,) = store.load_batches(sweep.id)
    assert_same_samples(found, create_samples())
    assert store.get_sweep(sweep.id).progress == PROGRESS


def test_ended_sweep_takes_no_new_batch(store: Store, sweep: Sweep) -> None:
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert not store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    with pytest.raises(ConflictError):
        store.commit_batch(sweep.id, 1, create_samples(), PROGRESS)
    assert len(store.load_batches(sweep.id)) == 1


def test_each_thread_commits_or_finds_the_batch_kept(store: Store, sweep: Sweep) -> None:
    threads, numbers = 6, 10
    barrier = threading.Barrier(threads)

    def commit(seed: int) -> list[bool]:
        samples = create_samples(seed=seed)
        barrier.wait()
        kept = []
        for number in range(numbers):
            kept.append(store.commit_batch(sweep.id, number, samples, PROGRESS))
            store.get_sweep(sweep.id)
        return kept

    with ThreadPoolExecutor(threads) as pool:
        kept = list(pool.map(commit, range(threads)))
    assert [sum(column) for column in zip(*kept, strict=True)] == [1] * numbers


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


# Curves


def test_finished_sweep_keeps_its_curve(store: Store, sweep: Sweep) -> None:
    store.start_sweep(sweep.id)
    curve = create_curve()
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    assert curve_id is not None
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.curve_id, ended.error) == (SweepState.DONE, curve_id, "")
    assert ended.finished_at is not None
    assert store.get_curve_header(curve_id) == CurveHeader(
        id=curve_id,
        sweep_id=sweep.id,
        host="east",
        workload=MATMUL.describe(),
        platform_key=create_platform().key,
        protocol_key="perf_counter-warm-v1",
        grid=Grid(axes=(GridAxis(start=8, count=4, step=2),)),
        mode="grid",
        num_measured=3,  # three of the four points have samples
        num_lhps=1,
        num_undecided=1,
        num_failures=1,
        measured_at=dt.datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=dt.UTC),
        evidence={"calls": 500.0, "seconds": 1.25},
    )


def test_curve_comes_back_to_float32(store: Store, sweep: Sweep) -> None:
    given = create_curve()
    curve_id = store.finish_sweep(sweep.id, given, state=SweepState.DONE)
    assert curve_id is not None
    found = store.load_curve(curve_id)
    assert (found.workload, found.platform) == (given.workload, given.platform)
    assert (found.protocol, found.grid) == (given.protocol, given.grid)
    assert found.measured_at == given.measured_at
    assert found.measured_at.utcoffset() == dt.timedelta(0)
    assert found.failures == {3: "out of memory"}
    assert found.evidence == given.evidence
    for name in ("num_samples", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name), strict=True)
    for name in ("target", "rival"):
        np.testing.assert_array_equal(
            getattr(found.answers, name), getattr(given.answers, name), strict=True
        )
    pairs = [
        (getattr(found, name), getattr(given, name)) for name in ("latency_s", "low_s", "high_s")
    ]
    pairs += [
        (getattr(found.answers, name), getattr(given.answers, name))
        for name in ("ratio", "ratio_low", "ratio_high")
    ]
    for mine, theirs in pairs:
        assert mine.dtype == np.float64
        # float32 has 24 bits: rounding moves a number by at most 2^-24 = 6e-8 of itself
        np.testing.assert_allclose(mine, theirs, rtol=2**-24, atol=0, equal_nan=True)


def test_a_curve_kept_before_rivals_were_named_comes_back_without(
    store: Store, sweep: Sweep
) -> None:
    given = create_curve()
    answers = replace(given.answers, rival=None)
    curve_id = store.finish_sweep(sweep.id, replace(given, answers=answers), state=SweepState.DONE)
    assert curve_id is not None
    found = store.load_curve(curve_id).answers
    assert found.rival is None
    # Targets are 0, 2, 2 and none: only the second point's answer is another point.
    assert found.find_rivals().tolist() == [-1, 2, -1, -1]


def test_curve_measured_on_a_platform_never_registered_is_kept(store: Store, sweep: Sweep) -> None:
    elsewhere = create_platform(threads=64)
    curve_id = store.finish_sweep(sweep.id, create_curve(platform=elsewhere), state=SweepState.DONE)
    assert curve_id is not None
    assert store.load_curve(curve_id).platform == elsewhere
    assert store.get_platform(elsewhere.key) == elsewhere


def test_sweep_ends_once(store: Store, sweep: Sweep) -> None:
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    ended, generation = store.get_sweep(sweep.id), store.generation()
    assert store.finish_sweep(sweep.id, create_curve(), state=SweepState.CANCELLED) == curve_id
    assert store.finish_sweep(sweep.id, None, state=SweepState.FAILED) == curve_id
    store.fail_sweep(sweep.id, "too late")
    assert store.get_sweep(sweep.id) == ended
    assert store.generation() == generation
    assert len(store.list_curves().items) == 1


@pytest.mark.parametrize("state", [SweepState.DONE, SweepState.CANCELLED, SweepState.FAILED])
def test_sweep_may_end_without_a_curve(store: Store, sweep: Sweep, state: SweepState) -> None:
    assert store.finish_sweep(sweep.id, None, state=state) is None
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.curve_id) == (state, None)
    # and stays without one
    assert store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE) is None
    assert store.list_curves().items == []


def test_no_sweep_ends_as_running(store: Store, sweep: Sweep) -> None:
    with pytest.raises(ValueError, match="running ends no sweep"):
        store.finish_sweep(sweep.id, create_curve(), state=SweepState.RUNNING)
    assert store.get_sweep(sweep.id) == sweep


@pytest.mark.parametrize(
    "fault",
    [
        # NaN is no JSON: PostgreSQL refuses it, so both do.
        {"evidence": {"seconds": float("nan")}},
        # Which moment would a time without a zone be?
        {"measured_at": dt.datetime(2026, 3, 1)},  # noqa: DTZ001
    ],
)
def test_curve_that_cannot_be_kept_leaves_the_sweep_unfinished(
    store: Store, sweep: Sweep, fault: dict[str, Any]
) -> None:
    # raised by SQLAlchemy or by the driver
    with pytest.raises((sa.exc.StatementError, ValueError), match=r"JSON|time zone"):
        store.finish_sweep(sweep.id, replace(create_curve(), **fault), state=SweepState.DONE)
    assert store.get_sweep(sweep.id) == sweep
    assert store.generation() == 1  # the host's registration


def test_unknown_curve_is_a_typed_error(store: Store) -> None:
    with pytest.raises(UnknownCurveError):
        store.get_curve_header(NO_ID)
    with pytest.raises(UnknownCurveError):
        store.load_curve(NO_ID)


def test_curves_are_found_by_workload_platform_and_protocol_newest_first(
    store: Store, host: Host
) -> None:
    other = create_platform(threads=2)
    flushed = replace(PROTOCOL, cache="flushed")
    first = finish_new_sweep(store, create_curve(), start=1)
    finish_new_sweep(store, create_curve(platform=other), start=2)
    finish_new_sweep(store, create_curve(workload=MATMUL.describe({"batch": 1})), start=3)
    second = finish_new_sweep(store, create_curve(), start=4)
    last = finish_new_sweep(store, create_curve(protocol=flushed), start=5)
    asked = MATMUL.describe().key, create_platform().key
    assert [header.id for header in store.find_curves(*asked, PROTOCOL.key)] == [second, first]
    assert [header.id for header in store.find_curves(*asked, flushed.key)] == [last]
    assert store.find_newest_protocol(*asked) == flushed.key
    assert store.find_newest_protocol(MATMUL.describe().key, other.key) == PROTOCOL.key


def test_curves_kept_after_a_generation_are_found_whatever_their_clock_said(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = MATMUL.describe().key, create_platform().key, PROTOCOL.key
    first = finish_new_sweep(store, create_curve(), start=1)
    one = store.generation()
    late, _ = store.create_sweep(create_spec(start=2), host="east")
    # Made by a process whose clock is slow: the id sorts before all others.
    monkeypatch.setattr(rows, "create_id", lambda: "0" * 31 + "1")
    second = store.finish_sweep(late.id, create_curve(), state=SweepState.DONE)
    monkeypatch.undo()
    two = store.generation()
    third = finish_new_sweep(store, create_curve(), start=3)

    def ids(after_generation: int) -> list[str]:
        return [each.id for each in store.find_curves(*asked, after_generation=after_generation)]

    assert ids(-1) == [third, second, first]
    assert ids(one) == [third, second]
    assert ids(two) == [third]
    assert ids(store.generation()) == []


def test_curves_are_listed_by_kind_platform_and_host(store: Store, host: Host) -> None:
    other = create_platform(threads=2)
    store.register_host("west", other, protocol=PROTOCOL, dtypes=[])
    a = finish_new_sweep(store, create_curve(), start=1)
    b = finish_new_sweep(store, create_curve(workload=LINEAR.describe()), start=2)
    c = finish_new_sweep(store, create_curve(platform=other), start=3, host="west")

    def ids(page: Page[CurveHeader]) -> list[str]:
        assert page.next_cursor is None
        return [header.id for header in page.items]

    assert ids(store.list_curves()) == [c, b, a]
    assert ids(store.list_curves(kind="matmul")) == [c, a]
    assert ids(store.list_curves(platform_key=create_platform().key)) == [b, a]
    assert ids(store.list_curves(host="west")) == [c]
    assert ids(store.list_curves(kind="linear", host="west")) == []


def test_generation_grows_when_answers_may_change(store: Store) -> None:
    seen = [store.generation()]

    def grew() -> bool:
        seen.append(store.generation())
        return seen[-1] > seen[-2]

    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    assert grew()
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    assert not grew()
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "float16"])
    assert grew()
    store.register_host(
        "east", create_platform(threads=2), protocol=PROTOCOL, dtypes=["float32", "float16"]
    )
    assert grew()
    flushed = replace(PROTOCOL, cache="flushed")
    store.register_host(
        "east", create_platform(threads=2), protocol=flushed, dtypes=["float32", "float16"]
    )
    assert grew()
    store.touch_host("east")
    assert not grew()
    sweep, _ = store.create_sweep(create_spec(), host="east")
    store.start_sweep(sweep.id)
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    assert not grew()
    store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert grew()


# Pages


def test_pages_of_sweeps_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [store.create_sweep(create_spec(start=start), host="east")[0].id for start in range(1, 6)]
    pages = [store.list_sweeps(limit=2)]
    # A sweep made between two pages must neither appear later nor move the others.
    store.create_sweep(create_spec(start=99), host="east")
    while pages[-1].next_cursor is not None:
        pages.append(store.list_sweeps(limit=2, cursor=pages[-1].next_cursor))
    newest_first = ids[::-1]
    assert [[sweep.id for sweep in page.items] for page in pages] == [
        newest_first[:2],
        newest_first[2:4],
        newest_first[4:],
    ]


def test_page_that_ends_the_list_has_no_cursor(store: Store, host: Host) -> None:
    assert store.list_sweeps() == Page(items=[], next_cursor=None)
    store.create_sweep(create_spec(start=1), host="east")
    store.create_sweep(create_spec(start=2), host="east")
    assert store.list_sweeps(limit=2).next_cursor is None
    assert store.list_sweeps(limit=1).next_cursor is not None


def test_pages_of_curves_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [finish_new_sweep(store, create_curve(), start=start) for start in range(1, 4)]
    first = store.list_curves(kind="matmul", limit=2)
    second = store.list_curves(kind="matmul", limit=2, cursor=first.next_cursor)
    assert [header.id for header in first.items] == [ids[2], ids[1]]
    assert [header.id for header in second.items] == [ids[0]]
    assert second.next_cursor is None


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


def test_pages_of_sweeps_oldest_first_follow_their_cursor(store: Store, host: Host) -> None:
    ids = [store.create_sweep(create_spec(start=start), host="east")[0].id for start in range(1, 4)]
    first = store.list_sweeps(oldest_first=True, limit=2)
    second = store.list_sweeps(oldest_first=True, limit=2, cursor=first.next_cursor)
    assert [sweep.id for sweep in first.items] == ids[:2]
    assert [sweep.id for sweep in second.items] == ids[2:]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "nonsense", "0" * 31, "G" * 32, "0" * 32 + "\n", "\0"])
def test_foreign_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.list_sweeps(cursor=cursor)
    with pytest.raises(InvalidRequestError):
        store.list_curves(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_page_size_is_bounded(store: Store, limit: int) -> None:
    with pytest.raises(InvalidRequestError):
        store.list_sweeps(limit=limit)


# Queries


def test_lists_of_headers_never_read_arrays(store: Store, database_url: str, host: Host) -> None:
    curve_id = finish_new_sweep(store, create_curve(), start=1)
    engine = create_database_engine(parse_url(database_url))
    with engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM curve_arrays")
        connection.commit()
    engine.dispose()
    assert (
        store.find_curves(MATMUL.describe().key, create_platform().key, PROTOCOL.key)[0].id
        == curve_id
    )
    assert store.list_curves().items[0].id == curve_id
    with pytest.raises(UnknownCurveError):
        store.load_curve(curve_id)


def test_protocol_round_trips_with_every_field(store: Store, host: Host) -> None:
    protocol = TimingProtocol(timer="cuda_graph", cache="flushed", version=7)
    curve_id = finish_new_sweep(store, create_curve(protocol=protocol), start=1)
    assert store.load_curve(curve_id).protocol == protocol


def test_a_host_that_gained_a_backend_is_news(store: Store) -> None:
    def register(**backends: list[str]) -> int:
        store.register_host(
            "east",
            create_platform(),
            protocol=PROTOCOL,
            dtypes=["float32"],
            backends=backends,
        )
        return store.generation()

    first = register(dense=["float32"])
    assert register(dense=["float32"]) == first
    assert register(dense=["float32"], packed=["float32"]) == first + 1
    assert store.get_host("east").backends == {"dense": ("float32",), "packed": ("float32",)}
