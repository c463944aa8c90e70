"""GET /lhp, through the whole service but the measuring."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest

from profiler_service.analysis.curve import PointStatus
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.wire import LhpAnswer, SweepInfo
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, PROTOCOL, build_curve, square, stairs

pytestmark = pytest.mark.anyio

OTHER_PLATFORM = dataclasses.replace(PLATFORM, driver="newer")
OTHER_PROTOCOL = dataclasses.replace(PROTOCOL, version=2)


async def ask(client: httpx.AsyncClient, dims: str = "5,6", **params: object) -> httpx.Response:
    return await client.get("/lhp", params={"dims": dims, **params})  # type: ignore[dict-item]


async def test_answers_from_a_stored_curve(both_client: httpx.AsyncClient, worker: Worker) -> None:
    # A service that is already running takes the curve up without being told.
    curve_id = keep_curve(worker.store, square(1, 48), stairs(8))

    response = await ask(both_client)

    assert response.status_code == 200, response.text
    # L(5,6) = 2 ms + 11 µs. Every multiple of 8 on both axes takes 1 ms + 1 µs a unit; the
    # fastest at or above (5,6) is (8,8): 1 ms + 16 µs. 2011/1016 = 1.97933.
    answer = LhpAnswer.model_validate_json(response.content)
    speedup = 2011 / 1016
    assert answer.dims == [5, 6]
    assert answer.lhp == [8, 8]
    assert answer.grow_by == [3, 2]
    assert not answer.is_lhp
    assert answer.verdict == "faster"
    assert answer.latency_s == pytest.approx(2.011e-3)
    assert answer.lhp_latency_s == pytest.approx(1.016e-3)
    assert answer.speedup == pytest.approx(speedup)
    # The ratio's interval is ±1 %, so the speed-up's is 1/1.01 to 1/0.99.
    assert answer.speedup_interval == pytest.approx((speedup / 1.01, speedup / 0.99))
    assert answer.prefer == "fastest"
    assert answer.workload == "linear[backend=dense,batch=16,dtype=float32]"
    assert answer.platform == PLATFORM.key
    assert answer.host == HOST
    assert answer.curve == curve_id
    assert answer.num_samples == 40
    assert not answer.stale
    assert worker.handed_in.empty()


async def test_the_kept_response_is_the_same(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    first, second = await ask(client), await ask(client)
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"] == "application/json"


async def test_a_point_that_nothing_beats_is_its_own_answer(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    answer = (await ask(client, "8,8")).json()
    assert (answer["lhp"], answer["is_lhp"], answer["verdict"]) == ([8, 8], True, "slower")
    assert (answer["speedup"], answer["speedup_interval"]) == (1, [1, 1])


async def test_preferences_choose_among_the_faster(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    # From (5,6) the window reaches 37 and 38. Every LHP is a multiple of 8 on both axes, and
    # each is faster than (5,6): the nearest is (8,8), the largest within the window (32,32).
    assert (await ask(client, prefer="nearest")).json()["lhp"] == [8, 8]
    assert (await ask(client, prefer="largest")).json()["lhp"] == [32, 32]


async def test_measures_what_no_curve_covers(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    asking = asyncio.create_task(ask(both_client, "1197,317"))
    sweep = await worker.take()
    # A growth of one eighth: 1197/8 = 149, 317/8 = 39.
    assert sweep.spec.grid == Grid.window((1197, 317), (149, 39))
    assert sweep.spec.mode == "race"
    assert sweep.host == HOST
    worker.finish(sweep, stairs(8))

    response = await asking

    assert response.status_code == 200, response.text
    assert response.json()["lhp"] == [1200, 320]
    # The sweep's curve answers from now on.
    assert (await ask(both_client, "1197,317")).json() == response.json()
    assert worker.handed_in.empty()


async def test_equal_queries_share_one_sweep(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    asking = [asyncio.create_task(ask(both_client)) for _ in range(50)]
    # One of equal meaning, however it is written, is equal.
    asking.append(asyncio.create_task(ask(both_client, "05,6", batch="16", workload="linear")))
    worker.finish(await worker.take(), stairs(8))
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert {str(answer.json()["lhp"]) for answer in answers} == {"[8, 8]"}
    assert len(worker.store.list_sweeps().items) == 1
    assert worker.handed_in.empty()


async def test_queries_for_other_points_of_one_window_wait_side_by_side(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = [asyncio.create_task(ask(client, f"{n},{n}")) for n in (5, 6, 7)]
    sweeps = [await sqlite_worker.take() for _ in asking]
    # Ended in another order than asked for.
    for sweep in reversed(sweeps):
        sqlite_worker.finish(sweep, stairs(8))
    answers = await asyncio.gather(*asking)
    assert [answer.json()["dims"] for answer in answers] == [[5, 5], [6, 6], [7, 7]]
    assert [answer.json()["lhp"] for answer in answers] == [[8, 8]] * 3


async def test_one_query_that_stops_waiting_leaves_the_others_waiting(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    patient = asyncio.create_task(ask(client))
    sweep = await sqlite_worker.take()
    assert (await ask(client, wait=0)).json()["id"] == sweep.id
    sqlite_worker.finish(sweep, stairs(8))
    assert (await patient).json()["lhp"] == [8, 8]


async def test_a_different_workload_is_measured_apart(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    response = await ask(client, batch=32, wait=0)
    assert response.status_code == 202
    sweep = await sqlite_worker.take()
    assert sweep.spec.workload == LINEAR.describe({"batch": 32})


async def test_a_wait_that_is_over_gets_202(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    response = await ask(client, wait=0.01)

    assert response.status_code == 202, response.text
    sweep = SweepInfo.model_validate_json(response.content)
    assert sweep.state == "queued"
    assert response.headers["location"] == f"sweeps/{sweep.id}"
    assert int(response.headers["retry-after"]) >= 1
    assert (await client.get(response.headers["location"])).json()["id"] == sweep.id
    # Asking again waits for the same sweep.
    again = await ask(client, wait=0)
    assert again.json()["id"] == sweep.id
    sqlite_worker.finish(await sqlite_worker.take(), stairs(8))
    assert (await ask(client)).json()["lhp"] == [8, 8]


async def test_a_sweep_that_was_never_handed_over_is_handed_over(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # A process that died between creating the sweep and enqueueing it left this behind.
    spec = SweepSpec(
        workload=LINEAR.describe(), mode="race", grid=Grid.window((5, 6), (32, 32)), seed=7
    )
    orphan, _ = sqlite_worker.store.create_sweep(spec, host=HOST)
    asking = asyncio.create_task(ask(client))
    sweep = await sqlite_worker.take()
    assert sweep.id == orphan.id
    sqlite_worker.finish(sweep, stairs(8))
    assert (await asking).status_code == 200


async def test_a_new_curve_replaces_the_kept_response(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    keep_curve(worker.store, square(1, 48), stairs(8))
    old = await ask(both_client)
    assert old.json()["lhp"] == [8, 8]
    assert (await ask(both_client)).content == old.content

    # Another process keeps a newer curve, on which only multiples of 16 are fast.
    new_id = keep_curve(worker.store, square(1, 48), stairs(16))

    async with asyncio.timeout(5):
        while (new := await ask(both_client)).content == old.content:
            await asyncio.sleep(0.02)
    assert new.json()["lhp"] == [16, 16]
    assert new.json()["curve"] == new_id


async def test_the_wait_for_a_sweep_ends_the_old_response_at_once(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    await ask(client)
    # Another query brings a race of the same window about; its curve is newer.
    asking = asyncio.create_task(ask(client, "5,6", batch=4))
    sweep = await sqlite_worker.take()
    keep_curve(sqlite_worker.store, square(1, 48), stairs(16))
    sqlite_worker.finish(sweep, stairs(8))
    await asking
    assert (await ask(client)).json()["lhp"] == [16, 16]


async def test_a_race_answers_only_what_it_ran_for(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, "5,6", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(), stairs(32))
    assert (await asking).json()["lhp"] == [32, 32]
    # It says nothing of points above its first, though its window covers theirs.
    assert (await ask(client, "6,7", max_growth=0, wait=0)).status_code == 202
    # Nor which LHP is the nearest: for that, every point is measured.
    assert (await ask(client, "5,6", prefer="nearest", wait=0)).status_code == 202
    modes = {(await sqlite_worker.take()).spec.mode for _ in range(2)}
    assert modes == {"race", "grid"}


async def test_a_thorough_question_is_answered_by_a_survey(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    asking = asyncio.create_task(ask(both_client))
    race = await worker.take()
    worker.finish(race, stairs(16))
    assert (await asking).json()["lhp"] == [16, 16]
    # A race, which looks at a sample of the window, isn't thorough.
    asking = asyncio.create_task(ask(both_client, effort="thorough"))
    survey = await worker.take()
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
        undecided, status=status, evidence={"cut_short": float(cut_short)}
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
    def evidence(budget_s: float, *, cut_short: bool) -> dict[str, float]:
        return {"asked_budget_s": budget_s, "cut_short": float(cut_short)}

    asking = asyncio.create_task(ask(client, budget=0.01))
    sweep = await sqlite_worker.take()
    assert sweep.spec.budget_s == 0.01
    # Latency that only grows: nothing is faster than the point asked about.
    sqlite_worker.finish(sweep, stairs(1), evidence=evidence(0.01, cut_short=True))
    short = (await asking).json()
    assert (short["lhp"], short["cut_short"]) == ([5, 6], True)
    assert short["evidence"] == evidence(0.01, cut_short=True)
    # Asked again with the same or less, that is all there is.
    assert (await ask(client, budget=0.01)).json() == short
    assert (await ask(client, budget=0.005)).json() == short
    assert sqlite_worker.handed_in.empty()

    asking = asyncio.create_task(ask(client, budget=2))
    sweep = await sqlite_worker.take()
    sqlite_worker.finish(sweep, stairs(8), evidence=evidence(2, cut_short=False))
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
        await sqlite_worker.take(), stairs(1), evidence={"asked_budget_s": 0.5, "cut_short": 0.0}
    )
    await asking
    asking = asyncio.create_task(ask(client))
    sweep = await sqlite_worker.take()
    assert sweep.spec.budget_s is None
    sqlite_worker.finish(sweep, stairs(8))
    assert (await asking).json()["lhp"] == [8, 8]


async def test_a_grid_curve_answers_thorough_questions(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    assert (await ask(client, effort="thorough")).json()["lhp"] == [8, 8]
    # The effort is that of looking for the fastest: the nearest takes a grid sweep anyway.
    assert (await ask(client, "40,40", effort="thorough", prefer="nearest", wait=0)).json()[
        "mode"
    ] == "grid"


@pytest.mark.parametrize(("multiple", "status"), [(64, 202), (16, 200)])
async def test_a_race_over_a_larger_window_answers_if_its_winner_is_near_enough(
    client: httpx.AsyncClient, sqlite_worker: Worker, multiple: int, status: int
) -> None:
    asking = asyncio.create_task(ask(client, "31,31", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(), stairs(multiple))
    # 31 + 32 = 63 holds no multiple of 64: the winner is the fastest slow point, (31,31)
    # itself. 31 + 32 = 63 holds 32, a multiple of 16.
    assert (await asking).json()["lhp"] == ([31, 31] if multiple == 64 else [32, 32])

    asking = asyncio.create_task(ask(client, "40,40", max_growth=1))
    sqlite_worker.finish(await sqlite_worker.take(), stairs(multiple))
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


class TestPlatforms:
    """Curves of another platform never answer silently."""

    async def test_a_host_on_a_new_platform_measures_anew(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        old_id = keep_curve(worker.store, square(1, 48), stairs(8))
        assert (await ask(both_client)).status_code == 200
        worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)

        async with asyncio.timeout(5):
            while (await ask(both_client, wait=0)).status_code == 200:
                await asyncio.sleep(0.02)

        # Asked for by name, the old platform answers, and says that it is old.
        old = (await ask(both_client, platform=PLATFORM.key)).json()
        assert (old["curve"], old["stale"], old["platform"]) == (old_id, True, PLATFORM.key)
        worker.finish(await worker.take(), stairs(16), platform=OTHER_PLATFORM)
        new = (await ask(both_client)).json()
        assert (new["lhp"], new["stale"], new["platform"]) == ([16, 16], False, OTHER_PLATFORM.key)

    async def test_a_host_that_takes_time_otherwise_measures_anew(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        old_id = keep_curve(worker.store, square(1, 48), stairs(8))
        assert (await ask(both_client)).status_code == 200
        worker.store.register_host(HOST, PLATFORM, protocol=OTHER_PROTOCOL, dtypes=DTYPES)

        async with asyncio.timeout(5):
            while (await ask(both_client, wait=0)).status_code == 200:
                await asyncio.sleep(0.02)

        # Not even where the platform, which is the same, is asked for by name.
        assert (await ask(both_client, platform=PLATFORM.key, wait=0)).status_code == 202
        worker.finish(await worker.take(), stairs(16), protocol=OTHER_PROTOCOL)
        new = (await ask(both_client)).json()
        assert (new["lhp"], new["stale"]) == ([16, 16], False)
        assert (await ask(both_client, platform=PLATFORM.key)).json() == new
        assert (await both_client.get(f"/curves/{old_id}")).json()["stale"]
        page = (await both_client.get("/curves")).json()["items"]
        assert [(item["id"], item["stale"]) for item in page] == [
            (new["curve"], False),
            (old_id, True),
        ]

    async def test_a_platform_no_host_is_on_answers_under_its_newest_protocol(
        self, both_client: httpx.AsyncClient, worker: Worker
    ) -> None:
        # (5,6) → (8,8) as time was taken at first; → (16,16) as it was taken later on.
        keep_curve(worker.store, square(1, 48), stairs(8))
        keep_curve(worker.store, square(1, 40), stairs(16), protocol=OTHER_PROTOCOL)
        worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        await both_client.get("/curves")  # brings the service up to date
        answer = (await ask(both_client, platform=PLATFORM.key)).json()
        assert (answer["lhp"], answer["stale"]) == ([16, 16], True)
        # Its window, up to (48,48), is covered by the older curve only, which doesn't answer.
        check_problem(await ask(both_client, "16,16", platform=PLATFORM.key), 503, "lhp worker")

    async def test_the_host_asked_decides_how_time_is_taken(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        sqlite_worker.store.register_host("there", PLATFORM, protocol=OTHER_PROTOCOL, dtypes=DTYPES)
        keep_curve(
            sqlite_worker.store, square(1, 48), stairs(16), host="there", protocol=OTHER_PROTOCOL
        )
        for named in ({}, {"platform": PLATFORM.key}):
            assert (await ask(client, **named)).json()["lhp"] == [8, 8]
            assert (await ask(client, host="there", **named)).json()["lhp"] == [16, 16]

    async def test_a_platform_no_host_is_on_cannot_measure(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        sqlite_worker.store.register_host(HOST, OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        check_problem(await ask(client, platform=PLATFORM.key), 503, "lhp worker")
        check_problem(await ask(client, platform=PLATFORM.key, host=HOST), 409)

    async def test_a_platform_is_measured_by_a_present_host_on_it(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        sqlite_worker.store.register_host("there", OTHER_PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        asking = asyncio.create_task(ask(client, platform=OTHER_PLATFORM.key))
        sweep = await sqlite_worker.take()
        assert sweep.host == "there"
        sqlite_worker.finish(sweep, stairs(8), platform=OTHER_PLATFORM)
        assert (await asking).json()["host"] == "there"

    async def test_hosts_on_one_platform_share_its_curves(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        sqlite_worker.store.register_host("twin", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        answer = (await ask(client, host="twin")).json()
        assert (answer["host"], answer["stale"]) == (HOST, False)

    async def test_unknown_ones_are_404(self, client: httpx.AsyncClient) -> None:
        check_problem(await ask(client, platform="0123456789abcdef"), 404, "/platforms")
        check_problem(await ask(client, host="nowhere"), 404, "/hosts")
        check_problem(await ask(client, host="nowhere", platform=PLATFORM.key), 404, "/hosts")


class TestHostsAway:
    async def test_a_host_not_heard_of_is_503(self, sqlite_worker: Worker) -> None:
        sqlite_worker.store.register_host("there", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
        settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
        async with serving(settings, sqlite_worker) as client:
            check_problem(await ask(client, host="there"), 503, "lhp worker")
            check_problem(await ask(client), 503, "lhp worker")
        assert not sqlite_worker.store.list_sweeps().items

    async def test_what_is_measured_is_answered_all_the_same(self, sqlite_worker: Worker) -> None:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
        async with serving(settings, sqlite_worker) as client:
            assert (await ask(client)).status_code == 200

    async def test_the_own_host_is_waited_for(
        self, settings: Settings, sqlite_store: Store
    ) -> None:
        worker = Worker(sqlite_store)
        async with serving(settings, worker) as client:
            check_problem(await ask(client, wait=0), 503, "lhp worker")
            asking = asyncio.create_task(ask(client))
            await client.get("/healthz")  # lets the query get going
            worker.store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
            worker.finish(await worker.take(), stairs(8))
            assert (await asking).json()["lhp"] == [8, 8]


class TestSweepsThatLeaveNoAnswer:
    async def test_a_failed_one_is_500_with_its_reason(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client))
        sweep = await sqlite_worker.take()
        sqlite_worker.store.fail_sweep(sweep.id, "the GPU fell off the bus")
        response = await asking
        check_problem(response, 500, f"/sweeps/{sweep.id}")
        assert "the GPU fell off the bus" in response.json()["detail"]

    async def test_a_cancelled_one_is_409(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client))
        sweep = await sqlite_worker.take()
        assert (await client.post(f"/sweeps/{sweep.id}/cancel")).status_code == 200
        check_problem(await asking, 409, "ask again")

    async def test_whoever_asks_after_that_has_it_measured_anew(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        first = asyncio.create_task(ask(client))
        cancelled = await sqlite_worker.take()
        sqlite_worker.store.start_sweep(cancelled.id)
        # A batch is under way: the sweep ends after it.
        assert (await client.post(f"/sweeps/{cancelled.id}/cancel")).status_code == 200
        second = asyncio.create_task(ask(client))
        anew = await sqlite_worker.take()
        assert anew.id != cancelled.id
        sqlite_worker.store.finish_sweep(cancelled.id, None, state=SweepState.CANCELLED)
        check_problem(await first, 409, "ask again")
        sqlite_worker.finish(anew, stairs(8))
        assert (await second).json()["lhp"] == [8, 8]

    async def test_a_point_that_cannot_be_measured_is_500(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client))
        curve_id = sqlite_worker.finish(await sqlite_worker.take(), stairs(8), failing=[(5, 6)])
        check_problem(await asking, 500, f"/curves/{curve_id}")

    async def test_a_cancelled_one_that_knows_the_answer_gives_it(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client, prefer="nearest"))
        sweep = await sqlite_worker.take()
        curve = build_curve(sweep.spec.grid, stairs(8))
        sqlite_worker.store.start_sweep(sweep.id)
        sqlite_worker.store.finish_sweep(sweep.id, curve, state=SweepState.CANCELLED)
        assert (await asking).json()["lhp"] == [8, 8]


BAD_QUERIES = [
    ("", 422, ""),
    ("dims=", 422, ""),
    ("dims=abc", 422, "1197,317"),
    ("dims=1197", 422, "out_features,in_features"),
    ("dims=1197,317,5", 422, "out_features,in_features"),
    ("dims=" + ",".join(["7"] * 300), 422, "1197,317"),
    ("dims=0,5", 422, "from 1"),
    ("dims=-1,5", 422, "1197,317"),
    ("dims=1.5,5", 422, "1197,317"),
    ("dims=1e3,5", 422, "1197,317"),
    ("dims=%D9%A1,5", 422, "1197,317"),  # an Arabic digit one
    ("dims=1,5%00", 422, "1197,317"),
    ("dims=65537,5", 422, "65536"),
    ("dims=99999999999999999999,5", 422, "1197,317"),
    ("dims=5,6&dims=7,8", 422, "once"),
    ("dims=5,6&batch=16&batch=32", 422, "once"),
    ("dims=5,6&workload=conv", 404, "linear"),
    ("dims=5,6&workload=matmul", 422, "size"),
    ("dims=5,6&dtype=int3", 422, "float32"),
    ("dims=5,6&batch=0", 422, "1 to 65536"),
    ("dims=5,6&batch=many", 422, "whole number"),
    ("dims=5,6&batch=99999999999999999999999", 422, "whole number"),
    ("dims=5,6&backend=magic", 422, "dense"),
    ("dims=5,6&colour=red", 422, "batch"),
    ("dims=5,6&prefer=cheapest", 422, "/docs"),
    ("dims=5,6&budget=0", 422, "/docs"),
    ("dims=5,6&budget=-1", 422, "/docs"),
    ("dims=5,6&budget=nan", 422, "/docs"),
    ("dims=5,6&budget=1e9", 422, "/docs"),
    ("dims=5,6&budget=soon", 422, "/docs"),
    ("dims=5,6&max_growth=-0.1", 422, "/docs"),
    ("dims=5,6&max_growth=1.1", 422, "/docs"),
    ("dims=5,6&max_growth=nan", 422, "/docs"),
    ("dims=5,6&wait=-1", 422, "/docs"),
    ("dims=5,6&wait=inf", 422, "/docs"),
    ("dims=5,6&wait=121", 422, "202"),
    ("dims=5,6&host=%00", 404, "/hosts"),
    ("dims=5,6&platform=%00", 404, "/platforms"),
    # The host multiplies float32 and bfloat16 only.
    ("dims=5,6&dtype=float16", 422, "bfloat16"),
    # 65,536 + 32,768 clipped to 65,536: 65,536² · 4 bytes = 16 GiB.
    ("dims=65536,65536", 422, "smaller"),
    # 513 · 513 points: a race looks at a sample of them, a grid sweep would take hours.
    ("dims=4096,4096&prefer=nearest", 422, "max_growth"),
    # 257 · 257 = 66,049 points are more than 65,536 to look at.
    ("dims=2048,2048&effort=thorough", 422, "max_growth"),
    ("dims=5,6&effort=none", 422, "/docs"),
    # 4,097 · 4,097 points are too many even so.
    ("dims=8192,8192&max_growth=0.5&prefer=nearest", 422, "max_growth"),
    ("dims=5,6&" + "x" * 9000, 414, ""),
]


@pytest.mark.parametrize(("query", "status", "hint"), BAD_QUERIES)
async def test_bad_queries_say_what_to_do_and_start_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker, query: str, status: int, hint: str
) -> None:
    check_problem(await client.get(f"/lhp?{query}"), status, hint)
    assert not sqlite_worker.store.list_sweeps().items
    assert sqlite_worker.handed_in.empty()


async def test_a_backend_that_the_host_lacks_is_refused_at_once(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # Registered without a word on backends, it has the dense one.
    check_problem(await ask(client, backend="csr"), 422, hint="choose backend from: dense")
    sqlite_worker.store.register_host(
        HOST,
        PLATFORM,
        protocol=PROTOCOL,
        dtypes=DTYPES,
        backends={"dense": DTYPES, "packed": DTYPES, "compiled": (), "csr": ("float32",)},
    )
    refused = await ask(client, backend="csr", dtype="bfloat16")
    check_problem(refused, 422, hint="choose backend from: dense, packed")
    assert "no csr product of bfloat16" in refused.json()["detail"]
    # And a network, whose hint names what it has itself.
    refused = await ask(client, workload="hlstm", dims="8,8", backend="csr", dtype="bfloat16")
    check_problem(refused, 422, hint="choose backend from: dense, packed;")
    check_problem(await ask(client, sparsity="1.0", backend="csr"), 422, hint="below 1")
    check_problem(await ask(client, sparsity="0.5"), 422, hint="backend=csr")
    assert sqlite_worker.handed_in.empty()
    accepted = await ask(client, backend="csr", sparsity="0.90", wait=0)
    assert accepted.status_code == 202
    assert accepted.json()["workload"] == (
        "linear[backend=csr,batch=16,dtype=float32,sparsity=0.9]"
    )
