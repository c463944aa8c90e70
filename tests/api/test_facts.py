"""GET /facts: what races confirmed, as a list with filters."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import Any

import httpx
import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.grid import Grid
from profiler_service.kinds import MATMUL
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Store, WorkerIdentity
from profiler_service.wire import FactInfo
from tests.api.conftest import HOST, Worker, ask, check_problem
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import faster_at, growing, pair, race

pytestmark = pytest.mark.anyio


async def items(client: httpx.AsyncClient, **filters: object) -> list[dict[str, Any]]:
    response = await client.get("/facts", params=filters)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["items"]
    return found


async def test_a_fact_says_what_was_confirmed_and_where_it_is_from(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    curve = race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    [sweep] = worker.store.list_sweeps().items
    [found] = await items(both_client)
    assert FactInfo.model_validate(found) == FactInfo(
        id=found["id"],
        dims=[5, 6],
        rival=[8, 8],
        verdict="faster",
        ratio=math.sqrt(0.94 * 0.96),
        ratio_interval=(0.94, 0.96),
        num_pairs=100,
        num_children=1,
        num_arenas=1,
        measured_at=MEASURED_AT,
        workload="linear[backend=dense,batch=16,dtype=float32]",
        axis_names=["out_features", "in_features"],
        platform=PLATFORM.key,
        protocol=PROTOCOL.key,
        host=HOST,
        sweep=sweep.id,
        curve=curve,
        stale=False,
    )


async def test_a_contradiction_is_shown_on_both_sides(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    race(worker, growing, pair((8, 8), 1.02, 1.03))
    later, earlier = await items(both_client)
    assert (later["contradicts"], later["overruled_by"]) == ([earlier["id"]], None)
    assert (earlier["contradicts"], earlier["overruled_by"]) == ([], later["id"])
    assert (earlier["repeats"], later["repeats"]) == (None, earlier["id"])


async def test_facts_are_filtered(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    may = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    race(sqlite_worker, growing, pair((9, 9), 1.02, 1.03), measured_at=may)
    store = sqlite_worker.store
    spec = SweepSpec(workload=MATMUL.describe(), mode="race", grid=Grid.window((5,), (3,)))
    sweep, _ = store.create_sweep(spec, host=HOST)
    one = ConfirmedPair(
        dims=(5,), rival=(8,), verdict="faster", ratio=0.9, low=0.8, high=0.95, num_pairs=9
    )
    sqlite_worker.finish(sweep, lambda dims: 1e-3, confirmed=[one])

    async def rivals(**filters: object) -> list[list[int]]:
        return [each["rival"] for each in await items(client, **filters)]

    assert await rivals() == [[8], [9, 9], [8, 8]]
    assert await rivals(workload="linear") == [[9, 9], [8, 8]]
    assert await rivals(workload="linear", batch=16) == [[9, 9], [8, 8]]
    assert await rivals(workload="linear", batch=8) == []
    assert await rivals(verdict="slower") == [[9, 9]]
    assert await rivals(dims="5,6") == [[9, 9], [8, 8]]
    assert await rivals(dims="5") == [[8]]
    assert await rivals(host=HOST, platform=PLATFORM.key[:8], limit=1) == [[8]]
    assert await rivals(since="2026-05-01") == [[9, 9]]
    assert await rivals(since="2026-05-01T00:00:00.000001Z") == []


async def test_pages_of_facts_follow_their_cursor(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    for rival in (8, 9, 10):
        race(sqlite_worker, growing, pair((rival, 8), 0.94, 0.96))
    first = (await client.get("/facts?limit=2")).json()
    second = (await client.get(f"/facts?limit=2&cursor={first['next_cursor']}")).json()
    pages = [[each["rival"][0] for each in page["items"]] for page in (first, second)]
    assert (pages, second["next_cursor"]) == ([[10, 9], [8]], None)
    assert (await client.get("/facts?cursor=")).json() == (await client.get("/facts")).json()
    assert (await client.head("/facts")).status_code == 200


async def test_facts_of_another_platform_are_stale(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    other = dataclasses.replace(PLATFORM, threads=2)
    sqlite_worker.store.register_host(HOST, other, protocol=PROTOCOL, dtypes=["float32"])
    [found] = await items(client)
    assert found["stale"]


@pytest.mark.parametrize(
    ("query", "status", "hint"),
    [
        ("verdicts=faster", 422, "did you mean 'verdict'?"),
        ("workload=linear&verdicts=faster", 422, "did you mean 'verdict'?"),
        ("batch=16", 422, "with a workload"),
        ("workload=linear&batch=x", 422, "batch takes a whole number"),
        ("workload=liner", 404, "did you mean 'linear'?"),
        ("host=nobody", 404, ""),
        ("platform=nope", 404, ""),
        ("dims=5,x", 422, "write dims as"),
        ("verdict=fastest", 422, "did you mean 'faster'?"),
        ("since=yesterday", 422, "/docs"),
        ("since=0.5", 422, "/docs"),
        ("since=2026", 422, "/docs"),
        ("since=20260501", 422, "/docs"),
        ("cursor=x", 422, "leave the cursor out"),
        ("limit=0", 422, "/docs"),
        ("limit=1&limit=2", 422, "once"),
    ],
)
async def test_what_is_no_filter_is_refused(
    client: httpx.AsyncClient, query: str, status: int, hint: str
) -> None:
    check_problem(await client.get(f"/facts?{query}"), status, hint)


async def test_repeated_pairs_show_what_differs_between_processes(
    client: httpx.AsyncClient, sqlite_worker: Worker, sqlite_url: str
) -> None:
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    page = (await client.get("/facts")).json()
    # Nothing was repeated: the prior.
    expected = {
        "workload": "linear",
        "platform": PLATFORM.key,
        "protocol": PROTOCOL.key,
        "tau": 0.0025,
        "num_repeats": 0,
        "tau_between_arenas": None,
    }
    assert page["repeatability"] == [pytest.approx(expected)]
    # And a race isn't told of a τ that nobody knows.
    assert (await ask(client, "50,60", wait=0)).status_code == 202
    assert (await sqlite_worker.take()).spec.tau is None
    # Two workers' confirmations, 0.4 % wide, which differ by 2 %.
    close = 1.96 * 0.004
    for number, log_ratio in enumerate((-0.05, -0.03)):
        identity = WorkerIdentity(id=f"w{number}", description="a worker", device_lock="lock")
        store = Store.open(sqlite_url, worker=identity)
        store.take_lease(HOST)
        low, high = math.exp(log_ratio - close), math.exp(log_ratio + close)
        race(Worker(store), faster_at((9, 9)), pair((9, 9), low, high))
        store.release_lease(HOST)
        store.close()
    [found] = (await client.get("/facts")).json()["repeatability"]
    # Each interval has a variance of 1.6e-5. A process and an arena explain 0.0025² = 6.25e-6 each,
    # and noise the other 3.5e-6. Noise and arenas explain 2 · 9.75e-6 = 1.95e-5 of d² = 4e-4, and
    # two processes half of the rest, 1.9025e-4. Its weight is (1.25e-5 / 3.2e-5)² = 0.15259.
    expected_tau = math.sqrt((4 * 6.25e-6 + 0.15259 * 1.9025e-4) / 4.15259)
    assert found["tau"] == pytest.approx(expected_tau, rel=1e-3)
    assert found["num_repeats"] == 1
    assert (await ask(client, "51,60", wait=0)).status_code == 202
    assert (await sqlite_worker.take()).spec.tau == pytest.approx(found["tau"])
