"""GET /crossover, through the whole service but the measuring."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from profiler_service.kinds.kernels import ALL_KERNELS, NUM_KERNELS
from profiler_service.wire import CrossoverAnswer, SweepInfo
from tests.api.conftest import DTYPES, HOST, Worker, check_problem
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.kernels import BACKENDS, CSR_POINTS, measure

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def registered(sqlite_worker: Worker) -> None:
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES, backends=BACKENDS
    )


async def ask(
    client: httpx.AsyncClient, dims: str = "1500,1400", **params: object
) -> httpx.Response:
    return await client.get("/crossover", params={"dims": dims, **params})  # type: ignore[dict-item]


async def test_measures_and_answers_from_which_sparsity_on(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    sweep = await sqlite_worker.take(asking)
    assert sweep.spec.mode == "kernels"
    assert sweep.spec.grid == ALL_KERNELS
    assert sweep.spec.workload.key == (
        "linear_kernels[batch=16,dtype=float32,in_features=1400,out_features=1500]"
    )
    curve_id = measure(sqlite_worker.store, sweep)

    response = await asking

    assert response.status_code == 200, response.text
    answer = CrossoverAnswer.model_validate_json(response.content)
    assert (answer.dims, answer.batch, answer.dtype) == ([1500, 1400], 16, "float32")
    assert answer.best == "packed"
    # 82.75 %, hence 83; one step either way is what noise may cost.
    assert answer.sparsity == pytest.approx(0.83, abs=0.011)
    low, high = answer.sparsity_interval
    assert answer.sparsity is not None and low is not None and high is not None
    assert low <= answer.sparsity <= high
    assert {each.backend: each.sparsity for each in answer.kernels} == {
        "packed": answer.sparsity,
        "compiled": pytest.approx(0.82, abs=0.011),
        "dense": pytest.approx(0.51, abs=0.011),
    }
    assert [each.backend for each in answer.kernels] == ["packed", "compiled", "dense"]
    assert answer.kernels[0].latency_s == pytest.approx(350e-6, rel=0.1)
    at = {point.sparsity: point for point in answer.sparse}
    # 5 + 20 · 1 = 25 µs of 350.
    assert at[0.99].ratio == pytest.approx(25 / 350, rel=0.05)
    assert list(at) == sorted(at) and len(at) < 40
    assert (answer.platform, answer.host, answer.curve) == (PLATFORM.key, HOST, curve_id)
    assert not answer.failures and not answer.stale
    # And again, from the store.
    assert (await ask(client, "01500,1400", batch="16")).json() == response.json()
    assert sqlite_worker.handed_in.empty()


async def test_a_layer_with_a_bias_is_another_one(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, bias="yes"))
    sweep = await sqlite_worker.take(asking)
    assert sweep.spec.workload.key == (
        "linear_kernels[batch=16,bias=yes,dtype=float32,in_features=1400,out_features=1500]"
    )
    measure(sqlite_worker.store, sweep)
    assert (await asking).json()["bias"] == "yes"
    # What is known of it says nothing of one without.
    assert (await ask(client, bias="no", wait=0)).status_code == 202
    without = await sqlite_worker.take()
    assert without.spec.workload.param("in_features") == 1400
    measure(sqlite_worker.store, without)
    assert (await ask(client)).json()["bias"] == "no"


async def test_equal_requests_share_one_measurement(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = [asyncio.create_task(ask(client)) for _ in range(20)]
    measure(sqlite_worker.store, await sqlite_worker.take())
    assert {(await each).status_code for each in asking} == {200}
    assert sqlite_worker.handed_in.empty()


async def test_what_takes_longer_than_the_wait_goes_on(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    response = await ask(client, wait=0)
    assert response.status_code == 202
    sweep = SweepInfo.model_validate_json(response.content)
    assert response.headers["location"] == f"sweeps/{sweep.id}"
    assert int(response.headers["retry-after"]) > 0
    assert (sweep.mode, sweep.num_points) == ("kernels", NUM_KERNELS)
    measure(sqlite_worker.store, await sqlite_worker.take())
    assert (await ask(client)).status_code == 200


async def test_without_any_dense_kernel_but_one(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    measure(sqlite_worker.store, await sqlite_worker.take(asking), failing=frozenset({1, 2}))
    answer = (await asking).json()
    assert [each["backend"] for each in answer["kernels"]] == ["dense"]
    assert answer["best"] == "dense"
    assert answer["failures"] == {
        "packed": "synthetic failure",
        "compiled": "synthetic failure",
    }


async def test_a_sparse_kernel_that_fails_is_no_answer_and_is_tried_again(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    for _ in range(2):
        asking = asyncio.create_task(ask(client))
        measure(sqlite_worker.store, await sqlite_worker.take(asking), failing=CSR_POINTS)
        response = await asking
        check_problem(response, 500, hint="ask again")
        assert "the kernels at 1500,1400" in response.json()["detail"]


async def test_a_cancelled_measurement_is_no_answer(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    sqlite_worker.store.request_cancel((await sqlite_worker.take(asking)).id)
    check_problem(await asking, 409, hint="ask again")


@pytest.mark.parametrize(
    ("params", "status", "hint"),
    [
        ({"dims": "1500"}, 422, "out_features"),
        ({"dims": "0,5"}, 422, "whole numbers"),
        ({"dims": "a"}, 422, "whole numbers"),
        ({"dims": "5,1048577"}, 422, "LHP_MAX_DIM"),
        ({"batch": "0"}, 422, "batch"),
        ({"dtype": "float64"}, 422, "float32"),
        ({"bias": "maybe"}, 422, "choose bias from: no, yes"),
        ({"dtype": "bfloat16"}, 422, "another dtype"),  # no sparse product of it here
        ({"sparsity": "0.5"}, 422, "/docs"),
        ({"wait": "1e9"}, 422, "wait less"),
        ({"dims": ["5,6", "7,8"]}, 422, "once"),
        ({"dims": "65536,65536"}, 422, "smaller dims"),
        ({"host": "nowhere"}, 404, "/hosts"),
        ({"platform": "nothing"}, 404, "/platforms"),
    ],
)
async def test_bad_requests(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    params: dict[str, object],
    status: int,
    hint: str,
) -> None:
    response = await client.get("/crossover", params={"dims": "5,6", **params})  # type: ignore[dict-item]
    check_problem(response, status, hint=hint)
    assert sqlite_worker.handed_in.empty()
