"""GET /lhp: sweeps that leave no answer, and questions that can't be asked."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from profiler_service.plan.spec import SweepState
from tests.api.conftest import DTYPES, HOST, Worker, ask, check_problem
from tests.api.curves import PLATFORM, PROTOCOL, build_curve, stairs

pytestmark = pytest.mark.anyio


class TestSweepsThatLeaveNoAnswer:
    async def test_a_failed_one_is_500_with_its_reason(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client))
        sweep = await sqlite_worker.take(asking)
        sqlite_worker.store.fail_sweep(sweep.id, "the GPU fell off the bus")
        response = await asking
        check_problem(response, 500, f"/sweeps/{sweep.id}")
        assert "the GPU fell off the bus" in response.json()["detail"]

    async def test_a_cancelled_one_is_409(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client))
        sweep = await sqlite_worker.take(asking)
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
        curve_id = sqlite_worker.finish(
            await sqlite_worker.take(asking), stairs(8), failing=[(5, 6)]
        )
        check_problem(await asking, 500, f"/curves/{curve_id}")

    async def test_a_cancelled_one_that_knows_the_answer_gives_it(
        self, client: httpx.AsyncClient, sqlite_worker: Worker
    ) -> None:
        asking = asyncio.create_task(ask(client, prefer="nearest"))
        sweep = await sqlite_worker.take(asking)
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
    ("dims=1048577,5", 422, "LHP_MAX_DIM"),
    ("dims=5,6&vary=batch,out_features&in_features=1048577", 422, "LHP_MAX_DIM"),
    ("dims=5&workload=linear_kernels&out_features=1048577", 422, "LHP_MAX_DIM"),
    ("dims=99999999999999999999,5", 422, "1197,317"),
    ("dims=5,6&dims=7,8", 422, "once"),
    ("dims=5,6&batch=16&batch=32", 422, "once"),
    ("dims=5,6&workload=conv", 404, "linear"),
    ("dims=5,6&workload=matmul", 422, "size"),
    ("dims=5,6&dtype=int3", 422, "float32"),
    ("dims=5,6&batch=0", 422, "1 to 1048576"),
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
    ("dims=5,6&budget=5e-324", 422, "/docs"),
    ("dims=5,6&settle=5e-324", 422, "/docs"),
    ("dims=5,6&max_growth=-0.1", 422, "/docs"),
    ("dims=5,6&max_growth=1.1", 422, "/docs"),
    ("dims=5,6&max_growth=nan", 422, "/docs"),
    ("dims=5,6&wait=-1", 422, "/docs"),
    ("dims=5,6&wait=inf", 422, "/docs"),
    ("dims=5,6&wait=121", 422, "202"),
    ("dims=5,6&wait=1e308", 422, "202"),
    # Longer ago than there are dates.
    ("dims=5,6&max_age=999999999d", 422, "max_age=7d"),
    ("dims=5,6&margin=0.0000000001", 422, "margin=1%"),
    ("dims=5,6&host=%00", 404, "/hosts"),
    ("dims=5,6&host=", 404, "/hosts"),
    ("dims=5,6&platform=%00", 404, "/platforms"),
    # The host multiplies float32 and bfloat16 only.
    ("dims=5,6&dtype=float16", 422, "bfloat16"),
    # 66,560² · 4 bytes = 16.5 GiB.
    ("dims=65536,65536", 422, "LHP_MAX_OPERAND_BYTES"),
    ("dims=5,6&slack=1%25", 422, "prefer=nearest"),
    ("dims=5,6&prefer=nearest&slack=1", 422, "slack=1%"),
    ("dims=5,6&prefer=nearest&slack=-1%25", 422, "slack=1%"),
    # 257 · 257 = 66,049 points are more than 65,536 to look at.
    ("dims=2048,2048&effort=thorough", 422, "LHP_MAX_SURVEY_POINTS"),
    ("dims=5,6&effort=none", 422, "/docs"),
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
    assert "no csr linear of bfloat16" in refused.json()["detail"]
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
