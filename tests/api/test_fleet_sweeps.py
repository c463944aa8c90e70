"""/fleet-sweeps: one sweep for every host with a label."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from profiler_service.storage.records import HostStatus
from profiler_service.storage.store import Store
from tests.api.conftest import DTYPES, HOST, Worker, check_problem
from tests.api.curves import PLATFORM, PROTOCOL, stairs

pytestmark = pytest.mark.anyio

LABEL = {"pool": "train"}


def body(last: int = 9, **changes: object) -> dict[str, Any]:
    return {"axes": [{"first": 8, "last": last}] * 2, "label": "pool:train", **changes}


def register(store: Store, *names: str) -> None:
    for name in names:
        store.register_host(name, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        store.set_labels(name, LABEL)


async def test_every_host_with_the_label_measures_and_the_progress_is_that_of_all(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    register(worker.store, "gpu-a", "gpu-b", "gpu-c")
    worker.store.set_status("gpu-c", HostStatus.DRAINING)
    started = await both_client.post("/fleet-sweeps", json=body())
    assert started.status_code == 201
    found = started.json()
    # HOST has no label, and gpu-c takes no sweeps.
    assert [each["host"] for each in found["sweeps"]] == ["gpu-a", "gpu-b"]
    assert (found["state"], found["fraction"]) == ("queued", 0)
    sweeps = [await worker.take(), await worker.take()]
    # Asked for again while it is open, it is the same one.
    again = await both_client.post("/fleet-sweeps", json=body())
    assert (again.status_code, again.json()["id"]) == (200, found["id"])
    worker.finish(sweeps[0], stairs(8))
    half = (await both_client.get(f"/fleet-sweeps/{found['id']}")).json()
    assert (half["state"], half["fraction"]) == ("running", 0.5)
    worker.finish(sweeps[1], stairs(8))
    done = (await both_client.get(f"/fleet-sweeps/{found['id']}")).json()
    assert (done["state"], done["fraction"]) == ("done", 1)
    assert all(each["curve"] for each in done["sweeps"])
    assert (await both_client.get("/fleet-sweeps")).json()["items"] == [done]


async def test_all_stop_when_it_is_cancelled(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    register(sqlite_worker.store, "gpu-a", "gpu-b")
    started = (await client.post("/fleet-sweeps", json=body())).json()
    sqlite_worker.store.start_sweep((await sqlite_worker.take()).id)
    found = (await client.post(f"/fleet-sweeps/{started['id']}/cancel")).json()
    assert sorted(each["state"] for each in found["sweeps"]) == ["cancelled", "running"]
    assert all(each["cancel_requested"] for each in found["sweeps"])
    assert found["state"] == "running"
    trail = (await client.get("/audit", params={"subject": started["id"]})).json()["items"]
    assert [each["action"] for each in trail] == ["fleet_sweep.cancel", "fleet_sweep.create"]
    check_problem(await client.post(f"/fleet-sweeps/{'0' * 32}/cancel"), 404)


async def test_it_is_for_hosts_that_there_are_and_names_none(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    check_problem(await client.post("/fleet-sweeps", json=body()), 404)
    register(sqlite_worker.store, "gpu-a")
    check_problem(await client.post("/fleet-sweeps", json=body(host=HOST)), 422, "leave out")
    check_problem(await client.post("/fleet-sweeps", json=body(budget=5e-324)), 422, "/docs")
    sqlite_worker.store.set_status("gpu-a", HostStatus.DRAINING)
    check_problem(await client.post("/fleet-sweeps", json=body()), 404, "drained")
    assert sqlite_worker.handed_in.empty()
