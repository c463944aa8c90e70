"""GET /curves: pages, filters, searches and orders."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.wire import CurveInfo
from profiler_service.workload import Workload
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio


async def test_list_pages_and_filters(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    store = sqlite_worker.store
    first = keep_curve(store, square(3, 5), stairs(4))
    second = keep_curve(
        store, Grid(axes=(GridAxis(first=3, count=8),)), stairs(4), workload=MATMUL.describe()
    )
    page = (await client.get("/curves", params={"limit": 1})).json()
    assert [item["id"] for item in page["items"]] == [second]
    page = (await client.get("/curves", params={"cursor": page["next_cursor"]})).json()
    assert [item["id"] for item in page["items"]] == [first]
    assert page["next_cursor"] is None

    async def ids(**query: str) -> list[str]:
        page = (await client.get("/curves", params=query)).json()
        return [CurveInfo.model_validate(item).id for item in page["items"]]

    assert await ids(workload="linear") == [first]
    assert await ids(host=HOST) == [second, first]
    store.register_host("there", PLATFORM, protocol=PROTOCOL, dtypes=DTYPES)
    assert await ids(host="there") == []
    assert await ids(platform=PLATFORM.key) == [second, first]
    changed = dataclasses.replace(PLATFORM, driver="newer")
    store.register_host("there", changed, protocol=PROTOCOL, dtypes=DTYPES)
    assert await ids(platform=changed.key) == []
    check_problem(await client.get("/curves?cursor=made-up"), 422)


async def test_the_list_is_filtered_searched_and_sorted(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    store = sqlite_worker.store
    line = Grid(axes=(GridAxis(first=3, count=8),))
    narrow = LINEAR.describe({"dtype": "bfloat16"})
    half = keep_curve(store, square(3, 5), stairs(4), workload=narrow)
    small = keep_curve(store, line, stairs(4), workload=MATMUL.describe({"batch": 8}))
    sparse = {"backend": "csr", "sparsity": "0.90"}
    csr = keep_curve(store, square(3, 6), stairs(4), workload=LINEAR.describe(sparse))

    async def ids(**query: str) -> list[str]:
        response = await client.get("/curves", params=query)
        assert response.status_code == 200, response.text
        return [item["id"] for item in response.json()["items"]]

    assert await ids(dtype="bfloat16") == [half]
    assert await ids(dtype="float32", workload="linear") == [csr]
    assert await ids(batch="16") == [csr, half]
    assert await ids(sparsity="0.9") == await ids(sparsity="0.900") == [csr]
    # Workloads of both kinds leave it out where it is 0.
    assert await ids(sparsity="0") == [small, half]
    assert await ids(vary="batch, out_features") == []
    assert await ids(mode="grid") == [csr, small, half]
    assert await ids(mode="race") == []
    # All were measured at MEASURED_AT, 2025-11-22 12:00 UTC.
    around = {"since": "2025-11-22T12:00:00", "until": "2025-11-22T13:00:01+01:00"}
    assert await ids(**around) == [csr, small, half]
    assert await ids(until="2025-11-22T12:00:00Z") == await ids(since="2025-11-23") == []
    assert await ids(search="SYNTHETIC matmul") == [small]  # the platform's model, and the workload
    assert await ids(search=csr) == [csr]
    assert await ids(search="synthetic nothing") == []
    assert await ids(sort="points") == [small, half, csr]  # 8, 9 and 16 points
    assert await ids(sort="-points") == [csr, half, small]
    assert await ids(sort="kept") == [half, small, csr]

    page = (await client.get("/curves?sort=points&limit=2")).json()
    follow = {"sort": "points", "cursor": page["next_cursor"]}
    assert await ids(**follow) == [csr]
    check_problem(await client.get("/curves", params={**follow, "sort": "lhps"}), 422, "cursor")


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("dtpye=bfloat16", "dtype"),
        ("serach=x", "search"),
        ("dtype=float33", "float32"),
        ("dtype=", "float32"),
        ("workload=linear&steps=3", "batch"),  # a parameter of other kinds
        ("batch=0", "1 to"),
        ("sort=newest", "/docs"),
        ("mode=gird", "grid"),
        ("since=2026", "/docs"),
        ("search=1+2+3+4+5+6+7+8+9", "8 words"),
        (f"search={'x' * 201}", "/docs"),
        ("dtype=float32&dtype=float32", "once"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(
    client: httpx.AsyncClient, query: str, hint: str
) -> None:
    check_problem(await client.get(f"/curves?{query}"), 422, hint)


async def test_curves_of_a_kind_that_is_gone_are_still_found(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    gone = Workload(kind="gone", params=(("flavour", "sweet"),), axes=("size",))
    line = Grid(axes=(GridAxis(first=3, count=8),))
    curve_id = keep_curve(sqlite_worker.store, line, stairs(4), workload=gone)
    for query, found in (
        *(("workload=gone", 1), ("workload=gone&flavour=sweet", 1), ("search=sweet", 1)),
        ("workload=gone&flavour=sour", 0),
    ):
        items = (await client.get(f"/curves?{query}")).json()["items"]
        assert [item["id"] for item in items] == [curve_id] * found
    check_problem(await client.get("/curves?workload=gonne"), 404)
