"""GET /lhp, through the whole service but the measuring: known answers, and measured ones."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.wire import LhpAnswer, SweepInfo
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, build_curve, square, stairs

pytestmark = pytest.mark.anyio


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
    # The interval on the latency itself is ±0.1 %.
    assert answer.latency_interval_s == pytest.approx((2.011e-3 * 0.999, 2.011e-3 * 1.001))
    assert not answer.disturbed and not answer.noisy and answer.caveats == []
    assert worker.handed_in.empty()


async def test_a_doubtful_answer_says_so(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    store = sqlite_worker.store
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    spec = SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(1, 48))
    sweep, _ = store.create_sweep(spec, host=HOST)
    evidence = Evidence(
        samples=708, discarded=1758, unstable=12, others_share=0.344, disturbed=True
    )
    curve = dataclasses.replace(build_curve(spec.grid, stairs(8)), evidence=evidence)
    store.finish_sweep(sweep.id, curve, state=SweepState.DONE)

    answer = LhpAnswer.model_validate_json((await ask(client)).content)

    assert answer.disturbed and answer.noisy
    assert (answer.evidence.others_share, answer.evidence.disturbed) == (0.344, True)
    disturbed, noisy = answer.caveats
    assert disturbed.startswith("disturbed: others used 34%")
    # 1,770 of 2,466 samples; the interval is 0.2 % wide.
    assert noisy.startswith("noisy: 72% of 2,466 samples were disturbed")


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
    sweep = await worker.take(asking)
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
    sweep = await sqlite_worker.take(asking)
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
    sweep = await sqlite_worker.take(asking)
    keep_curve(sqlite_worker.store, square(1, 48), stairs(16))
    sqlite_worker.finish(sweep, stairs(8))
    await asking
    assert (await ask(client)).json()["lhp"] == [16, 16]


async def test_another_axis_is_asked_about_and_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    query = {"vary": "batch,out_features", "in_features": 317, "wait": 30}
    asking = asyncio.create_task(ask(client, "5,6", **query))
    sweep = await sqlite_worker.take(asking)
    assert sweep.spec.workload == LINEAR.describe(
        {"vary": "batch,out_features", "in_features": 317}
    )
    assert sweep.spec.grid == Grid.window((5, 6), (32, 32))
    curve_id = sqlite_worker.finish(sweep, stairs(8))
    answer = LhpAnswer.model_validate_json((await asking).content)
    assert (answer.lhp, answer.curve) == ([8, 8], curve_id)
    assert answer.workload.endswith("vary=batch,out_features]")
    # Nothing that was measured of other axes answers: another workload, another point.
    assert (await ask(client, "5,6", wait=0)).status_code == 202
    curve = (await client.get(f"/curves/{curve_id}")).json()
    assert curve["axis_names"] == ["batch", "out_features"]
    csv = (await client.get(f"/curves/{curve_id}", headers={"accept": "text/csv"})).text
    assert csv.startswith("batch,out_features,latency_s")


async def test_the_axes_that_do_not_vary_need_values(client: httpx.AsyncClient) -> None:
    response = await ask(client, "5,6", vary="batch,out_features")
    check_problem(response, 422, "in_features=1024")
    check_problem(await ask(client, "5,6", vary="dtype,batch"), 422, "can vary")
