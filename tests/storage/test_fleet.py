"""What operators decide about hosts, on every database that the store runs on."""

from __future__ import annotations

import pytest

from profiler_service.errors import ConflictError, InvalidRequestError, UnknownHostError
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Host, HostStatus, Store, Sweep, WorkerIdentity
from tests.storage.examples import PROTOCOL, create_curve, create_platform

WORKER = WorkerIdentity(id="1", description="process 1 on east", device_lock="a", machine="m1")


def test_a_host_that_registers_itself_may_measure(host: Host) -> None:
    assert (host.status, host.labels, host.findings) == (HostStatus.APPROVED, {}, {})
    assert host.status.takes_sweeps and not host.is_ephemeral
    assert host.role is host.offered_platform_key is None


def test_labels_are_replaced_as_a_whole(store: Store, host: Host) -> None:
    before = store.generation()
    assert store.set_labels("east", {"pool": "train", "rack": "7"}).labels["rack"] == "7"
    assert store.set_labels("east", {"pool": "test"}).labels == {"pool": "test"}
    assert store.get_host("east").labels == {"pool": "test"}
    assert store.generation() == before + 2  # what services keep of hosts is read again


def test_labels_and_status_outlive_a_registration(store: Store, host: Host) -> None:
    store.set_labels("east", {"pool": "train"})
    store.set_status("east", HostStatus.DRAINING)
    again = store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    assert (again.labels, again.status) == ({"pool": "train"}, HostStatus.DRAINING)
    assert not again.status.takes_sweeps


def test_a_renamed_host_keeps_what_it_measured(store: Store, sweep: Sweep) -> None:
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert curve_id is not None
    store.set_labels("east", {"pool": "train"})
    renamed = store.rename_host("east", "west")
    assert (renamed.name, renamed.labels) == ("west", {"pool": "train"})
    assert [host.name for host in store.list_hosts()] == ["west"]
    assert store.get_sweep(sweep.id).host == "west"
    assert store.get_curve_header(curve_id).host == "west"


def test_a_host_is_renamed_neither_to_a_taken_name_nor_while_it_works(
    store: Store, database_url: str, host: Host
) -> None:
    store.register_host("west", create_platform(), protocol=PROTOCOL, dtypes=[])
    with pytest.raises(ConflictError, match="'west' already"):
        store.rename_host("east", "west")
    with pytest.raises(InvalidRequestError, match="can't be empty"):
        store.rename_host("east", "")
    worker = Store.open(database_url, worker=WORKER)
    worker.take_lease("east")
    with pytest.raises(ConflictError, match="running worker") as refusal:
        store.rename_host("east", "north")
    assert "stop the worker" in refusal.value.hint
    worker.release_lease("east")
    worker.close()
    assert store.rename_host("east", "north").name == "north"


def test_a_host_with_an_open_sweep_keeps_its_name(store: Store, sweep: Sweep) -> None:
    with pytest.raises(ConflictError, match="haven't ended"):
        store.rename_host("east", "west")


def test_a_removed_host_is_retired_and_its_curves_stay(store: Store, sweep: Sweep) -> None:
    curve_id = store.finish_sweep(sweep.id, create_curve(), state=SweepState.DONE)
    assert store.remove_host("east").status is HostStatus.RETIRED
    assert curve_id is not None and store.get_curve_header(curve_id).host == "east"


def test_nobody_decides_about_a_host_that_isn_t_there(store: Store) -> None:
    with pytest.raises(UnknownHostError, match="'east'"):
        store.set_labels("east", {})
    with pytest.raises(UnknownHostError, match="'east'"):
        store.set_status("east", HostStatus.APPROVED)
    with pytest.raises(UnknownHostError, match="'east'"):
        store.rename_host("east", "west")
    with pytest.raises(UnknownHostError, match="'east'"):
        store.remove_host("east")
