"""The page that measures a curve."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import HOST, Worker
from tests.dashboard.conftest import follow, read_page

pytestmark = pytest.mark.anyio

ADDRESS = "/ui/sweeps/new"


async def test_the_form_as_it_is_measures_a_curve(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    page = read_page((await client.get(ADDRESS)).text)
    fields = {has["name"]: has["value"] for has in page.find("input") if has.get("type") != "radio"}
    assert fields == {"range": "256:320", "batch": "", "sparsity": ""}
    reply = await client.post(ADDRESS, data={"workload": "matmul", **fields})
    sweep = sqlite_worker.handed_in.get(timeout=10)
    assert reply.status_code == 303
    assert follow(reply.headers["location"], ADDRESS) == f"/ui/sweeps/{sweep.id}"
    assert (sweep.host, sweep.spec.mode) == (HOST, "grid")
    # 256 to 320, both included, are 65 sizes.
    assert (sweep.spec.grid.first, sweep.spec.grid.shape) == ((256,), (65,))
    assert sweep.spec.workload.key == "matmul[backend=dense,batch=16,dtype=float32]"
    assert (await client.get(f"/ui/sweeps/{sweep.id}")).status_code == 200


async def test_each_axis_has_a_range_and_parameters_are_kept(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    page = read_page((await client.get(f"{ADDRESS}?workload=linear")).text)
    assert [has["value"] for has in page.find("input", name="range")] == ["", ""]
    form = {"workload": "linear", "range": [" 8:16:4 ", "5"], "batch": "3", "dtype": "float32"}
    assert (await client.post(ADDRESS, data=form)).status_code == 303
    spec = sqlite_worker.handed_in.get(timeout=10).spec
    assert spec.grid.shape == (3, 1)  # 8, 12, 16; and 5
    assert spec.workload.key == "linear[backend=dense,batch=3,dtype=float32]"


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"range": ""}, 422, "there is no range for size"),
        ({"range": "1,197"}, 422, "'1,197' is no range"),
        ({"range": "-5"}, 422, "'-5' is no range"),
        ({"range": "9:5"}, 422, "is empty"),
        ({"range": "1:99999999999"}, 422, "is larger than 999999999"),
        ({"range": "1:999999999"}, 422, "is outside 1 to 1048576"),
        ({"range": "<img src=x>"}, 422, "'<img src=x>' is no range"),
        ({"batch": "many"}, 422, "batch='many' is not a whole number"),
        ({"host": "nowhere"}, 404, "nowhere"),
    ],
)
async def test_what_cannot_be_measured_is_refused_and_the_form_keeps_its_values(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    changes: dict[str, str],
    status: int,
    says: str,
) -> None:
    form = {"workload": "matmul", "range": "256:320", "backend": "packed", "batch": "7"} | changes
    reply = await client.post(ADDRESS, data=form)
    page = read_page(reply.text)
    assert reply.status_code == status and page.find("section", role="alert")
    assert says in page.text
    assert page.find("input", name="range")[0]["value"] == form["range"]
    assert page.find("input", name="batch")[0]["value"] == form["batch"]
    assert page.find("img", src="x") == []
    assert sqlite_worker.handed_in.empty()


async def test_an_unknown_workload_is_an_error(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    for reply in (
        await client.get(f"{ADDRESS}?workload=nope"),
        await client.post(ADDRESS, data={"workload": "nope", "range": "1:5"}),
    ):
        assert reply.status_code == 404 and "there is no workload" in reply.text
    assert sqlite_worker.handed_in.empty()


async def test_another_site_starts_nothing(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    headers = {"origin": "http://elsewhere.example"}
    reply = await client.post(ADDRESS, data={"range": "256:320"}, headers=headers)
    assert reply.status_code == 403 and sqlite_worker.handed_in.empty()


async def test_lists_lead_to_the_form(client: httpx.AsyncClient) -> None:
    for address in ("/", "/ui/curves", "/ui/sweeps"):
        page = read_page((await client.get(address)).text)
        assert ADDRESS in {follow(has["href"], address) for has in page.find("a")}, address
    empty = read_page((await client.get("/ui/curves")).text)
    assert "No curve yet" in empty.text
    assert "lhp sweep matmul 256:320 --url http://service" in empty.text
    filtered = read_page((await client.get("/ui/curves?workload=linear")).text)
    assert "No curve is like that" in filtered.text
