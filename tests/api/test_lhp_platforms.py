"""GET /lhp for several platforms at once: one answer that is no slower on any of them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.answering.pairs import PairQuestion
from profiler_service.answering.questions import Where
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.test_lhp_facts import SETTLED, WINDOW, pair

pytestmark = pytest.mark.anyio

THERE = dataclasses.replace(PLATFORM, device_model="another")
PLATFORMS = {HOST: PLATFORM, "there": THERE}
WIDER = {2: 2.2414 / 1.95996, 4: 2.4977 / 1.95996}
"""The widths of intervals with the confidences 1 - 0.05 / n and 0.95 (of a normal distribution)."""


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


def end(
    worker: Worker, sweep: Sweep, *confirmed: ConfirmedPair, evidence: Evidence = SETTLED
) -> None:
    """Ends a race in which the confirmed points have these ratios, and others are slower."""
    ratios = {each.rival: each.ratio for each in confirmed}

    def latency(dims: Sequence[int]) -> float:
        other = 1.0 if tuple(dims) == (5, 6) else 1.1 + 1e-3 * sum(dims)
        return 2e-3 * ratios.get(tuple(dims), other)

    worker.finish(
        sweep,
        latency,
        platform=PLATFORMS[sweep.host],
        evidence=evidence,
        confirmed=confirmed,
    )


def race(
    store: Store,
    host: str,
    *confirmed: ConfirmedPair,
    mode: Mode = "race",
    evidence: Evidence = SETTLED,
) -> None:
    """Keeps a race of that host over the whole window."""
    spec = SweepSpec(workload=LINEAR.describe(), mode=mode, grid=WINDOW)
    sweep, _ = store.create_sweep(spec, host=host)
    end(Worker(store), sweep, *confirmed, evidence=evidence)


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
    # Two looks at one point, and for the upper end of the least gain on any of two platforms: four.
    middle, half = (0.94 * 0.96) ** 0.5, (0.96 / 0.94) ** 0.5
    low, high, highest = (half**power / middle for power in (-WIDER[2], WIDER[2], WIDER[4]))
    assert here["speedup_interval"] == pytest.approx([low, high], rel=1e-4)
    assert found["speedup_interval"] == pytest.approx([low, highest], rel=1e-4)
    assert here["own_lhp"] == there["own_lhp"] == [8, 8]
    # That of the race, as the answer is its own.
    assert found["margin"] == 0.004


async def test_the_least_gain_may_be_that_of_the_platform_that_seems_to_gain_more(
    client: httpx.AsyncClient, two: Worker
) -> None:
    # Gains of 5.0 ± 0.5 %, and of 6.2 ± 4.6 %.
    race(two.store, HOST, pair((8, 8), 0.94787, 0.95694))
    race(two.store, "there", pair((8, 8), 0.90, 0.985))
    found = await answer(client)
    here, there = figures(found)[HOST], figures(found)["there"]
    assert found["speedup"] == here["speedup"] < there["speedup"]
    assert found["speedup_interval"][0] == there["speedup_interval"][0] < 1.01
    assert here["speedup_interval"][0] > 1.04
    assert here["speedup_interval"][1] < found["speedup_interval"][1] < 1.06


async def test_what_is_faster_only_just_is_raced_once_more(
    client: httpx.AsyncClient, two: Worker
) -> None:
    # Up to 1.0003 with two looks on either of two platforms: 0.99675 · (0.9995 / 0.994)^(0.637).
    for host in PLATFORMS:
        race(two.store, host, pair((8, 8), 0.994, 0.9995))
    asking = asyncio.create_task(ask(client, platforms="all"))
    for sweep in [await two.take(asking) for _ in PLATFORMS]:
        end(two, sweep, pair((8, 8), 0.9935, 0.9965))
    found = (await asking).json()
    assert (found["lhp"], found["verdict"]) == ([8, 8], "faster")
    assert two.handed_in.empty()


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
    # Nothing is more than 0.4 % faster here than (8,8), and (8,8) is faster than (16,16) by at most
    # what their intervals leave open: two looks at each.
    least_8 = (0.94 * 0.96) ** 0.5 / (0.96 / 0.94) ** (WIDER[4] / 2)
    most_16 = (0.97 * 0.98) ** 0.5 * (0.98 / 0.97) ** (WIDER[4] / 2)
    assert here["margin"] == found["margin"]
    assert here["margin"] == pytest.approx(1 - 0.996 * least_8 / most_16, rel=1e-4)
    assert there["margin"] == 0.004
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
    evidence = dataclasses.replace(SETTLED, margin=0.0025)
    end(two, sweeps["there"], pair((8, 8), 0.99, 1.01), evidence=evidence)
    assert (await asking).json()["lhp"] == [5, 6]
    assert (await answer(client))["lhp"] == [5, 6]
    # Two intervals around 1, ± 1 % and ± 2 %, are ± 0.9 % together: no slower by more than 2 %.
    assert (await answer(client, slack="2%"))["lhp"] == [8, 8]
    assert two.handed_in.empty()


async def test_a_pair_that_was_raced_for_more_slack_is_raced_again_for_less(
    client: httpx.AsyncClient, two: Worker
) -> None:
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    race(two.store, "there", pair((8, 8), 0.96, 1.04))
    asking = asyncio.create_task(ask(client, platforms="all", slack="3%"))
    sweeps = await take_pairs(two, (8, 8))
    # Settled for the margin of 1.5 % that it was asked for.
    evidence = dataclasses.replace(SETTLED, asked_margin=0.015, margin=0.01)
    end(two, sweeps["there"], pair((8, 8), 0.99, 1.01), evidence=evidence)
    assert (await asking).json()["lhp"] == [8, 8]
    assert (await ask(client, platforms="all", wait=0)).status_code == 202
    assert (await two.take()).spec.terms.margin == 0.0025


async def test_the_answer_of_a_grid_is_a_candidate_and_is_raced(
    client: httpx.AsyncClient, two: Worker
) -> None:
    keep_curve(two.store, square(1, 48), stairs(8), host="there", platform=THERE)
    race(two.store, HOST, pair((8, 8), 0.94, 0.96))
    asking = asyncio.create_task(ask(client, platforms="all"))
    sweeps = await take_pairs(two, (8, 8))
    end(two, sweeps["there"], pair((8, 8), 0.97, 0.98))
    found = (await asking).json()
    # Nobody said how closely the grid's window is known.
    assert (found["lhp"], found["settled"], found["margin"]) == ([8, 8], False, None)
    there = figures(found)["there"]
    assert there["speedup"] == pytest.approx((0.97 * 0.98) ** -0.5)
    assert len(there["facts"]) == 1
    # The grid's curve says that (8,8) takes half as long.
    assert there["own_speedup"] > 1.9


@dataclasses.dataclass
class LateReading:
    """Asks as `asking` does, but gives the first pair's facts after those of another pair there."""

    asking: Any
    first: tuple[int, int]
    was_read: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    other_was_given: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def ask(self, question: Any, where: Where, **more: Any) -> Any:
        found = await self.asking.ask(question, where, **more)
        if isinstance(question, PairQuestion) and where.platform == THERE.key:
            if question.rival == self.first:
                self.was_read.set()
                await self.other_was_given.wait()
            else:
                self.other_was_given.set()
        return found


