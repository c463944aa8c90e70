"""GET /lhp: which modes of sweep answer which questions, and what overrules what."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import build_curve, square, stairs

pytestmark = pytest.mark.anyio


async def test_a_race_answers_only_what_it_ran_for(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, "5,6", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(asking), stairs(32))
    assert (await asking).json()["lhp"] == [32, 32]
    # It says nothing of points above its first, though its window covers theirs.
    assert (await ask(client, "6,7", max_growth=0, wait=0)).status_code == 202
    # Nor which point is the nearest: that is a search of its own.
    assert (await ask(client, "5,6", prefer="nearest", wait=0)).status_code == 202
    modes = {(await sqlite_worker.take()).spec.mode for _ in range(2)}
    assert modes == {"race", "nearest"}


async def test_a_thorough_question_is_answered_by_a_survey(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    asking = asyncio.create_task(ask(both_client))
    race = await worker.take(asking)
    worker.finish(race, stairs(16))
    assert (await asking).json()["lhp"] == [16, 16]
    # A race, which looks at a sample of the window, isn't thorough.
    asking = asyncio.create_task(ask(both_client, effort="thorough"))
    survey = await worker.take(asking)
    assert (race.spec.mode, survey.spec.mode) == ("race", "survey")
    assert survey.spec.grid == race.spec.grid
    worker.finish(survey, stairs(8))
    thorough = (await asking).json()
    assert thorough["lhp"] == [8, 8]
    # But a survey, the newer curve here, answers quick questions, too.
    assert (await ask(both_client)).json() == thorough
    header = (await both_client.get(f"/curves/{thorough['curve']}")).json()
    assert (header["mode"], header["redundancy"]) == ("survey", None)
    assert worker.handed_in.empty()


@pytest.mark.parametrize(
    ("earlier", "later", "cut_short", "lhp"),
    [
        ("race", "race", False, [5, 6]),
        ("race", "survey", False, [5, 6]),
        ("survey", "race", False, [8, 8]),  # looked at less than what it would overrule
        ("race", "race", True, [8, 8]),
        ("grid", "survey", False, [8, 8]),
    ],
)
async def test_a_race_that_cant_confirm_what_an_earlier_one_found_overrules_it(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    earlier: Mode,
    later: Mode,
    cut_short: bool,
    lhp: list[int],
) -> None:
    store, window = sqlite_worker.store, Grid.window((5, 6), (32, 32))
    undecided = build_curve(window, stairs(1))
    status = undecided.status.copy()
    status[0] = PointStatus.UNDECIDED
    undecided = dataclasses.replace(
        undecided, status=status, evidence=Evidence(cut_short=cut_short)
    )
    for mode, found in ((earlier, build_curve(window, stairs(8))), (later, undecided)):
        spec = SweepSpec(workload=LINEAR.describe(), mode=mode, grid=window)
        sweep, _ = store.create_sweep(spec, host=HOST)
        store.start_sweep(sweep.id)
        store.finish_sweep(sweep.id, found, state=SweepState.DONE)
    answer = (await ask(client)).json()
    assert answer["lhp"] == lhp
    assert answer["verdict"] == ("faster" if lhp == [8, 8] else "ambiguous")


async def test_a_service_that_waits_less_than_usual_is_asked_as_usual(
    sqlite_worker: Worker,
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, max_wait_s=0.01)
    async with serving(settings, sqlite_worker) as client:
        assert (await ask(client)).status_code == 202
        check_problem(await ask(client, wait=0.02), 422, "wait less")


async def test_what_a_budget_left_open_is_measured_for_whoever_gives_more(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    def kept(budget_s: float, *, cut_short: bool) -> Evidence:
        return Evidence(asked_budget_s=budget_s, cut_short=cut_short)

    asking = asyncio.create_task(ask(client, budget=0.01))
    sweep = await sqlite_worker.take(asking)
    assert sweep.spec.budget_s == 0.01
    # Latency that only grows: nothing is faster than the point asked about.
    sqlite_worker.finish(sweep, stairs(1), evidence=kept(0.01, cut_short=True))
    short = (await asking).json()
    assert (short["lhp"], short["cut_short"]) == ([5, 6], True)
    assert short["evidence"] == {"asked_budget_s": 0.01, "cut_short": True}
    # Asked again with the same or less, that is all there is.
    assert (await ask(client, budget=0.01)).json() == short
    assert (await ask(client, budget=0.005)).json() == short
    assert sqlite_worker.handed_in.empty()

    asking = asyncio.create_task(ask(client, budget=2))
    sweep = await sqlite_worker.take(asking)
    sqlite_worker.finish(sweep, stairs(8), evidence=kept(2, cut_short=False))
    longer = (await asking).json()
    assert (longer["lhp"], longer["cut_short"]) == ([8, 8], False)
    # What is found faster is an answer for everybody.
    assert (await ask(client)).json() == longer
    assert sqlite_worker.handed_in.empty()


async def test_a_question_without_a_budget_is_not_answered_by_what_one_left_open(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, budget=0.5))
    sqlite_worker.finish(
        await sqlite_worker.take(),
        stairs(1),
        evidence=Evidence(asked_budget_s=0.5, cut_short=False),
    )
    await asking
    asking = asyncio.create_task(ask(client))
    sweep = await sqlite_worker.take(asking)
    assert sweep.spec.budget_s is None
    sqlite_worker.finish(sweep, stairs(8))
    assert (await asking).json()["lhp"] == [8, 8]


async def test_a_grid_curve_answers_thorough_questions(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    assert (await ask(client, effort="thorough")).json()["lhp"] == [8, 8]
    # The effort is that of looking for the fastest: the nearest has its own search.
    assert (await ask(client, "40,40", effort="thorough", prefer="nearest", wait=0)).json()[
        "mode"
    ] == "nearest"


@pytest.mark.parametrize(("multiple", "status"), [(64, 202), (16, 200)])
async def test_a_race_over_a_larger_window_answers_if_its_winner_is_near_enough(
    client: httpx.AsyncClient, sqlite_worker: Worker, multiple: int, status: int
) -> None:
    asking = asyncio.create_task(ask(client, "31,31", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(asking), stairs(multiple))
    # 31 + 32 = 63 holds no multiple of 64: the winner is the fastest slow point, (31,31)
    # itself. 31 + 32 = 63 holds 32, a multiple of 16.
    assert (await asking).json()["lhp"] == ([31, 31] if multiple == 64 else [32, 32])

    asking = asyncio.create_task(ask(client, "40,40", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(asking), stairs(multiple))
    # 40 to 80 holds 64, and 48 for the multiples of 16. Asked within 40 to 72: the same.
    lhp = [64, 64] if multiple == 64 else [48, 48]
    assert (await asking).json()["lhp"] == lhp
    assert (await ask(client, "40,40", wait=0)).json()["lhp"] == lhp

    sweep, _ = sqlite_worker.store.create_sweep(
        SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((20, 20), (50, 50))),
        host=HOST,
    )
    sqlite_worker.finish(sweep, stairs(multiple))
    # 20 to 70 holds 64, or 32 for the multiples of 16; only 32 lies within 20 to 52.
    assert (await ask(client, "20,20", wait=0)).status_code == status


async def test_a_search_answers_for_its_own_preference_and_slack_only(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, prefer="nearest", slack="1%"))
    sweep = await sqlite_worker.take(asking)
    assert (sweep.spec.mode, sweep.spec.terms.slack) == ("nearest", 0.01)
    evidence = Evidence(settled=True, unseen_risk=0.02, slack=0.01)
    sqlite_worker.finish(sweep, stairs(8), evidence=evidence)
    answer = (await asking).json()
    assert (answer["lhp"], answer["slack"], answer["settled"]) == ([8, 8], 0.01, True)
    assert answer["unseen_risk"] == 0.02
    # The same share, written otherwise, is the same question.
    assert (await ask(client, prefer="nearest", slack=".01", wait=0)).json()["lhp"] == [8, 8]
    for others in (
        {},
        {"effort": "thorough"},
        {"prefer": "nearest"},
        {"prefer": "nearest", "slack": "2%"},
        {"prefer": "largest", "slack": "1%"},
    ):
        assert (await ask(client, wait=0, **others)).status_code == 202, others


async def test_with_slack_a_slower_point_may_be_the_answer(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, prefer="largest", slack="2%"))
    sweep = await sqlite_worker.take(asking)
    curve = build_curve(sweep.spec.grid, stairs(1))
    target = sweep.spec.grid.find_index((7, 8))
    assert target is not None
    # 1.008 times as long, surely between 1.003 and 1.013: slower, but by less than 2 %.
    answers = curve.answers
    answers.target[0], answers.ratio[0] = target, 1.008
    answers.ratio_low[0], answers.ratio_high[0] = 1.003, 1.013
    curve = dataclasses.replace(curve, evidence=Evidence(settled=True, slack=0.02))
    sqlite_worker.store.start_sweep(sweep.id)
    sqlite_worker.store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    answer = (await asking).json()
    assert (answer["lhp"], answer["verdict"], answer["is_lhp"]) == ([7, 8], "slower", False)
    assert answer["speedup_interval"] == pytest.approx([1 / 1.013, 1 / 1.003])


async def test_a_stored_grid_tells_the_nearest_and_the_largest_with_any_slack(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # From (5,6), 1 µs per unit of 2 ms: (37,38) is 64 µs slower, 3.2 %; intervals are ± 0.1 %.
    keep_curve(sqlite_worker.store, square(1, 48), stairs(64))
    assert (await ask(client, prefer="largest", slack="5%")).json()["lhp"] == [37, 38]
    # At most 1 % slower than 2,011 µs, less 0.2 % for both intervals: 16 µs. Of a + b ≤ 16,
    # (5 + a)(6 + b) is largest at 13 · 14.
    assert (await ask(client, prefer="largest", slack="1%")).json()["lhp"] == [13, 14]
    assert (await ask(client, prefer="largest")).json()["lhp"] == [5, 6]
