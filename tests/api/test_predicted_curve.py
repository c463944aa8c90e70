"""GET /curves/predicted, over a store whose model is known by hand."""

from __future__ import annotations

import csv
import math
from typing import Any

import httpx
import pytest

from profiler_service.wire import PredictedCurve
from tests.api.conftest import Worker, check_problem
from tests.api.learned import score, teach
from tests.api.test_predictions import BEST, CALIBRATED, DIMS, LOG_RATIO, predict

pytestmark = pytest.mark.anyio


@pytest.fixture
async def learned(client: httpx.AsyncClient, sqlite_worker: Worker) -> httpx.AsyncClient:
    teach(sqlite_worker.store)
    score(sqlite_worker.store, CALIBRATED)
    return client


async def get(client: httpx.AsyncClient, **params: Any) -> httpx.Response:
    return await client.get("/curves/predicted", params={"dims": DIMS, **params})


async def test_tells_every_point_of_the_window(learned: httpx.AsyncClient) -> None:
    response = await get(learned)
    assert response.status_code == 200, response.text
    curve = PredictedCurve.model_validate_json(response.content)
    assert (curve.basis, curve.standing, curve.distance) == ("predicted", "calibrated", 0)
    assert curve.axis_names == ["out_features", "in_features"]
    assert [(each.first, each.last) for each in curve.axes] == [(101, 133), (203, 235)]
    assert (curve.num_points, curve.num_left_out) == (1089, 0)
    assert curve.points.dims[0] == [101, 203] and curve.points.dims[1] == [101, 204]
    assert curve.points.speedup[0] == 1
    at = curve.points.dims.index(BEST)
    assert math.log(curve.points.speedup[at]) == pytest.approx(-LOG_RATIO, abs=0.005)
    assert curve.points.deviation is not None
    # Two single points differ by √2 · 0.003, whatever is known of their classes.
    assert min(curve.points.deviation) == pytest.approx(0.003 * 2**0.5, rel=1e-3)
    assert curve.half_width_in_deviations == pytest.approx(0.5)
    assert len(curve.best) == 10
    best = curve.best[0]
    assert best.dims == BEST
    answer = await predict(learned)
    assert best.speedup == pytest.approx(answer.speedup)
    assert best.speedup_interval == pytest.approx(answer.speedup_interval, rel=1e-5)
    assert best.probability == pytest.approx(answer.probability)
    gains = [each.speedup for each in curve.best]
    assert gains == sorted(gains, reverse=True)


async def test_sends_fewer_points_but_the_best_ones(learned: httpx.AsyncClient) -> None:
    curve = PredictedCurve.model_validate_json((await get(learned, max_points=100)).content)
    assert len(curve.points.dims) <= 112
    assert curve.num_left_out == 1089 - len(curve.points.dims)
    assert all(each.dims in curve.points.dims for each in curve.best)
    assert curve.points.dims[0] == [101, 203] and curve.points.dims[-1] == [133, 235]


async def test_many_points_have_no_deviations(learned: httpx.AsyncClient) -> None:
    # 65 × 129 = 8,385 points.
    params: dict[str, Any] = {"dims": "128,256", "max_growth": 0.5, "max_points": 100_000}
    response = await learned.get("/curves/predicted", params=params)
    curve = PredictedCurve.model_validate_json(response.content)
    assert len(curve.points.dims) == 8385 and curve.points.deviation is None
    assert curve.best[0].speedup_interval is not None


async def test_is_a_table_too(learned: httpx.AsyncClient) -> None:
    response = await get(learned, format="csv", multiple_of="8")
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(response.text.splitlines()))
    # (101, 203), and 104 to 128 × 208 to 232.
    assert len(rows) == 1 + 4 * 4
    assert rows[0]["out_features"] == "101" and float(rows[0]["speedup"]) == 1
    assert float(rows[1]["deviation"]) > 0


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"dims": "0,1"}, 422),
        ({"dims": "1"}, 422),
        ({"max_points": 9}, 422),
        ({"max_points": 100_001}, 422),
        ({"format": "parquet"}, 422),
        ({"max_growth": 2}, 422),
        ({"workload": "nothing"}, 404),
        ({"platform": "0" * 64}, 404),
        ({"host": "nobody"}, 404),
        ({"prefer": "nearest"}, 422),
    ],
)
async def test_refuses_what_is_no_window(
    learned: httpx.AsyncClient, params: dict[str, Any], status: int
) -> None:
    check_problem(await get(learned, **params), status)


async def test_no_curve_is_called_so(learned: httpx.AsyncClient) -> None:
    check_problem(await learned.get("/curves/predicted"), 422)
    check_problem(await learned.get("/curves/predicte"), 404)
