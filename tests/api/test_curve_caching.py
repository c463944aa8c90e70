"""Curves never change, so whoever has one isn't sent it again. They are compressed on their way."""

from __future__ import annotations

import dataclasses
import gzip

import httpx
import pytest
import sqlalchemy as sa

from profiler_service.api.revalidation import has_already, make_etag
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio

FORMATS = ("json", "csv", "arrow", "parquet")


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_curve_that_the_client_has_is_not_read_again(
    client: httpx.AsyncClient, sqlite_worker: Worker, sqlite_url: str, format_: str
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))
    path = f"/curves/{curve_id}?format={format_}"
    first = await client.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM curve_arrays"))  # the points can't be read now
    engine.dispose()
    for sent in (etag, f'"another", {etag}', etag.removeprefix("W/"), "*"):
        again = await client.get(path, headers={"if-none-match": sent})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert again.headers["vary"].startswith(first.headers["vary"])
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert (await client.head(path, headers={"if-none-match": sent})).status_code == 304
    check_problem(await client.get(path, headers={"if-none-match": '"another"'}), 404)
    check_problem(await client.get("/curves/nothing", headers={"if-none-match": "*"}), 404)


async def test_each_curve_and_format_has_an_etag_of_its_own(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    ids = [keep_curve(sqlite_worker.store, square(3, last), stairs(4)) for last in (5, 6)]
    etags = [
        (await client.get(f"/curves/{each}?format={format_}")).headers["etag"]
        for each in ids
        for format_ in FORMATS
    ]
    assert len(set(etags)) == 8
    by_accept = await client.get(f"/curves/{ids[0]}", headers={"accept": "text/csv"})
    assert by_accept.headers["etag"] == etags[1]


async def test_json_says_when_the_curve_has_become_stale(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))

    async def get(format_: str, etag: str = "") -> httpx.Response:
        headers = {"if-none-match": etag}
        return await client.get(f"/curves/{curve_id}?format={format_}", headers=headers)

    fresh = {each: (await get(each)).headers["etag"] for each in FORMATS}
    changed = dataclasses.replace(PLATFORM, driver="newer")
    sqlite_worker.store.register_host(HOST, changed, protocol=PROTOCOL, dtypes=DTYPES)
    # The rows are what they were; only JSON has the header that says `stale`.
    assert (await get("csv", fresh["csv"])).status_code == 304
    assert (await get("arrow", fresh["arrow"])).status_code == 304
    now = await get("json", fresh["json"])
    assert (now.status_code, now.json()["stale"]) == (200, True)
    assert (await get("json", now.headers["etag"])).status_code == 304


def test_etags_are_compared_whether_weak_or_strong() -> None:
    etag = make_etag("v1", "c7", "json", False)
    assert etag == make_etag("v1", "c7", "json", False) != make_etag("v1", "c7", "json", True)
    assert make_etag("a", "b") != make_etag("ab", "")
    assert not has_already("", etag)
    assert not has_already('"x", W/"y"', etag)
    assert has_already(f'"x",{etag} ', etag)


async def test_a_client_that_can_read_it_gets_it_compressed(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    grid = Grid(axes=(GridAxis(first=1, count=5000),))
    curve_id = keep_curve(sqlite_worker.store, grid, stairs(8), workload=MATMUL.describe())
    for format_ in ("json", "csv", "arrow"):  # Parquet is compact already
        path = f"/curves/{curve_id}?format={format_}"
        plain = await client.get(path, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        request = client.build_request("GET", path, headers={"accept-encoding": "br, gzip"})
        packed = await client.send(request, stream=True)
        body = b"".join([part async for part in packed.aiter_raw()])
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == plain.content
        assert len(body) < 0.6 * len(plain.content)
        assert packed.headers["etag"] == plain.headers["etag"]


async def test_a_page_of_curves_is_compressed_once_it_is_long(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    headers = {"accept-encoding": "gzip"}
    for last in range(5, 15):  # a curve takes about a kilobyte in the list
        keep_curve(sqlite_worker.store, square(3, last), stairs(4))
    short = await client.get("/curves?limit=1", headers=headers)
    long = await client.get("/curves", headers=headers)
    assert "content-encoding" not in short.headers
    assert long.headers["content-encoding"] == "gzip"
    assert len(long.json()["items"]) == 10


async def test_fewer_points_are_another_content(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    grid = Grid(axes=(GridAxis(first=1, count=3000),))
    curve_id = keep_curve(
        sqlite_worker.store, grid, stairs(32), workload=MATMUL.describe(), failing=[(7,)]
    )
    whole = await client.get(f"/curves/{curve_id}")
    fewer = await client.get(f"/curves/{curve_id}?max_points=500")
    assert whole.headers["etag"] != fewer.headers["etag"]
    detail = fewer.json()
    shown = [size for (size,) in detail["points"]["dims"]]
    assert 200 < len(shown) <= 500
    assert detail["num_left_out"] == 2999 - len(shown)
    assert (whole.json()["num_left_out"], detail["num_measured"]) == (0, 2999)
    # Everything else is whole.
    for name in ("lhps", "bins", "failures"):
        assert detail[name] == whole.json()[name]
    assert {size for (size,) in detail["lhps"]} <= set(shown)
    csv = await client.get(f"/curves/{curve_id}?max_points=500&format=csv")
    assert [int(row.split(",")[0]) for row in csv.text.splitlines()[1:]] == shown
    check_problem(await client.get(f"/curves/{curve_id}?max_points=9"), 422)
