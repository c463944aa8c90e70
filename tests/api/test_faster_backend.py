"""Which kernel would have been faster: part of what GET /lhp answers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from profiler_service.kinds import LINEAR, MATMUL, get_workload_kind
from profiler_service.kinds.kernels import DENSE_KERNELS
from profiler_service.plan.spec import SweepState
from profiler_service.storage import rows
from profiler_service.storage.store import Sweep
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs
from tests.api.kernels import BACKENDS, measure

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def registered(sqlite_worker: Worker) -> None:
    sqlite_worker.store.register_host(
        HOST, PLATFORM, protocol=PROTOCOL, dtypes=DTYPES, backends=BACKENDS
    )


async def ask(client: httpx.AsyncClient, **params: object) -> httpx.Response:
    return await client.get("/lhp", params={"dims": "5,6", **params})  # type: ignore[dict-item]


def check_comparison(sweep: Sweep, key: str) -> None:
    assert sweep.spec.mode == "kernels"
    assert sweep.spec.grid == DENSE_KERNELS
    assert sweep.spec.workload.key == f"linear_kernels[{key}]"


async def finish_both(worker: Worker) -> str:
    """Measures a question's race, then the comparison that it brought; the comparison's curve."""
    race, comparison = await worker.take(), await worker.take()
    worker.finish(race, stairs(8))
    return measure(worker.store, comparison)


async def ask_until_compared(client: httpx.AsyncClient, **params: object) -> dict[str, Any]:
    """The first answer that doesn't say that kernels are being compared."""
    while (answer := (await ask(client, **params)).json())["comparing_backends"]:
        await asyncio.sleep(0.02)
    found: dict[str, Any] = answer
    return found


