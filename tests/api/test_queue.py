"""A host's queue as clients see it: what is ahead, when to ask again, and how much one may ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.answering.services import open_services
from profiler_service.answering.shutdown import Shutdown
from profiler_service.app import create_app
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, follow, serving
from tests.api.curves import PLATFORM, PROTOCOL, stairs
from tests.api.test_sweeps import parse_events

pytestmark = pytest.mark.anyio


SAMPLES = Samples(
    point=np.zeros(1, dtype=np.int32),
    round=np.zeros(1, dtype=np.int32),
    time_s=np.zeros(1, dtype=np.float32),
    latency_s=np.ones(1),
    calls=1,
    unstable=np.zeros(1, dtype=np.bool_),
)


def spec_of(mode: Mode) -> SweepSpec:
    grid = Grid(axes=(GridAxis(first=8, count=4),))
    return SweepSpec(workload=MATMUL.describe(), mode=mode, grid=grid)


def grid_of(last: int, first: int = 1) -> dict[str, object]:
    return {"workload": "matmul", "axes": [{"first": first, "last": last}]}


@contextlib.asynccontextmanager
async def serving_two(
    settings: Settings, worker: Worker
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients at two addresses."""
    app = create_app(settings, store=worker.store, enqueue=worker.enqueue)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        one, other = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app, client=(address, 1234)),
                    base_url="http://service",
                )
            )
            for address in ("10.0.0.1", "10.0.0.2")
        ]
        yield one, other


async def test_one_client_takes_only_its_share_of_the_queue(
    settings: Settings, sqlite_worker: Worker
) -> None:
    limited = settings.model_copy(update={"max_queued": 4, "max_queued_per_client": 2})
    async with serving_two(limited, sqlite_worker) as (greedy, modest):
        first, _ = [await greedy.post("/sweeps", json=grid_of(last)) for last in (2, 3)]
        for refused in (
            await greedy.post("/sweeps", json=grid_of(4)),
            await greedy.get("/lhp", params={"dims": "5,6", "wait": 0}),
        ):
            assert refused.status_code == 429
            assert refused.json()["type"] == "/problems/too-many-requests"
            assert int(refused.headers["retry-after"]) > 0
            assert "you asked for" in refused.json()["detail"]
        # Somebody else still gets in, also to what the first one waits for.
        assert (await modest.post("/sweeps", json=grid_of(3))).status_code == 200
        asked = await modest.get("/lhp", params={"dims": "5,6", "wait": 0})
        assert asked.status_code == 202
        # To join what another one asked for takes no room.
        joined = await greedy.get("/lhp", params={"dims": "5,6", "wait": 0})
        assert (joined.status_code, joined.json()["id"]) == (202, asked.json()["id"])
        # When one has ended, there is room again.
        await greedy.post(f"/sweeps/{first.json()['id']}/cancel")
        assert (await greedy.post("/sweeps", json=grid_of(4))).status_code == 201


async def test_a_comparison_of_kernels_takes_room_of_the_client_whose_question_brought_it(
    settings: Settings, sqlite_worker: Worker
) -> None:
    both = {"dense": ("float32",), "packed": ("float32",)}
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"], backends=both
    )
    limited = settings.model_copy(update={"max_queued_per_client": 2})
    async with serving(limited, sqlite_worker) as client:
        asking = asyncio.create_task(client.get("/lhp", params={"dims": "5,6"}))
        race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
        assert (race.spec.mode, comparison.spec.mode) == ("race", "kernels")
        sqlite_worker.finish(race, stairs(8))
        assert (await asking).status_code == 200
        trail = (await client.get("/audit", params={"subject": comparison.id})).json()["items"]
        assert [each["action"] for each in trail] == ["sweep.create"]
        # The comparison is still open, so there is room for one more, and not for two.
        statuses = [(await client.post("/sweeps", json=grid_of(n))).status_code for n in (4, 5)]
        assert statuses == [201, 429]


