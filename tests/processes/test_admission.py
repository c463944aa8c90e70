"""Workers whose hosts operators approve, drain and remove: whole processes."""

from __future__ import annotations

from profiler_service.plan.spec import SweepState
from profiler_service.processes.exit_codes import CANNOT_RUN
from profiler_service.storage.store import HostStatus, Store
from tests.databases import only_postgresql, only_sqlite
from tests.processes.fake_worker import HOST, PATIENCE_S, PROTOCOL, platform, wait_until
from tests.processes.test_one_measurer import HandIn, Make, hand_in, is_registered, make, num_kept

__all__ = ["hand_in", "make"]


@only_sqlite
def test_a_pending_host_waits_and_measures_when_it_is_approved(
    store: Store, make: Make, hand_in: HandIn
) -> None:
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    sweep = hand_in(2)
    store.set_status(HOST, HostStatus.PENDING)
    machine = make("one")
    machine.start()
    wait_until(lambda: "waits for approval" in machine.output())
    assert store.get_sweep(sweep.id).state is SweepState.QUEUED
    store.set_status(HOST, HostStatus.APPROVED)
    wait_until(lambda: store.get_sweep(sweep.id).state is SweepState.DONE)


@only_postgresql
def test_a_draining_host_ends_its_sweeps_and_a_removed_one_its_worker(
    store: Store, make: Make, hand_in: HandIn
) -> None:
    machine = make("one")
    worker = machine.start()
    wait_until(lambda: is_registered(store, HOST))
    sweep = hand_in(2)
    endless = hand_in(10_000)
    store.set_status(HOST, HostStatus.DRAINING)
    wait_until(lambda: store.get_sweep(sweep.id).state is SweepState.DONE)
    wait_until(lambda: num_kept(store, endless.id) >= 1)
    store.remove_host(HOST)
    assert worker.wait(PATIENCE_S) == CANNOT_RUN
    assert f"host '{HOST}' has been removed: this worker ends" in machine.output()
    assert store.get_sweep(endless.id).state is SweepState.FAILED
    # Started again, it is told so before it measures anything.
    assert machine.start().wait(PATIENCE_S) != 0
    assert machine.output().endswith(f"error: host '{HOST}' has been removed\n")
    assert store.get_host(HOST).status is HostStatus.RETIRED