async def test_kernels_meet_after_the_answer_and_the_next_one_names_the_fastest(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    assert race.spec.mode == "race"
    check_comparison(comparison, "batch=16,dtype=float32,in_features=6,out_features=5")
    is_awaited = {each.id: each.is_awaited for each in sqlite_worker.store.list_open(HOST)}
    assert is_awaited == {race.id: True, comparison.id: False}
    sqlite_worker.finish(race, stairs(8))

    first = (await asking).json()

    assert first["lhp"] == [8, 8]
    assert (first["faster_backend"], first["comparing_backends"]) == (None, True)
    assert (await ask(client)).json() == first
    curve_id = measure(sqlite_worker.store, comparison)
    answer = await ask_until_compared(client)
    assert {**answer, "faster_backend": None, "comparing_backends": True} == first
    # dense takes 1 ms, packed 350 µs.
    faster = answer["faster_backend"]
    assert (faster["backend"], faster["curve"]) == ("packed", curve_id)
    assert faster["speedup"] == pytest.approx(1000 / 350, rel=0.02)
    low, high = faster["speedup_interval"]
    assert low < faster["speedup"] < high
    assert (await ask(client)).json() == answer

    # The fastest has no faster one; and compiled isn't compared: nobody waits for a compiler.
    keep_curve(
        sqlite_worker.store,
        square(1, 48),
        stairs(8),
        workload=LINEAR.describe({"backend": "packed"}),
    )
    keep_curve(
        sqlite_worker.store,
        square(1, 48),
        stairs(8),
        workload=LINEAR.describe({"backend": "compiled"}),
    )
    assert (await ask(client, backend="packed")).json()["faster_backend"] is None
    assert (await ask(client, backend="compiled")).json()["faster_backend"] is None
    assert sqlite_worker.handed_in.empty()


async def test_a_kernel_of_which_no_gain_is_known_is_not_named(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    race, comparison = await sqlite_worker.take(), await sqlite_worker.take()
    measure(sqlite_worker.store, comparison, has_lower_ends=False)
    sqlite_worker.finish(race, stairs(8))
    answer = (await asking).json()
    assert (answer["lhp"], answer["faster_backend"]) == ([8, 8], None)


async def test_a_comparison_numbered_by_a_slow_clock_is_found_all_the_same(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts number their curves by their own clocks; the second one's is behind."""
    asking = asyncio.create_task(ask(client))
    await finish_both(sqlite_worker)
    await asking
    assert (await ask_until_compared(client))["faster_backend"]["backend"] == "packed"
    asking = asyncio.create_task(ask(client, batch=32))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    with monkeypatch.context() as patch:
        patch.setattr(rows, "create_id", lambda _now: f"{7:032x}")
        assert measure(sqlite_worker.store, comparison) == f"{7:032x}"
    sqlite_worker.finish(race, stairs(8))
    # It was compared before the answer was read.
    assert (await asking).json()["faster_backend"]["backend"] == "packed"


async def test_what_was_compared_is_not_compared_again(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    await finish_both(sqlite_worker)
    await asking
    asking = asyncio.create_task(ask(client, backend="packed"))
    race = await sqlite_worker.take(asking)
    assert race.spec.mode == "race"
    sqlite_worker.finish(race, stairs(8))
    assert (await asking).status_code == 200
    assert sqlite_worker.handed_in.empty()


async def test_a_square_product_has_kernels_too(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    response = await ask(client, dims="7", workload="matmul", dtype="bfloat16", wait=0)
    assert response.status_code == 202
    race = await sqlite_worker.take()
    check_comparison(
        await sqlite_worker.take(), "batch=16,dtype=bfloat16,in_features=7,out_features=7"
    )
    assert race.spec.workload == MATMUL.describe({"dtype": "bfloat16"})
    # The sweep to wait for is the one that brings the answer.
    assert response.json()["id"] == race.id


async def test_a_product_with_a_bias_is_compared_with_its_bias(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    assert (await ask(client, bias="yes", wait=0)).status_code == 202
    race, comparison = await sqlite_worker.take(), await sqlite_worker.take()
    assert race.spec.workload == LINEAR.describe({"bias": "yes"})
    check_comparison(comparison, "batch=16,bias=yes,dtype=float32,in_features=6,out_features=5")
    measure(sqlite_worker.store, comparison)
    sqlite_worker.finish(race, stairs(8))
    answer = (await ask(client, bias="yes")).json()
    assert answer["faster_backend"]["backend"] == "packed"
    # It answers no question about a product without one.
    assert (await ask(client, wait=0)).status_code == 202


@pytest.mark.parametrize("workload", ["hlstm", "hlstm_lm"])
async def test_a_network_has_kernels_too(
    client: httpx.AsyncClient, sqlite_worker: Worker, workload: str
) -> None:
    asking = asyncio.create_task(ask(client, workload=workload, batch=2, dtype="bfloat16"))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    assert (comparison.spec.mode, comparison.spec.grid) == ("kernels", DENSE_KERNELS)
    assert comparison.spec.workload.kind == f"{workload}_kernels"
    params = dict(comparison.spec.workload.params)
    assert (params["gate_width"], params["state_width"]) == (5, 6)
    assert (params["batch"], params["dtype"]) == (2, "bfloat16")
    curve_id = measure(sqlite_worker.store, comparison)
    sqlite_worker.finish(race, stairs(8))
    answer = (await asking).json()
    assert answer["lhp"] == [8, 8]
    assert answer["faster_backend"]["backend"] == "packed"
    assert answer["faster_backend"]["curve"] == curve_id
    # What was learnt of a network says nothing of a product of the same dims.
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    assert (await ask(client)).json()["faster_backend"] is None


@pytest.mark.parametrize(
    ("workload", "dims"),
    [("conv2d", "5,6"), ("depthwise_conv2d", "5"), ("mlp", "5"), ("transformer_block", "12,6")],
)
async def test_a_layer_has_kernels_too(
    client: httpx.AsyncClient, sqlite_worker: Worker, workload: str, dims: str
) -> None:
    asking = asyncio.create_task(ask(client, workload=workload, dims=dims, dtype="bfloat16"))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    assert (comparison.spec.mode, comparison.spec.grid) == ("kernels", DENSE_KERNELS)
    assert comparison.spec.workload.kind == f"{workload}_kernels"
    assert comparison.spec.workload.param("dtype") == "bfloat16"
    curve_id = measure(sqlite_worker.store, comparison)
    sqlite_worker.finish(race, stairs(8))
    answer = (await asking).json()
    assert answer["faster_backend"]["backend"] == "packed"
    assert answer["faster_backend"]["curve"] == curve_id
    # The kernel that isn't the faster one has a curve of its own, but the comparison is the same.
    keep_curve(
        sqlite_worker.store,
        race.spec.grid,
        stairs(8),
        workload=get_workload_kind(workload).describe({"dtype": "bfloat16", "backend": "packed"}),
    )
    packed = {"workload": workload, "dims": dims, "dtype": "bfloat16", "backend": "packed"}
    assert (await ask(client, **packed)).json()["faster_backend"] is None
    assert sqlite_worker.handed_in.empty()


@pytest.mark.parametrize(
    "params",
    [
        {"workload": "attention", "dims": "4,8", "batch": 1, "sequence": 16},
        {"workload": "embedding", "dims": "50"},
        {"workload": "conv2d", "budget": 2},
        {"workload": "lstm"},
        {"workload": "hlstm", "backend": "csr"},
        # Whole calls of a network would eat the time that the race was given.
        {"workload": "hlstm", "budget": 2},
    ],
)
async def test_networks_whose_kernels_are_not_compared(
    client: httpx.AsyncClient, sqlite_worker: Worker, params: dict[str, object]
) -> None:
    response = await ask(client, wait=0, **params)
    assert response.status_code == 202
    assert (await sqlite_worker.take()).spec.mode == "race"
    assert sqlite_worker.handed_in.empty()


async def test_comparisons_of_products_and_networks_are_both_found(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # Kept one after the other, asked about in the other order: neither hides the other.
    for workload in ("hlstm", "linear"):
        asking = asyncio.create_task(ask(client, workload=workload))
        await finish_both(sqlite_worker)
        await asking
        answer = await ask_until_compared(client, workload=workload)
        assert answer["faster_backend"]["backend"] == "packed"
    answer = (await ask(client, workload="hlstm")).json()
    assert answer["faster_backend"]["backend"] == "packed"


async def test_an_answer_needs_no_comparison(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    sqlite_worker.store.request_cancel(comparison.id)
    sqlite_worker.finish(race, stairs(8))
    answer = (await asking).json()
    assert answer["lhp"] == [8, 8] and answer["faster_backend"] is None
    # It was cancelled, and nobody is told to wait for it.
    assert answer["comparing_backends"] is False
    # A sparse product isn't another kernel of the same one.
    response = await ask(client, backend="csr", sparsity="0.9", wait=0)
    assert response.status_code == 202
    assert (await sqlite_worker.take()).spec.mode == "race"
    assert sqlite_worker.handed_in.empty()


async def test_what_is_refused_compares_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    check_problem(await ask(client, dims="65536,65536"), 422)
    assert sqlite_worker.handed_in.empty()


async def test_comparisons_under_other_conditions_say_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(ask(client, dtype="bfloat16"))
    await finish_both(sqlite_worker)
    await asking
    answer = await ask_until_compared(client, dtype="bfloat16")
    assert answer["faster_backend"]["backend"] == "packed"
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    assert (await ask(client)).json()["faster_backend"] is None


async def test_a_comparison_of_all_kernels_replaces_none_of_the_dense_ones(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    """It may have been cancelled before it could tell the dense ones apart."""
    asking = asyncio.create_task(client.get("/crossover", params={"dims": "5,6"}))
    compared = await sqlite_worker.take(asking)
    measure(sqlite_worker.store, compared, ended_as=SweepState.CANCELLED, most_batches=6)
    assert (await asking).status_code == 409
    asking = asyncio.create_task(ask(client))
    race, comparison = await sqlite_worker.take(asking), await sqlite_worker.take()
    check_comparison(comparison, "batch=16,dtype=float32,in_features=6,out_features=5")
    measure(sqlite_worker.store, comparison)
    sqlite_worker.finish(race, stairs(8))
    assert (await asking).json()["faster_backend"]["backend"] == "packed"