async def test_without_room_for_the_comparison_the_question_is_answered_all_the_same(
    settings: Settings, sqlite_worker: Worker
) -> None:
    both = {"dense": ("float32",), "packed": ("float32",)}
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"], backends=both
    )
    limited = settings.model_copy(update={"max_queued_per_client": 1})
    async with serving(limited, sqlite_worker) as client:
        # It is queued, or left out, before the place in the queue is told.
        asked = await client.get("/lhp", params={"dims": "5,6", "wait": 0})
        assert asked.status_code == 202
        race = await sqlite_worker.take()
        assert [each.id for each in sqlite_worker.store.list_open(HOST)] == [race.id]
        sqlite_worker.finish(race, stairs(8))
        assert (await client.get("/lhp", params={"dims": "5,6"})).status_code == 200


async def test_a_sweep_says_what_is_ahead_of_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    grid = (await client.post("/sweeps", json=grid_of(300, 200))).json()
    assert (grid["ahead"], grid["expected_wait_s"]) == (0, 0.0)
    accepted = await client.get("/lhp", params={"dims": "5,6", "wait": 0})
    race = accepted.json()
    # The question goes first. It is expected to take 3 s: until then, nothing is to be seen.
    assert (race["ahead"], race["expected_wait_s"], race["expected_s"]) == (0, 0.0, 3.0)
    assert accepted.headers["retry-after"] == "4"

    grid = (await client.get(f"/sweeps/{grid['id']}")).json()
    assert (grid["ahead"], grid["expected_wait_s"]) == (1, 3.0)
    # A second question waits for the first one.
    second = await client.get("/lhp", params={"dims": "50,60", "wait": 0})
    assert (second.json()["ahead"], second.json()["expected_wait_s"]) == (1, 3.0)
    assert second.headers["retry-after"] == "7"
    # 40 % of the first one took 1 s, so 1.5 s are left.
    progress = Progress(fraction=0.4, stage="contest", num_samples=1, seconds=1.0)
    store = sqlite_worker.store
    store.start_sweep(race["id"])
    store.commit_batch(race["id"], 0, SAMPLES, progress)
    second = await client.get(f"/sweeps/{second.json()['id']}")
    assert (second.json()["ahead"], second.json()["expected_wait_s"]) == (1, 1.5)
    # In lists, too; and who has ended has no place any more.
    listed = {each["id"]: each for each in (await client.get("/sweeps")).json()["items"]}
    assert listed[grid["id"]]["ahead"] == 2
    sqlite_worker.store.fail_sweep(race["id"], "no more")
    ended = (await client.get(f"/sweeps/{race['id']}")).json()
    assert (ended["ahead"], ended["expected_wait_s"], ended["expected_s"]) == (None, None, None)


async def test_events_tell_what_is_ahead(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    race = (await client.get("/lhp", params={"dims": "5,6", "wait": 0})).json()
    grid = (await client.post("/sweeps", json=grid_of(300, 200))).json()
    following = await follow(client, f"/sweeps/{grid['id']}/events")
    assert not following.done()  # it has no end by itself
    sqlite_worker.store.request_cancel(grid["id"])
    events = parse_events((await following).text)
    assert (events[0][0], events[0][1].ahead, events[0][1].expected_wait_s) == ("progress", 1, 3.0)
    assert (events[-1][0], events[-1][1].ahead) == ("end", None)
    assert not sqlite_worker.store.get_sweep(race["id"]).state.is_final


async def test_who_follows_a_sweep_sees_it_move_up(
    settings: Settings, sqlite_worker: Worker
) -> None:
    async with open_services(
        settings,
        shutdown=Shutdown(),
        store=sqlite_worker.store,
        enqueue=sqlite_worker.enqueue,
    ) as services:
        store = sqlite_worker.store
        race, _ = store.create_sweep(spec_of("race"), host=HOST)
        grid, _ = store.create_sweep(spec_of("grid"), host=HOST)
        with services.queue.follow(grid.id) as look_again:
            placed = await look_again()
            assert placed.place is not None and placed.place.ahead == 1
            store.request_cancel(race.id)
            while placed.place is not None and placed.place.ahead:
                placed = await look_again()
            assert placed.place is not None and placed.place.ahead == 0
            store.request_cancel(grid.id)
            while placed.place is not None:
                placed = await look_again()
            assert placed.sweep.state is SweepState.CANCELLED