async def test_facts_that_were_read_earlier_and_come_later_drop_no_newer_pair(
    client: httpx.AsyncClient, two: Worker
) -> None:
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    late = LateReading(services.asking._asking, (8, 8))
    services.asking._asking = late
    keep_curve(two.store, square(1, 48), stairs(8), host="there", platform=THERE)
    race(two.store, HOST, pair((16, 16), 0.84, 0.86))
    asking = asyncio.create_task(ask(client, platforms="all"))
    sweeps = {
        (each.host, each.spec.grid.last): each for each in [await two.take(asking) for _ in "123"]
    }
    end(two, sweeps["there", (8, 8)], pair((8, 8), 1.02, 1.04))
    await asyncio.wait_for(late.was_read.wait(), 20)
    end(two, sweeps["there", (16, 16)], pair((16, 16), 0.90, 0.91))
    end(two, sweeps[HOST, (8, 8)], pair((8, 8), 1.02, 1.04))
    assert (await asking).json()["lhp"] == [16, 16]


async def test_the_nearest_with_slack_need_not_be_faster_anywhere(
    client: httpx.AsyncClient, two: Worker
) -> None:
    evidence = Evidence(settled=True, slack=0.02)
    for host in PLATFORMS:
        race(two.store, host, pair((8, 8), 0.995, 1.003), mode="nearest", evidence=evidence)
    found = await answer(client, prefer="nearest", slack="2%")
    assert (found["lhp"], found["verdict"], found["slack"]) == ([8, 8], "ambiguous", 0.02)
    assert two.handed_in.empty()


async def test_without_slack_the_nearest_is_judged_as_it_is_asked(
    client: httpx.AsyncClient, two: Worker
) -> None:
    evidence = Evidence(settled=True)
    race(two.store, HOST, pair((8, 8), 0.94, 0.96), mode="nearest", evidence=evidence)
    race(two.store, "there", pair((8, 8), 0.997, 1.001), mode="nearest", evidence=evidence)
    asking = asyncio.create_task(ask(client, platforms="all", prefer="nearest"))
    sweeps = await take_pairs(two, (8, 8))
    end(two, sweeps["there"], pair((8, 8), 0.998, 1.002))
    found = (await asking).json()
    # Slower by 0.1 % at most isn't faster.
    assert (found["lhp"], found["slack"]) == ([5, 6], 0)


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
