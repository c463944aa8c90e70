"""Pages while the database is away, and when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from profiler_service.answering import database_watch
from tests.api.conftest import Worker, keep_curve
from tests.api.curves import square, stairs
from tests.dashboard.conftest import read_page

pytestmark = pytest.mark.anyio

PART = {"hx-request": "true"}


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


async def wait_until_noticed(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """What pages are told of the database, once it has that status."""
    async with asyncio.timeout(2 * database_watch.CHECK_S + 2):
        while (told := await client.get("/ui/database")).status_code != status:
            await asyncio.sleep(0.02)
    return told


async def test_a_known_answer_is_shown_under_a_banner(
    client: httpx.AsyncClient, sqlite_worker: Worker, path: Path
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    answered = "/?workload=linear&dims=5,6"
    usual = await client.get(answered)
    assert "Use 8 × 8" in usual.text and "is away" not in usual.text
    away = path.rename(path.with_name("elsewhere"))
    told = await wait_until_noticed(client, 200)
    assert "The database is away" in told.text
    shown = await client.get(answered)
    assert shown.status_code == 200
    assert "Use 8 × 8" in shown.text
    [status] = read_page(shown.text).find("div", id="away")
    assert status["role"] == "status" and "The database is away" in shown.text
    away.rename(path)
    await wait_until_noticed(client, 204)
    assert "is away" not in (await client.get(answered)).text


@pytest.mark.parametrize("address", ["/ui/sweeps", "/ui/hosts", "/?workload=linear&dims=500,600"])
async def test_a_page_that_needs_the_database_says_that_it_looks_again(
    client: httpx.AsyncClient, sqlite_worker: Worker, path: Path, address: str
) -> None:
    away = path.rename(path.with_name("elsewhere"))
    await wait_until_noticed(client, 200)
    if "dims" in address:  # asked for by the form's button
        refused = await client.post(address.replace("/", "/ui/ask", 1))
    else:
        refused = await client.get(address)
    assert refused.status_code == 503
    page = read_page(refused.text)
    [alert] = page.find("section", role="alert")
    assert "data-passes" in alert and "reload it" in page.text
    away.rename(path)
    await wait_until_noticed(client, 204)
    assert (await client.get(address)).status_code == 200


async def test_a_part_that_cant_be_renewed_leaves_what_was_there(
    client: httpx.AsyncClient, path: Path
) -> None:
    assert "hx-reswap" not in (await client.get("/ui/sweeps", headers=PART)).headers
    path.rename(path.with_name("elsewhere"))
    reply = await client.get("/ui/sweeps", headers=PART)
    assert (reply.status_code, reply.headers["hx-reswap"]) == (503, "none")
    # What isn't there at all is said in its place.
    missing = await client.get("/ui/curves/" + "0" * 32 + "/elsewhere", headers=PART)
    assert missing.status_code == 404 and "hx-reswap" not in missing.headers


async def test_a_script_gets_problems_as_data(client: httpx.AsyncClient) -> None:
    address = "/ui/curves/" + "0" * 32 + "/figure"
    reply = await client.get(address, headers={"accept": "application/json"})
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == "/problems/unknown-curve"
    assert "<section" in (await client.get(address)).text
