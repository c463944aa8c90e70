"""GET /lhp with a basis, and GET /curves/predicted, over a store whose model is known by hand."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.answering import predictions
from profiler_service.kinds import LINEAR
from profiler_service.latency_model.settings import MODEL
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus
from profiler_service.wire import LhpAnswer, PredictedAnswer, PredictedCurve
from tests.api.conftest import HOST, Worker, ask, check_problem, keep_curve, serving
from tests.api.curves import PLATFORM, square, stairs
from tests.api.learned import create_sweep, key_of, score, teach

pytestmark = pytest.mark.anyio

DIMS = "101,203"
# Above (101, 203), the window reaches 32 further. Both multiples of 8 are fastest, nearest first:
# (104, 208). In log, that grows by 0.5 · (ln 104/101 + ln 208/203) = 0.0268, and falls by 0.1.
BEST = [104, 208]
LOG_RATIO = 0.5 * (math.log(104 / 101) + math.log(208 / 203)) - 0.1
CALIBRATED = MODEL.calibration.least_scores


async def predict(client: httpx.AsyncClient, dims: str = DIMS, **params: object) -> PredictedAnswer:
    response = await ask(client, dims, **{"basis": "predicted", **params})
    assert response.status_code == 200, response.text
    return PredictedAnswer.model_validate_json(response.content)


async def test_a_calibrated_prediction_moves(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    teach(worker.store)
    score(worker.store, CALIBRATED)

    answer = await predict(both_client)

    assert answer.basis == "predicted"
    assert (answer.dims, answer.lhp, answer.candidate) == ([101, 203], BEST, BEST)
    assert answer.grow_by == [3, 5]
    assert math.log(answer.speedup) == pytest.approx(-LOG_RATIO, abs=0.005)
    assert answer.speedup_interval is not None
    low, high = answer.speedup_interval
    # Half a deviation to each side, in log. A deviation is √((√2 · 0.003)² + (0.2 · 0.0732)²) =
    # 0.0152 at least: single points' own, and a share of what is promised.
    assert math.log(answer.speedup / low) == pytest.approx(math.log(high / answer.speedup))
    assert 0.5 * 0.0150 < math.log(high / answer.speedup) < 0.5 * 0.0190
    # Each of the 30 was off by less than what this one promises; of one more than all.
    assert answer.probability == pytest.approx(30 / 31)
    assert (answer.standing, answer.unproven, answer.caveats) == ("calibrated", False, [])
    assert (answer.calibration.num_scores, answer.calibration.num_published) == (30, 0)
    assert (answer.rests_on.num_sweeps, answer.rests_on.num_visits) == (1, 2000)
    assert answer.rests_on.learned_at is not None
    assert answer.distance == 0
    assert answer.workload == LINEAR.describe().key
    assert answer.platform == PLATFORM.key
    assert answer.sweep is None and answer.database_away_s is None
    assert worker.handed_in.empty()


async def test_an_uncalibrated_prediction_moves_only_if_told_to(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, CALIBRATED - 1)

    answer = await predict(client)
    assert (answer.lhp, answer.grow_by, answer.candidate) == ([101, 203], [0, 0], BEST)
    assert (answer.standing, answer.probability) == ("uncalibrated", None)
    assert answer.speedup_interval is None
    [caveat] = answer.caveats
    assert caveat.startswith("uncalibrated: 29 earlier predictions") and "30 are needed" in caveat

    moved = await predict(client, unproven="move")
    assert (moved.lhp, moved.unproven, moved.standing) == (BEST, True, "uncalibrated")
    assert "isn't believed" in moved.caveats[-1]
    check_problem(await ask(client, DIMS, unproven="move"), 422, "basis=predicted")
    check_problem(await ask(client, DIMS, unproven="maybe"), 422)


async def test_a_withdrawn_prediction_keeps_the_dims(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    # Each was off by 1 % · 0.5, which an interval of ± 0.1 % didn't hold: 30 misses in 30.
    score(sqlite_worker.store, CALIBRATED, half_width=0.001)
    answer = await predict(client)
    assert (answer.standing, answer.lhp, answer.candidate) == ("withdrawn", [101, 203], BEST)
    assert (answer.calibration.num_misses, answer.calibration.num_published) == (30, 30)
    assert "withdrawn" in answer.caveats[0] and "30 of 30" in answer.caveats[0]
    assert (await predict(client, unproven="move")).lhp == BEST


async def test_an_improbable_gain_keeps_the_dims(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    # Half of them were 100 deviations slower than predicted.
    score(sqlite_worker.store, CALIBRATED, error=100)
    answer = await predict(client)
    assert (answer.standing, answer.lhp, answer.candidate) == ("calibrated", [101, 203], BEST)
    assert answer.probability == pytest.approx(15 / 31)


@pytest.mark.parametrize("basis", ["predicted", "any"])
async def test_nothing_learned_is_unknown(
    client: httpx.AsyncClient, sqlite_worker: Worker, basis: str
) -> None:
    answer = await predict(client, basis=basis, unproven="move")
    assert (answer.standing, answer.lhp, answer.candidate) == ("unknown", [101, 203], [101, 203])
    assert (answer.speedup, answer.speedup_interval, answer.probability) == (1, None, None)
    assert answer.distance is None and not answer.unproven
    assert answer.rests_on.learned_at is None
    assert "nothing was learned" in answer.caveats[0]
    assert sqlite_worker.handed_in.empty() == (basis == "predicted")
    curve = PredictedCurve.model_validate_json(
        (await client.get("/curves/predicted", params={"dims": DIMS})).content
    )
    assert (curve.standing, curve.points.dims, curve.best) == ("unknown", [], [])
    # 33 dims on each axis: 101 to 133, and 203 to 235.
    assert (curve.num_points, curve.num_left_out) == (33 * 33, 33 * 33)


async def test_a_service_that_doesnt_learn_says_so(
    anyio_backend: str, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    settings = Settings(database_url="sqlite:///unused", host=HOST, learn=False)
    async with serving(settings, sqlite_worker) as client:
        answer = await predict(client)
        assert (answer.standing, answer.lhp) == ("unknown", [101, 203])
        assert "LHP_LEARN" in answer.caveats[0]


async def test_dims_far_from_what_was_measured_say_so(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, CALIBRATED)
    # Up to 512 was measured: log2(2048 / 512) = 2 octaves. No prediction so far off was scored.
    answer = await predict(client, "2048,100")
    assert (answer.distance, answer.standing) == (2, "uncalibrated")
    assert "so far from what was learned" in answer.caveats[0]
    assert "2.0 octaves away" in answer.caveats[1]


async def test_relatives_alone_predict_with_a_caveat(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store, workload=LINEAR.describe({"batch": "64"}))
    answer = await predict(client)
    assert (answer.standing, answer.candidate) == ("uncalibrated", BEST)
    assert answer.distance == 0
    # What relatives taught counts half.
    assert (answer.rests_on.num_sweeps, answer.rests_on.num_visits) == (0.5, 0)
    assert answer.rests_on.learned_at is None
    assert "never measured on this platform" in answer.caveats[-1]
    # Another element type runs other kernels.
    assert (await predict(client, dtype="bfloat16")).standing == "unknown"


async def test_the_other_preferences_choose_by_probability(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, CALIBRATED)
    # Alone, 101 → 104 costs 0.0146 and gains 0.05; 203 → 208 costs 0.0122 and gains 0.05. The
    # least growth, as a share, is 203 → 208 (2.5 %).
    nearest = await predict(client, prefer="nearest")
    assert (nearest.prefer, nearest.lhp) == ("nearest", [101, 208])
    # As large as 0.1 pays for: 0.5 · ln(d0 · d1 / 20503) < 0.1. (112, 216) costs 0.0827 and
    # (104, 232) 0.0814; with (120, 208) it is 0.0986, which interval and noise don't allow.
    largest = await predict(client, prefer="largest")
    assert largest.prefer == "largest" and largest.probability is not None
    assert 104 * 208 < math.prod(largest.lhp) <= 120 * 208
    assert all(dim % 8 == 0 for dim in largest.lhp)
    # 5 % slower are allowed: more than without.
    slack = await predict(client, prefer="largest", slack="5%")
    assert slack.slack == 0.05 and math.prod(slack.lhp) > math.prod(largest.lhp)
    multiples = await predict(client, multiple_of="1,16")
    assert multiples.lhp == [104, 208]
    assert (await predict(client, max_growth="0.5", multiple_of="64")).candidate in (
        [[101, 203], [128, 256]]
    )
    varied = await ask(client, "101", basis="predicted", vary="out_features", in_features="203")
    assert PredictedAnswer.model_validate_json(varied.content).standing == "unknown"


async def test_a_known_answer_is_measured_with_any_basis(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, CALIBRATED)
    keep_curve(sqlite_worker.store, square(96, 144), stairs(32))
    measured = (await ask(client, "100,100")).content
    # The same question with another basis never gets what is kept for it, nor the other way round.
    for _ in range(2):
        given = await ask(client, "100,100", basis="any")
        assert given.content == measured
        assert LhpAnswer.model_validate_json(given.content).basis == "measured"
        predicted = await predict(client, "100,100")
        assert predicted.basis == "predicted" and predicted.lhp == [104, 104]
        assert (await ask(client, "100,100", basis="measured")).content == measured
        assert (await ask(client, "100,100")).content == measured
    assert LhpAnswer.model_validate_json(measured).lhp == [128, 128]
    assert sqlite_worker.handed_in.empty()


async def test_an_unknown_answer_is_predicted_and_its_race_queued(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    teach(worker.store)
    score(worker.store, CALIBRATED)
    response = await ask(both_client, DIMS, basis="any")
    assert response.status_code == 200
    answer = PredictedAnswer.model_validate_json(response.content)
    assert answer.lhp == BEST
    sweep = await worker.take()
    assert answer.sweep == sweep.id
    assert response.headers["location"] == f"sweeps/{sweep.id}"
    assert sweep.spec.mode == "race" and sweep.spec.grid.first == (101, 203)
    # Asked again, it is the same race.
    again = PredictedAnswer.model_validate_json((await ask(both_client, DIMS, basis="any")).content)
    assert again.sweep == sweep.id
    # When it has been measured, the answer is that.
    worker.finish(sweep, stairs(32))
    async with asyncio.timeout(20):
        measured = await ask(both_client, DIMS, basis="any")
        while measured.json()["basis"] == "predicted":  # until the service has seen the curve
            await asyncio.sleep(0.005)
            measured = await ask(both_client, DIMS, basis="any")
    assert measured.json()["lhp"] == [128, 224]


async def test_a_full_queue_still_gives_the_prediction(
    anyio_backend: str, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    settings = Settings(database_url="sqlite:///unused", host=HOST, max_queued=1)
    async with serving(settings, sqlite_worker) as client:
        assert (await ask(client, "300,300", wait=0)).status_code == 202
        assert (await ask(client, DIMS, wait=0)).status_code == 429
        answer = await predict(client, basis="any")
        assert answer.candidate == BEST and answer.sweep is None
        assert answer.caveats[-1].startswith("no race was queued to measure it: ")
        response = await ask(client, DIMS, basis="any")
        assert "location" not in response.headers


async def test_a_host_that_is_away_still_predicts(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    sqlite_worker.store.set_status(HOST, HostStatus.DRAINING)
    assert (await predict(client)).candidate == BEST
    answer = await predict(client, basis="any")
    assert answer.candidate == BEST and answer.sweep is None
    assert "no sweeps are taken" in answer.caveats[-1]
    check_problem(await ask(client, DIMS, basis="predicted", host="nobody"), 404)
    check_problem(await ask(client, DIMS, basis="any", host="nobody"), 404)
    check_problem(await ask(client, DIMS, basis="predicted", platform="0" * 64), 404)


async def test_reading_is_enough_for_a_prediction_but_not_to_queue_a_race(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    keep_curve(sqlite_worker.store, square(96, 144), stairs(32))
    _, reads = sqlite_worker.store.create_token("reads", [Scope.READ], lifetime_s=None, by=Caller())
    settings = Settings(database_url="sqlite:///unused", host=HOST)
    async with serving(settings, sqlite_worker) as guarded:
        guarded.headers["authorization"] = f"Bearer {reads}"
        assert (await predict(guarded)).candidate == BEST
        assert (await ask(guarded, "100,100", basis="any")).json()["basis"] == "measured"
        check_problem(await ask(guarded, DIMS, basis="any"), 403)
        assert (await guarded.get("/curves/predicted", params={"dims": DIMS})).status_code == 200
        del guarded.headers["authorization"]
        check_problem(await ask(guarded, DIMS, basis="predicted"), 401)
        check_problem(await guarded.get("/curves/predicted", params={"dims": DIMS}), 401)
    assert sqlite_worker.handed_in.empty()


@pytest.mark.parametrize(
    ("params", "hint"),
    [
        ({"basis": "predicted", "platforms": "all"}, "platforms"),
        ({"basis": "any", "platforms": "all"}, "platforms"),
        ({"basis": "predicted", "effort": "thorough"}, "effort"),
        ({"basis": "predicted", "max_age": "1h"}, "max_age"),
        ({"basis": "predicted", "budget": "1"}, "budget"),
        ({"basis": "predicted", "margin": "1%"}, "margin"),
        ({"basis": "predicted", "settle": "1"}, "settle"),
        ({"basis": "predicted", "workload": "callable"}, "basis"),
        ({"basis": "any", "workload": "callable"}, "basis"),
        ({"basis": "guessed"}, ""),
        ({"basis": "predicted", "slack": "1%"}, "nearest"),
        ({"basis": "predicted", "batsh": "4"}, "batch"),
        ({"basis": "predicted", "multiple_of": "100000"}, "smaller"),
    ],
)
async def test_what_no_prediction_can_say_is_refused(
    client: httpx.AsyncClient, params: dict[str, Any], hint: str
) -> None:
    check_problem(await ask(client, DIMS, **params), 422, hint)


async def test_a_window_beyond_the_limit_is_refused_before_it_is_predicted(
    anyio_backend: str, sqlite_worker: Worker
) -> None:
    teach(sqlite_worker.store)
    settings = Settings(database_url="sqlite:///unused", host=HOST, max_window_points=1000)
    async with serving(settings, sqlite_worker) as client:
        # 33 × 33 = 1,089 points.
        check_problem(await ask(client, DIMS, basis="predicted"), 422, "LHP_MAX_WINDOW_POINTS")
        check_problem(await client.get("/curves/predicted", params={"dims": DIMS}), 422)
        assert (await predict(client, multiple_of="8")).candidate == BEST


async def test_a_prediction_needs_no_database_once_its_model_is_in_memory(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teach(sqlite_worker.store)
    before = await predict(client)
    monkeypatch.setattr(predictions, "FRESH_S", 3600.0)
    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(str(args[2]))

    sa.event.listen(sqlite_worker.store._engine, "before_cursor_execute", note)
    assert await predict(client) == before
    other = await predict(client, "300,301", prefer="nearest")
    assert other.candidate == [304, 301] or other.candidate == [300, 301]
    about_models = [each for each in statements if "latency_models" in each or "scores" in each]
    assert about_models == []
    check = await predict(client, batch="32")  # another workload is read
    assert check.standing != "unknown"
    assert any("latency_models" in each for each in statements)


async def test_a_model_that_has_learned_predicts_anew(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "FRESH_S", 0.0)
    teach(sqlite_worker.store)
    first = await predict(client)
    assert first.candidate == BEST and first.rests_on.num_sweeps == 1
    # Now multiples of 8 are slower: twice as much was learned of that.
    for _ in range(2):
        teach(sqlite_worker.store, penalty=-0.05)
    answer = await predict(client)  # what is in memory; it is renewed for the next one
    async with asyncio.timeout(20):
        while answer.rests_on.num_sweeps < 2.9:
            await asyncio.sleep(0.005)
            answer = await predict(client)
    assert answer.candidate == [101, 203]


async def test_a_batch_refuses_what_isnt_measured(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(96, 144), stairs(32))
    questions = [
        {"dims": "100,100", "basis": "predicted"},
        {"dims": "100,100", "basis": "measured"},
        {"dims": "100,100", "unproven": "move"},
    ]
    items = (await client.post("/lhp/batch", json=questions)).json()["items"]
    assert [each["status"] for each in items] == [422, 200, 422]
    assert "GET /lhp" in items[0]["problem"]["hint"]


def test_the_models_of_the_tests_have_the_keys_of_questions(sqlite_worker: Worker) -> None:
    workload = LINEAR.describe()
    sweep = create_sweep(sqlite_worker.store, workload)
    assert sqlite_worker.store.get_sweep(sweep).state.is_final
    assert key_of(workload).workload == workload
