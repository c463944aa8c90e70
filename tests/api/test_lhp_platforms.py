"""GET /lhp for several platforms at once: one answer that is no slower on any of them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.test_lhp_facts import SETTLED, WINDOW, pair

pytestmark = pytest.mark.anyio

THERE = dataclasses.replace(PLATFORM, device_model="another")
PLATFORMS = {HOST: PLATFORM, "there": THERE}
WIDER = 2.4977 / 1.95996
"""The widths of intervals with the confidences 1 - 0.05 / 4 and 0.95 (of a normal distribution)."""


@pytest.fixture
def two(sqlite_worker: Worker) -> Worker:
    """The worker of two hosts on two platforms."""
    sqlite_worker.store.register_host("there", THERE, protocol=PROTOCOL, dtypes=DTYPES)
    return sqlite_worker


@pytest.fixture
async def client(
    anyio_backend: str, settings: Settings, two: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that knows both hosts."""
    async with serving(settings, two) as client:
        yield client


def end(worker: Worker, sweep: Sweep, *confirmed: ConfirmedPair) -> None:
    """Ends a race in which the confirmed points have these ratios, and others are slower."""
    ratios = {each.rival: each.ratio for each in confirmed}

    def latency(dims: Sequence[int]) -> float:
        other = 1.0 if tuple(dims) == (5, 6) else 1.1 + 1e-3 * sum(dims)
        return 2e-3 * ratios.get(tuple(dims), other)

    worker.finish(
        sweep,
        latency,
        platform=PLATFORMS[sweep.host],
        evidence=SETTLED,
        confirmed=confirmed,
    )


def race(store: Store, host: str, *confirmed: ConfirmedPair) -> None:
    """Keeps a race of that host over the whole window."""
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=WINDOW)
    sweep, _ = store.create_sweep(spec, host=host)
    end(Worker(store), sweep, *confirmed)


