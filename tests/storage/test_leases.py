"""Leases: one worker measures for a host at a time, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import sqlalchemy as sa

from profiler_service.errors import HostTakenError
from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.leases import LEASE_S
from profiler_service.storage.store import Store, Sweep, WorkerIdentity
from profiler_service.storage.tables import leases
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)
from tests.storage.test_processes import barrier_wait, run_twice
from tests.storage.test_schema import connect, downgrade

OpenAs = Callable[..., Store]


def identity(name: str, *, device_lock: str = "", machine: str = "") -> WorkerIdentity:
    """A worker called `name`, on a machine of its own unless said otherwise."""
    return WorkerIdentity(
        id=name,
        description=f"process 7 on {name}",
        device_lock=device_lock or f"lock of {name}",
        machine=machine,
    )


def let_time_pass(url: str, seconds: float) -> None:
    """Moves every renewal of a lease back by so many seconds, as if they had passed since."""
    with connect(url) as connection:
        for row in connection.execute(sa.select(leases)).all():
            connection.execute(
                sa.update(leases)
                .where(leases.c.host == row.host)
                .values(renewed_at=row.renewed_at - dt.timedelta(seconds=seconds))
            )


@pytest.fixture
def open_as(database_url: str) -> Iterator[OpenAs]:
    """Opens the store as a worker."""
    with ExitStack() as stack:

        def open_store(name: str, *, device_lock: str = "", machine: str = "") -> Store:
            worker = identity(name, device_lock=device_lock, machine=machine)
            return stack.enter_context(closing(Store.open(database_url, worker=worker)))

        yield open_store


def test_a_second_worker_of_a_host_is_refused_by_name_and_told_what_to_do(open_as: OpenAs) -> None:
    open_as("one").take_lease("east")
    with pytest.raises(HostTakenError, match=r"'east' .* \(process 7 on one\)") as refusal:
        open_as("two").take_lease("east")
    assert "LHP_HOST" in refusal.value.hint
    open_as("two").take_lease("west")


def test_a_lease_is_free_once_it_has_run_out_and_not_before(
    open_as: OpenAs, database_url: str
) -> None:
    one, two = open_as("one"), open_as("two")
    one.take_lease("east")
    let_time_pass(database_url, LEASE_S - 5)
    with pytest.raises(HostTakenError):
        two.take_lease("east")
    let_time_pass(database_url, 6)
    two.take_lease("east")
    for use in (one.renew_lease, one.take_lease):
        with pytest.raises(HostTakenError, match=r"process 7 on two"):
            use("east")


def test_a_renewed_lease_lasts_anew(open_as: OpenAs, database_url: str) -> None:
    one = open_as("one")
    one.take_lease("east")
    for _ in range(3):
        let_time_pass(database_url, LEASE_S - 5)
        one.renew_lease("east")
    with pytest.raises(HostTakenError):
        open_as("two").take_lease("east")


def test_a_worker_that_was_cut_off_for_long_keeps_a_lease_that_nobody_took(
    open_as: OpenAs, database_url: str
) -> None:
    one = open_as("one")
    one.take_lease("east")
    let_time_pass(database_url, 3600)
    one.renew_lease("east")
    with pytest.raises(HostTakenError):
        open_as("two").take_lease("east")


def test_a_lease_given_back_is_free_at_once_and_lost_to_its_holder(open_as: OpenAs) -> None:
    one, two = open_as("one"), open_as("two")
    one.take_lease("east")
    one.release_lease("east")
    with pytest.raises(HostTakenError, match="no longer holds"):
        one.renew_lease("east")
    two.take_lease("east")
    one.release_lease("east")  # nobody else's
    two.renew_lease("east")


def test_who_holds_the_device_of_a_dead_worker_gets_its_lease_at_once(open_as: OpenAs) -> None:
    open_as("one", device_lock="boot 1 cpu").take_lease("east")
    with pytest.raises(HostTakenError):
        open_as("other device", device_lock="boot 1 GPU-1").take_lease("east")
    open_as("two", device_lock="boot 1 cpu").take_lease("east")


def test_a_clock_set_back_by_hours_frees_leases_instead_of_keeping_them(
    open_as: OpenAs, database_url: str
) -> None:
    open_as("one").take_lease("east")
    let_time_pass(database_url, -2 * 3600)
    open_as("two").take_lease("east")


def test_hosts_from_before_there_were_leases_are_free(store: Store, database_url: str) -> None:
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    sweep, _ = store.create_sweep(create_spec(), host="east")
    store.start_sweep(sweep.id, measured_as="old")
    store.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    store.close()
    downgrade(database_url, "0004")
    schema.upgrade(database_url)
    worker = identity("one", machine="m1")
    with closing(Store.open(database_url, worker=worker)) as one:
        one.take_lease("east")
        # It isn't known which machine began it: it goes on.
        one.start_sweep(sweep.id, measured_as="old")
        assert len(one.load_batches(sweep.id)) == 1
        assert one.commit_batch(sweep.id, 1, create_samples(), PROGRESS)


def take_leases(url: str) -> list[bool]:
    taken = []
    worker = identity(f"process {barrier_wait()}")
    with closing(Store.open(url, worker=worker)) as store:
        for number in range(20):
            barrier_wait()
            try:
                store.take_lease(f"host {number}")
                taken.append(True)
            except HostTakenError:
                taken.append(False)
    return taken


def test_of_two_processes_that_ask_at_once_one_gets_the_lease(database_url: str) -> None:
    first, second = run_twice(take_leases, database_url)
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 20


# What a worker may change


CHANGES: dict[str, Callable[[Store, str], object]] = {
    "register": lambda store, _: store.register_host(
        "east", create_platform(threads=2), protocol=PROTOCOL, dtypes=[]
    ),
    "heartbeat": lambda store, _: store.touch_host("east"),
    "start": lambda store, sweep: store.start_sweep(sweep, measured_as="other"),
    "commit": lambda store, sweep: store.commit_batch(sweep, 1, create_samples(), PROGRESS),
    "pause": lambda store, sweep: store.pause_sweep(sweep, "lost"),
    "fail": lambda store, sweep: store.fail_sweep(sweep, "lost"),
    "finish": lambda store, sweep: store.finish_sweep(sweep, create_curve(), state=SweepState.DONE),
}


@pytest.fixture
def begun(open_as: OpenAs) -> tuple[Store, Sweep]:
    """The store of a worker that holds the lease of `east`, and a sweep that it has begun."""
    one = open_as("one")
    one.take_lease("east")
    one.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    sweep, _ = one.create_sweep(create_spec(), host="east")
    one.start_sweep(sweep.id, measured_as="so")
    one.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    return one, sweep


@pytest.mark.parametrize("change", CHANGES)
def test_a_worker_that_has_lost_its_host_changes_nothing_of_it(
    open_as: OpenAs, database_url: str, begun: tuple[Store, Sweep], change: str
) -> None:
    one, sweep = begun
    let_time_pass(database_url, LEASE_S + 1)
    two = open_as("two")
    two.take_lease("east")
    before = two.get_host("east"), two.get_sweep(sweep.id), two.generation()
    with pytest.raises(HostTakenError, match=r"process 7 on two"):
        CHANGES[change](one, sweep.id)
    assert (two.get_host("east"), two.get_sweep(sweep.id), two.generation()) == before
    assert len(two.load_batches(sweep.id)) == 1
    CHANGES[change](two, sweep.id) if change != "start" else two.start_sweep(sweep.id)


@pytest.mark.parametrize("change", CHANGES)
def test_without_an_identity_nothing_of_a_measuring_host_is_changed(
    store: Store, begun: tuple[Store, Sweep], change: str
) -> None:
    one, sweep = begun
    with pytest.raises(HostTakenError):
        CHANGES[change](store, sweep.id)
    one.release_lease("east")
    CHANGES[change](store, sweep.id) if change != "start" else store.start_sweep(sweep.id)


def test_who_asks_and_cancels_needs_no_lease(store: Store, begun: tuple[Store, Sweep]) -> None:
    _, sweep = begun
    assert store.create_sweep(create_spec(start=9), host="east")[1]
    assert store.request_cancel(sweep.id).cancel_requested


# Samples of one machine in a curve


@pytest.mark.parametrize(
    ("began", "goes_on", "num_kept"),
    # The same one, restarted perhaps: all is kept. Another one: all is measured again. Unknown:
    # what is known decides.
    [("m1", "m1", 1), ("m1", "m2", 0), ("", "m2", 1), ("m1", "", 1)],
)
def test_a_sweep_goes_on_only_on_the_machine_that_began_it(
    open_as: OpenAs, database_url: str, began: str, goes_on: str, num_kept: int
) -> None:
    one = open_as("one", machine=began)
    one.take_lease("east")
    one.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    sweep, _ = one.create_sweep(create_spec(), host="east")
    one.start_sweep(sweep.id, measured_as="platform of one")
    one.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    let_time_pass(database_url, LEASE_S + 1)

    two = open_as("two", machine=goes_on)
    two.take_lease("east")
    # Begun anew, it may be on any platform.
    measured_as = "platform of two" if num_kept == 0 else "platform of one"
    running = two.start_sweep(sweep.id, measured_as=measured_as)

    assert running.state is SweepState.RUNNING
    assert running.progress == (None if num_kept == 0 else PROGRESS)
    assert len(two.load_batches(sweep.id)) == num_kept
    assert two.commit_batch(sweep.id, num_kept, create_samples(), PROGRESS)
    # The machine is noted once: it doesn't begin anew a second time.
    two.start_sweep(sweep.id, measured_as=measured_as)
    assert len(two.load_batches(sweep.id)) == num_kept + 1


def test_an_ended_sweep_keeps_its_samples_whoever_starts_it(
    open_as: OpenAs, database_url: str
) -> None:
    one = open_as("one", machine="m1")
    one.take_lease("east")
    one.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    sweep, _ = one.create_sweep(create_spec(), host="east")
    one.start_sweep(sweep.id)
    one.commit_batch(sweep.id, 0, create_samples(), PROGRESS)
    one.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    one.release_lease("east")
    two = open_as("two", machine="m2")
    two.take_lease("east")
    assert two.start_sweep(sweep.id, measured_as="x").state is SweepState.DONE
    assert len(two.load_batches(sweep.id)) == 1
