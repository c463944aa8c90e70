"""What operators decide about hosts, over HTTP."""

from __future__ import annotations

import httpx
import pytest

from profiler_service.answering.host_states import describe_wrong, find_state
from profiler_service.storage.store import HostStatus
from tests.api.conftest import HOST, Worker, ask, check_problem
from tests.storage.examples import create_host

pytestmark = pytest.mark.anyio

REQUEST = {"workload": "linear", "axes": [{"first": 1, "last": 8}, {"first": 1, "last": 8}]}
OTHER = REQUEST | {"axes": [{"first": 1, "last": 9}, {"first": 1, "last": 9}]}


@pytest.mark.parametrize(
    ("status", "silent_s", "is_busy", "state"),
    [
        (HostStatus.PENDING, 0, False, "pending"),
        (HostStatus.APPROVED, 1, False, "ready"),
        (HostStatus.APPROVED, 1, True, "busy"),
        # Longer than the 15 s that make a host present.
        (HostStatus.APPROVED, 16, True, "away"),
        (HostStatus.DRAINING, 1, True, "draining"),
        (HostStatus.QUARANTINED, 1, False, "quarantined"),
        (HostStatus.RETIRED, 16, False, "retired"),
    ],
)
def test_a_state_is_of_what_was_decided_then_of_the_heartbeat(
    status: HostStatus, silent_s: float, is_busy: bool, state: str
) -> None:
    host = create_host(status=status, silent_s=silent_s)
    assert find_state(host, presence_s=15, is_busy=is_busy) == state


def test_a_host_that_joined_and_was_never_heard_of_is_approved() -> None:
    host = create_host(status=HostStatus.APPROVED, silent_s=600, has_been_heard=False)
    assert find_state(host, presence_s=15, is_busy=False) == "approved"


@pytest.mark.parametrize(
    ("skew_s", "wrong"),
    [
        (3600.0, "its clock is 3600 s ahead of the database's"),
        (-3600.0, "its clock is 3600 s behind the database's"),
        (0.2, ""),
        (None, ""),
    ],
)
def test_a_wrong_clock_is_named_and_not_obeyed(skew_s: float | None, wrong: str) -> None:
    host = create_host(status=HostStatus.APPROVED, silent_s=1, clock_skew_s=skew_s)
    assert describe_wrong(host) == wrong
    assert find_state(host, presence_s=15, is_busy=False) == "ready"


async def test_a_draining_host_takes_no_new_sweep_and_says_so(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    queued = await client.post("/sweeps", json=REQUEST)
    assert queued.status_code == 201, queued.text
    drained = await client.patch(f"/hosts/{HOST}", json={"status": "draining"})
    assert (drained.status_code, drained.json()["state"]) == (200, "draining")
    for refused in (
        await client.post("/sweeps", json=OTHER),
        await ask(client, host=HOST),
    ):
        check_problem(refused, 503, "another host")
        assert refused.json()["detail"] == f"no sweeps are taken by {HOST} (draining)"
    await client.patch(f"/hosts/{HOST}", json={"status": "approved"})
    again = await client.post("/sweeps", json=OTHER)
    assert again.status_code == 201


async def test_a_running_sweep_makes_a_host_busy(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sweep_id = (await client.post("/sweeps", json=REQUEST)).json()["id"]
    assert (await client.get(f"/hosts/{HOST}")).json()["state"] == "ready"
    sqlite_worker.store.start_sweep(sweep_id)
    [listed] = (await client.get("/hosts")).json()
    assert listed["state"] == "busy" == (await client.get(f"/hosts/{HOST}")).json()["state"]


async def test_a_removed_host_is_listed_only_on_request_and_its_sweeps_fail(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sweep_id = (await client.post("/sweeps", json=REQUEST)).json()["id"]
    assert (await client.delete(f"/hosts/{HOST}")).json()["state"] == "retired"
    assert (await client.get("/hosts")).json() == []
    [listed] = (await client.get("/hosts", params={"retired": "true"})).json()
    assert listed["name"] == HOST
    sweep = (await client.get(f"/sweeps/{sweep_id}")).json()
    assert (sweep["state"], sweep["error"]) == ("failed", f"host '{HOST}' was removed")
    check_problem(await ask(client, host=HOST), 503, "another host")


async def test_labels_and_names_are_changed(client: httpx.AsyncClient) -> None:
    changed = await client.patch(
        f"/hosts/{HOST}", json={"labels": {"pool": "train"}, "name": "gpu-a"}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["labels"]) == ("gpu-a", {"pool": "train"})
    check_problem(await client.patch("/hosts/nowhere", json={"name": "gpu-b"}), 404)
    check_problem(await client.delete("/hosts/nowhere"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {"labels": {"a b": "c"}},
        {"labels": {"a": ""}},
        {"status": "retired"},
        {"name": ""},
        {"colour": "red"},
    ],
)
async def test_what_a_host_can_t_have_is_refused(
    client: httpx.AsyncClient, body: dict[str, object]
) -> None:
    check_problem(await client.patch(f"/hosts/{HOST}", json=body), 422)


async def test_what_operators_decide_is_in_the_trail(client: httpx.AsyncClient) -> None:
    await client.patch(f"/hosts/{HOST}", json={"labels": {"pool": "train"}, "status": "draining"})
    await client.delete(f"/hosts/{HOST}")
    trail = (await client.get("/audit", params={"subject": HOST})).json()["items"]
    assert [(each["action"], each["details"], each["address"]) for each in trail] == [
        ("host.remove", {}, "127.0.0.1"),
        ("host.change", {"labels": "{'pool': 'train'}", "status": "draining"}, "127.0.0.1"),
    ]


async def test_a_host_that_was_never_let_in_can_t_drain(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    sqlite_worker.store.set_status(HOST, HostStatus.PENDING)
    refused = await client.patch(f"/hosts/{HOST}", json={"status": "draining"})
    check_problem(refused, 409, f"lhp hosts approve {HOST}")


async def test_a_host_whose_platform_is_the_same_can_t_be_split(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    refused = await client.patch(f"/hosts/{HOST}", json={"split_to": "gpu-b"})
    check_problem(refused, 409, "quarantined")
    assert f"'{HOST}' hasn't changed" in refused.json()["detail"]
    # Not even what is wanted besides is done.
    both = {"labels": {"pool": "train"}, "split_to": "gpu-b"}
    check_problem(await client.patch(f"/hosts/{HOST}", json=both), 409)
    [host] = (await client.get("/hosts")).json()
    assert (host["name"], host["labels"]) == (HOST, {})
