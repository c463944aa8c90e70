"""GET /lhp: answers from facts, whichever race confirmed them, and how closely they are known."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import RaceTerms, SweepSpec
from tests.api.conftest import HOST, Worker, ask, check_problem
from tests.api.curves import MEASURED_AT, Latency

pytestmark = pytest.mark.anyio

WINDOW = Grid.window((5, 6), (32, 32))
"""That of the question `5,6`."""
SETTLED = Evidence(settled=True, margin=0.004, asked_settle_s=3.0, unseen_risk=0.02)
UNSETTLED = Evidence(settled=False, margin=0.013, asked_settle_s=3.0)


def growing(dims: Sequence[int]) -> float:
    """Nothing is faster than the queried point."""
    return 1e-3 + 1e-6 * sum(dims)


def pair(rival: Sequence[int], low: float, high: float) -> ConfirmedPair:
    """A confirmed pair with that interval around its middle."""
    return ConfirmedPair(
        dims=(5, 6),
        rival=(rival[0], rival[1]),
        verdict="faster" if high < 1 else "slower" if low > 1 else "ambiguous",
        ratio=(low * high) ** 0.5,
        low=low,
        high=high,
        num_pairs=100,
    )


def faster_at(*fast: Sequence[int]) -> Latency:
    """2 ms everywhere but at these points: 1 ms."""
    return lambda dims: 1e-3 if tuple(dims) in fast else 2e-3 + 1e-6 * sum(dims)


def race(
    worker: Worker,
    latency: Latency,
    *confirmed: ConfirmedPair,
    window: Grid = WINDOW,
    evidence: Evidence = UNSETTLED,
    measured_at: dt.datetime = MEASURED_AT,
    mode: Mode = "race",
) -> str:
    """The id of the curve of a race that confirmed the pairs."""
    spec = SweepSpec(workload=LINEAR.describe(), mode=mode, grid=window)
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    return worker.finish(
        sweep, latency, evidence=evidence, confirmed=confirmed, measured_at=measured_at
    )


async def answer(client: httpx.AsyncClient, **params: object) -> dict[str, Any]:
    """The answer that is known; the service has seen everything that was kept."""
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.known.refresh()
    response = await ask(client, "5,6", wait=0, **params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_newer_race_about_other_points_silences_no_confirmed_faster_one(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    older = race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    assert (await answer(both_client))["lhp"] == [8, 8]
    newer = race(worker, growing, pair((16, 16), 1.02, 1.05))
    found = await answer(both_client)
    assert (found["lhp"], found["verdict"], found["curve"]) == ([8, 8], "faster", older)
    # 1 / 0.96 and 1 / 0.94
    assert found["speedup_interval"] == pytest.approx([1 / 0.96, 1 / 0.94])
    # Nor does one that is undecided about other points.
    race(worker, growing, pair((16, 16), 0.99, 1.01))
    assert (await answer(both_client))["lhp"] == [8, 8]
    assert newer != older


async def test_a_later_slower_about_the_same_pair_overrules_and_both_are_shown(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    race(worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    [lucky] = (await answer(both_client))["facts"]
    race(worker, growing, pair((8, 8), 1.01, 1.03))
    found = await answer(both_client)
    assert (found["lhp"], found["verdict"], found["speedup"]) == ([5, 6], "slower", 1)
    assert found["contradicts"] == [lucky]


async def test_confirmations_that_agree_are_one_answer(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    for _ in range(2):
        race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    found = await answer(client)
    assert len(found["facts"]) == 2
    assert found["contradicts"] == []
    # Its standard deviation is 0.54 %, of which the worker's processes explain 0.25 %.
    # Only the rest is halved: (0.54² - 0.25²) / 2 + 0.25² = 0.78² · 0.54².
    middle, half = (0.94 * 0.96) ** 0.5, (0.96 / 0.94) ** 0.5
    expected = [1 / (middle * half**0.78), 1 / (middle / half**0.78)]
    assert found["speedup_interval"] == pytest.approx(expected, rel=1e-5)


async def test_an_undecided_confirmation_overrules_a_lucky_one_by_being_combined_with_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # ± 1 % around 0.99, and ± 0.25 % around 1.0: together about 0.9994 ± 0.24 %.
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.981, 0.9992))
    [lucky] = (await answer(client))["facts"]
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.9975, 1.0025))
    found = await answer(client)
    assert (found["lhp"], found["verdict"]) == ([5, 6], "ambiguous")
    assert found["contradicts"] == [lucky]


async def test_only_facts_of_this_window_count(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # Of a larger window: (8,8) lies in this one, too, and (64,64) doesn't.
    larger = Grid.window((5, 6), (64, 64))
    race(
        sqlite_worker,
        faster_at((64, 64)),
        pair((8, 8), 0.96, 0.98),
        pair((64, 64), 0.90, 0.91),
        window=larger,
    )
    race(sqlite_worker, growing, pair((9, 9), 1.02, 1.05))
    found = await answer(client)
    assert (found["lhp"], found["verdict"]) == ([8, 8], "faster")


async def test_the_best_of_several_facts_has_a_wider_interval(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.94, 0.96))
    race(sqlite_worker, faster_at((8, 16)), pair((8, 16), 0.93, 0.95))
    found = await answer(client)
    assert found["lhp"] == [8, 16]
    # Bonferroni for two: 2.2414 instead of 1.9600 standard deviations.
    middle, half = (0.93 * 0.95) ** 0.5, (0.95 / 0.93) ** 0.5
    expected = [1 / (middle * half ** (2.2414 / 1.96)), 1 / (middle / half ** (2.2414 / 1.96))]
    assert found["speedup_interval"] == pytest.approx(expected, rel=1e-5)


async def test_a_race_answers_itself_though_another_of_its_points_seems_faster(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # It compared them directly. (8,16) is surely faster than (5,6) by more, but not than (8,8).
    confirmed = [pair((8, 8), 0.92, 0.97), pair((8, 16), 0.93, 0.95)]
    race(sqlite_worker, faster_at((8, 8)), *confirmed, evidence=SETTLED)
    found = await answer(client)
    assert (found["lhp"], found["settled"], found["margin"]) == ([8, 8], True, 0.004)
    # The interval allows for both, as above.
    half = (0.97 / 0.92) ** (0.5 * 2.2414 / 1.96)
    expected = [1 / ((0.92 * 0.97) ** 0.5 * half), 1 / ((0.92 * 0.97) ** 0.5 / half)]
    assert found["speedup_interval"] == pytest.approx(expected, rel=1e-5)


async def test_another_point_of_a_race_answers_if_it_is_surely_faster(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    confirmed = [pair((8, 8), 0.95, 0.96), pair((8, 16), 0.90, 0.92)]
    race(sqlite_worker, faster_at((8, 8)), *confirmed, evidence=SETTLED)
    assert (await answer(client))["lhp"] == [8, 16]


async def test_a_settled_race_says_how_closely_its_window_is_known(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, growing, pair((8, 8), 1.02, 1.05), evidence=SETTLED)
    found = await answer(client)
    said = [found[name] for name in ("lhp", "settled", "margin", "unseen_risk", "is_lhp", "edge")]
    assert said == [[5, 6], True, 0.004, 0.02, True, False]


async def test_what_is_not_settled_is_no_lhp(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, growing, pair((8, 8), 1.02, 1.05), evidence=UNSETTLED)
    found = await answer(client)
    assert (found["verdict"], found["is_lhp"]) == ("slower", False)
    assert (found["settled"], found["margin"]) == (False, 0.013)
    # A survey has looked at every point.
    race(sqlite_worker, growing, pair((8, 8), 1.02, 1.05), evidence=UNSETTLED, mode="survey")
    assert (await answer(client))["is_lhp"]


async def test_the_margin_grows_by_what_the_intervals_leave_open_if_an_older_fact_answers(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # The older one is surely faster by 4 %, the newer one by 1 %, though it seems faster.
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.95, 0.96))
    race(sqlite_worker, faster_at((16, 16)), pair((16, 16), 0.91, 0.99), evidence=SETTLED)
    found = await answer(client)
    assert found["lhp"] == [8, 8]
    # Nothing takes less than 99.6 % of the time of (16,16). In the curve of its race, that is
    # faster than (5,6) by 2.011 / 1, and by 2.011 / 0.99 at most.
    ratio = 2.011 / 0.99 / found["speedup_interval"][0]
    assert found["margin"] == pytest.approx(1 - 0.996 / ratio, rel=1e-6)
    assert not found["settled"]  # 4 % is more than the race was to settle for


async def test_the_margin_of_a_race_stays_if_its_own_answer_seems_slower_by_all_facts(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # In the curve, (8,8) is faster by 101 %. All facts say 5 %.
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.95, 0.96), evidence=SETTLED)
    assert (await answer(client))["margin"] == 0.004


async def test_an_answer_at_the_end_of_its_window_is_at_the_edge(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, faster_at((8, 38)), pair((8, 38), 0.94, 0.96))
    assert (await answer(client))["edge"]


# Margins and ages


async def test_a_race_answers_for_the_margin_that_it_has(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    race(sqlite_worker, growing, pair((8, 8), 1.02, 1.05), evidence=SETTLED)
    found = await answer(client, margin="0.5%")
    assert (found["settled"], found["margin"], found["caveats"]) == (True, 0.004, [])
    # For a finer one it isn't enough.
    assert (await ask(client, margin="0.1%", wait=0)).status_code == 202
    sweep = await sqlite_worker.take()
    assert sweep.spec.terms == RaceTerms(margin=0.001)


async def test_a_margin_that_cannot_be_reached_is_measured_once(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    assert (await ask(client, margin="0.1%", wait=0)).status_code == 202
    sweep = await sqlite_worker.take()
    evidence = dataclasses.replace(UNSETTLED, asked_margin=0.001)
    sqlite_worker.finish(sweep, growing, evidence=evidence)
    found = await answer(client, margin="0.1%")
    assert (found["settled"], found["margin"]) == (False, 0.013)
    [caveat] = found["caveats"]
    assert "0.10%" in caveat and "1.30%" in caveat
    # Who gives it more time has it measured again.
    assert (await ask(client, margin="0.1%", settle=9, wait=0)).status_code == 202
    assert (await sqlite_worker.take()).spec.terms.settle_s == 9


async def test_a_race_that_was_satisfied_with_less_is_not_enough(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    easily = dataclasses.replace(SETTLED, asked_margin=0.05, margin=0.03)
    race(sqlite_worker, growing, pair((8, 8), 1.02, 1.05), evidence=easily)
    assert (await answer(client, margin="5%"))["settled"]
    assert (await ask(client, wait=0)).status_code == 202


async def test_what_is_older_than_asked_does_not_count(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    now = dt.datetime.now(dt.UTC)
    hours_ago = now - dt.timedelta(hours=2)
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.90, 0.91), measured_at=hours_ago)
    assert (await answer(client))["lhp"] == [8, 8]
    assert (await answer(client, max_age="3h"))["lhp"] == [8, 8]
    assert (await ask(client, max_age="1h", wait=0)).status_code == 202
    race(sqlite_worker, faster_at((9, 9)), pair((9, 9), 0.95, 0.96), measured_at=now)
    # Its fact has only the newer race's, although the older one is faster.
    assert (await answer(client, max_age="1h"))["lhp"] == [9, 9]
    assert (await answer(client))["lhp"] == [8, 8]


async def test_an_answer_that_was_measured_for_the_question_is_fresh(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    """Also if the database's clock, which dates it, is late."""
    race(sqlite_worker, faster_at((8, 8)), pair((8, 8), 0.90, 0.91))

    async def measure() -> None:
        sweep = await sqlite_worker.take()
        late = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
        sqlite_worker.finish(
            sweep, faster_at((9, 9)), confirmed=[pair((9, 9), 0.95, 0.96)], measured_at=late
        )

    response, _ = await asyncio.gather(ask(client, max_age="0"), measure())
    assert (response.status_code, response.json()["lhp"]) == (200, [9, 9])
    assert sqlite_worker.handed_in.empty()
    # Asked again, it is measured again.
    assert (await ask(client, max_age="0", wait=0)).status_code == 202


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"margin": "0"}, "margin=1%"),
        ({"margin": "100%"}, "margin=1%"),
        ({"margin": "1"}, "margin=1%"),
        ({"margin": "-1%"}, "margin=1%"),
        ({"margin": "nan"}, "margin=1%"),
        ({"max_age": "yesterday"}, "max_age=7d"),
        ({"max_age": "-1"}, "max_age=7d"),
        ({"max_age": "1w"}, "max_age=7d"),
        ({"max_age": "1e3"}, "max_age=7d"),
        ({"settle": "0"}, "/docs"),
    ],
)
async def test_what_is_no_margin_or_age_is_refused(
    client: httpx.AsyncClient, given: dict[str, str], hint: str
) -> None:
    check_problem(await ask(client, wait=0, **given), 422, hint)