async def answer(client: httpx.AsyncClient, **params: object) -> dict[str, Any]:
    """The answer for all platforms that is known without measuring."""
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.known.refresh()
    response = await ask(client, "5,6", wait=0, platforms="all", **params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def figures(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What holds on each platform, by the name of its host."""
    names = {platform.key: host for host, platform in PLATFORMS.items()}
    return {names[each["platform"]]: each for each in found["platforms"]}


async def take_pairs(worker: Worker, *rivals: Sequence[int]) -> dict[str, Sweep]:
    """The races between the queried dims and one rival each that are handed in, by host."""
    sweeps = [await worker.take() for _ in rivals]
    wanted = {Grid.pair((5, 6), rival) for rival in rivals}
    assert {each.spec.grid for each in sweeps} == wanted
    return {each.host: each for each in sweeps}


async def test_dims_that_all_prefer_are_the_answer_with_the_figures_of_each(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    race(two.store, "there", pair((8, 8), 0.84, 0.86))
    found = await answer(client)
    assert (found["lhp"], found["verdict"], found["settled"]) == ([8, 8], "faster", True)
    assert two.handed_in.empty()
    # The figures of the answer are those of the platform that gains least.
    assert (found["platform"], found["host"]) == (PLATFORM.key, HOST)
    here, there = figures(found)[HOST], figures(found)["there"]
    assert found["speedup"] == here["speedup"] == pytest.approx((0.94 * 0.96) ** -0.5)
    assert there["speedup"] == pytest.approx((0.84 * 0.86) ** -0.5)
    middle, half = (0.94 * 0.96) ** 0.5, (0.96 / 0.94) ** 0.5
    assert here["speedup_interval"] == pytest.approx(
        [1 / (middle * half**WIDER), 1 / (middle / half**WIDER)], rel=1e-4
    )
    assert here["own_lhp"] == there["own_lhp"] == [8, 8]
    assert found["margin"] == pytest.approx(0.004, rel=1e-4)


async def test_what_one_platform_prefers_is_compared_as_a_pair_on_the_others(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    race(two.store, "there", pair((16, 16), 0.84, 0.86))
    asking = asyncio.create_task(ask(client, platforms="all"))
    sweeps = await take_pairs(two, (16, 16), (8, 8))
    end(two, sweeps[HOST], pair((16, 16), 0.97, 0.98))
    end(two, sweeps["there"], pair((8, 8), 1.02, 1.04))
    found = (await asking).json()
    # (8,8) is slower there.
    assert found["lhp"] == [16, 16]
    here, there = figures(found)[HOST], figures(found)["there"]
    assert (here["own_lhp"], there["own_lhp"]) == ([8, 8], [16, 16])
    assert here["speedup"] == pytest.approx((0.97 * 0.98) ** -0.5)
    # (8,8) is faster here by 0.95 / 0.975, and nothing is more than 0.4 % faster than (8,8).
    lost = (0.94 * 0.96) ** 0.5 / (0.97 * 0.98) ** 0.5
    assert here["margin"] == found["margin"] == pytest.approx(1 - 0.996 * lost)
    # Now it is known.
    assert await answer(client) == found


async def test_without_dims_that_hold_everywhere_the_answer_is_the_queried_one(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    race(two.store, "there", pair((16, 16), 0.84, 0.86))
    asking = asyncio.create_task(ask(client, platforms=f"{PLATFORM.key},{THERE.key[:8]}"))
    sweeps = await take_pairs(two, (16, 16), (8, 8))
    end(two, sweeps[HOST], pair((16, 16), 1.02, 1.04))
    end(two, sweeps["there"], pair((8, 8), 1.02, 1.04))
    found = (await asking).json()
    assert (found["lhp"], found["speedup"]) == ([5, 6], 1)
    assert {tuple(each["own_lhp"]) for each in found["platforms"]} == {(8, 8), (16, 16)}


async def test_another_finalist_is_tried_if_no_favourite_holds_everywhere(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96), pair((16, 8), 0.96, 0.98))
    race(two.store, "there", pair((16, 16), 0.84, 0.86), pair((8, 8), 1.02, 1.04))
    asking = asyncio.create_task(ask(client, platforms="all"))
    sweeps = await take_pairs(two, (16, 16))
    end(two, sweeps[HOST], pair((16, 16), 1.02, 1.04))
    sweeps = await take_pairs(two, (16, 8))
    end(two, sweeps["there"], pair((16, 8), 0.97, 0.98))
    assert (await asking).json()["lhp"] == [16, 8]


async def test_a_pair_that_stays_undecided_is_raced_once(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    race(two.store, "there", pair((8, 8), 0.98, 1.02))
    asking = asyncio.create_task(ask(client, platforms="all"))
    sweeps = await take_pairs(two, (8, 8))
    # Half the slack of 0.5 % is the margin of the race.
    assert sweeps["there"].spec.terms.margin == 0.0025
    end(two, sweeps["there"], pair((8, 8), 0.99, 1.01))
    assert (await asking).json()["lhp"] == [5, 6]
    assert (await answer(client))["lhp"] == [5, 6]
    # Two intervals around 1, ± 1 % and ± 2 %, are ± 0.9 % together: no slower by more than 2 %.
    assert (await answer(client, slack="2%"))["lhp"] == [8, 8]
    assert two.handed_in.empty()


async def test_a_grid_answers_for_its_platform(client: httpx.AsyncClient, two: Worker) -> None:
    keep_curve(two.store, square(1, 48), stairs(8), host="there", platform=THERE)
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    found = await answer(client)
    assert (found["lhp"], found["settled"]) == ([8, 8], False)
    assert figures(found)["there"]["facts"] == []


async def test_who_does_not_wait_is_told_of_a_sweep(client: httpx.AsyncClient, two: Worker) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    response = await ask(client, platforms="all", wait=0)
    assert response.status_code == 202
    assert response.json()["id"] == (await two.take()).id


async def test_platforms_exclude_a_host_and_must_exist(
    client: httpx.AsyncClient, two: Worker
) -> None:
    check_problem(await ask(client, platforms="all", host=HOST), 422, "leave out")
    check_problem(await ask(client, platforms=f"{PLATFORM.key},nothing"), 404)
    check_problem(await ask(client, platforms=","), 422, "`all`")


async def test_a_batch_has_answers_for_all_platforms_too(
    client: httpx.AsyncClient, two: Worker
) -> None:
    for host in PLATFORMS:
        race(two.store, host, pair((8, 8), 0.94, 0.96))
    found = await answer(client)
    batch = await client.post("/lhp/batch", json=[{"dims": "5,6", "platforms": "all"}])
    assert batch.json()["items"][0]["answer"] == found
