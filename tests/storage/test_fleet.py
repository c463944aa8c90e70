"""What operators decide about hosts, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from profiler_service.access.audit import AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.errors import (
    ConflictError,
    HostNotAdmittedError,
    HostRefusedError,
    InvalidRequestError,
    UnknownHostError,
)
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Host, HostStatus, Store, Sweep, WorkerIdentity
from profiler_service.storage.tables import hosts
from tests.storage.examples import PROTOCOL, create_curve, create_platform, create_spec
from tests.storage.test_schema import connect

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


def test_a_removed_host_that_talks_again_is_told_so(store: Store, host: Host) -> None:
    store.remove_host("east")
    with pytest.raises(HostRefusedError, match="'east' has been removed") as refusal:
        store.touch_host("east")
    assert "lhp hosts approve" in refusal.value.hint
    with pytest.raises(HostRefusedError, match="removed"):
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    store.set_status("east", HostStatus.APPROVED)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
    assert store.touch_host("east")[0] is HostStatus.APPROVED


def test_only_an_approved_host_takes_sweeps(store: Store, sweep: Sweep) -> None:
    for status in HostStatus:
        if status is not HostStatus.APPROVED:
            store.set_status("east", HostStatus.APPROVED)
            store.set_status("east", status)
            with pytest.raises(HostNotAdmittedError, match=f"'east' is {status}"):
                store.create_sweep(create_spec(start=2), host="east")
            # what is there already is shared: it ends as it would
            assert store.create_sweep(create_spec(), host="east") == (sweep, False)
    assert len(store.list_sweeps().items) == 1


@pytest.mark.parametrize("status", [HostStatus.PENDING, HostStatus.QUARANTINED, HostStatus.RETIRED])
def test_a_host_that_isn_t_let_in_has_nothing_to_drain(
    store: Store, host: Host, status: HostStatus
) -> None:
    store.set_status("east", status)
    with pytest.raises(ConflictError, match=f"'east' is {status}") as refusal:
        store.set_status("east", HostStatus.DRAINING)
    assert "lhp hosts approve" in refusal.value.hint
    assert store.get_host("east").status is status


def test_of_several_changes_all_are_made_or_none(store: Store, host: Host) -> None:
    store.set_status("east", HostStatus.PENDING)
    with pytest.raises(ConflictError):
        store.change_host("east", labels={"a": "b"}, status=HostStatus.DRAINING, by=Caller())
    assert store.get_host("east").labels == {}
    store.change_host("east", labels={"a": "b"}, status=HostStatus.APPROVED, by=Caller())
    store.remove_host("east", by=Caller())
    entries = store.list_audit(AuditFilter(subject="east")).items
    assert [each.action for each in entries] == ["host.remove", "host.change"]
    assert entries[1].details == {"labels": "{'a': 'b'}", "status": "approved"}


def test_the_open_sweeps_of_a_removed_host_fail(store: Store, sweep: Sweep) -> None:
    store.remove_host("east")
    ended = store.get_sweep(sweep.id)
    assert (ended.state, ended.error) == (SweepState.FAILED, "host 'east' was removed")
    assert ended.finished_at is not None


def test_an_ephemeral_host_is_gone_after_a_day_s_silence(
    store: Store, database_url: str, host: Host
) -> None:
    def be_silent_for(**time: float) -> HostStatus:
        seen_at = dt.datetime.now(dt.UTC) - dt.timedelta(**time)
        with connect(database_url) as connection:
            connection.execute(sa.update(hosts).values(last_seen_at=seen_at))
        return store.get_host("east").status

    assert be_silent_for(hours=25) is HostStatus.APPROVED
    with connect(database_url) as connection:
        connection.execute(sa.update(hosts).values(is_ephemeral=True))
    assert be_silent_for(hours=23) is HostStatus.APPROVED
    assert be_silent_for(hours=25) is HostStatus.RETIRED
    with pytest.raises(HostRefusedError):
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
