"""The id of a request: in its response, and in the sweep that it asks for."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import Worker, ask
from tests.api.curves import stairs

pytestmark = pytest.mark.anyio


async def test_every_response_has_the_request_s_id(client: httpx.AsyncClient) -> None:
    for path, status in (("/healthz", 200), ("/nothing", 404), ("/lhp?dims=x", 422)):
        response = await client.get(path, headers={"X-Request-Id": "mine-1"})
        assert (response.status_code, response.headers.get_list("x-request-id")) == (
            status,
            ["mine-1"],
        )


async def test_a_request_without_a_usable_id_gets_a_new_one(client: httpx.AsyncClient) -> None:
    given = [None, "two words", "x" * 129]
    responses = [
        await client.get("/healthz", headers={} if each is None else {"X-Request-Id": each})
        for each in given
    ]
    made = {each.headers["x-request-id"] for each in responses}
    assert len(made) == 3 and not made & set(given)


async def test_a_refused_request_has_its_id_too(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "/healthz", headers={"Host": "elsewhere.example", "X-Request-Id": "mine-2"}
    )
    assert (response.status_code, response.headers["x-request-id"]) == (421, "mine-2")


async def test_a_sweep_keeps_the_id_of_the_request_that_asked_first(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    asked = [
        await both_client.get(
            "/lhp", params={"dims": "5,6", "wait": 0}, headers={"X-Request-Id": name}
        )
        for name in ("first", "second")
    ]
    assert [each.status_code for each in asked] == [202, 202]
    sweep = asked[1].json()
    assert sweep["request_id"] == "first"
    assert (await both_client.get(f"/sweeps/{sweep['id']}")).json()["request_id"] == "first"
    [open_sweep] = worker.store.list_open(sweep["host"])
    assert open_sweep.request_id == "first"


async def test_a_known_answer_has_the_id_of_the_request_that_gets_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    await ask(client, wait=0)
    sqlite_worker.finish(await sqlite_worker.take(), stairs(4))
    first = await ask(client)
    again = [await client.get(str(first.url), headers={"X-Request-Id": n}) for n in ("a", "b")]
    assert [each.status_code for each in (first, *again)] == [200, 200, 200]
    assert [each.headers["x-request-id"] for each in again] == ["a", "b"]
