"""LHP_ALLOWED_ORIGINS: which pages of other sites may use the service, and for what."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, check_problem, keep_curve, serving
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

PAGE = "https://tools.example"
AXES = {"axes": [{"first": 1, "last": 9}] * 2}


def by_page(origin: str = PAGE, **headers: str) -> dict[str, str]:
    """What a browser sends for a page of that origin."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"origin": origin, "sec-fetch-site": "cross-site", **named}


def before(method: str, origin: str = PAGE) -> dict[str, str]:
    """What a browser asks before it sends such a request with a token."""
    return by_page(
        origin,
        access_control_request_method=method,
        access_control_request_headers="authorization,if-none-match",
    )


async def serve(worker: Worker, allowed: str) -> AsyncIterator[httpx.AsyncClient]:
    keep_curve(worker.store, square(1, 48), stairs(8))
    settings = Settings(database_url="sqlite:///unused", host=HOST, allowed_origins=allowed)
    async with serving(settings, worker) as client:
        yield client


@pytest.fixture
async def listed(anyio_backend: str, sqlite_worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that pages of PAGE and of one port of this machine may use."""
    async for client in serve(sqlite_worker, f"{PAGE}:443/, HTTP://localhost:3000"):
        yield client


@pytest.fixture
async def open_to_all(
    anyio_backend: str, sqlite_worker: Worker
) -> AsyncIterator[httpx.AsyncClient]:
    async for client in serve(sqlite_worker, "*"):
        yield client


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
async def test_a_listed_page_reads_asks_and_starts_work(
    listed: httpx.AsyncClient, sqlite_worker: Worker, origin: str
) -> None:
    for response in (
        await listed.get("/curves", headers=by_page(origin)),
        await listed.get("/lhp?dims=5,6", headers=by_page(origin)),
        await listed.get("/lhp?dims=5,6", headers=by_page(origin)),  # kept ready
        await listed.post("/sweeps", json=AXES, headers=by_page(origin)),
        await listed.get("/nowhere", headers=by_page(origin)),
    ):
        assert response.status_code in (200, 201, 404), response.text
        assert response.headers["access-control-allow-origin"] == origin
        assert "Origin" in response.headers["vary"]
        assert {"etag", "location", "retry-after"} <= set(
            response.headers["access-control-expose-headers"].lower().split(", ")
        )
        assert "access-control-allow-credentials" not in response.headers
    assert sqlite_worker.handed_in.qsize() == 1


async def test_a_browser_asks_without_a_token_what_it_may_send_with_one(
    sqlite_worker: Worker,
) -> None:
    _, token = sqlite_worker.store.create_token("p", [Scope.READ], lifetime_s=None, by=Caller())
    async for client in serve(sqlite_worker, PAGE):
        for method in ("GET", "POST", "DELETE"):
            response = await client.options("/sweeps", headers=before(method))
            assert response.status_code == 200
            assert response.headers["access-control-allow-origin"] == PAGE
            assert method in response.headers["access-control-allow-methods"]
            assert "authorization" in response.headers["access-control-allow-headers"].lower()
        # The preflight tells a page nothing: what it asks for needs the token.
        refused = await client.get("/curves", headers=by_page())
        check_problem(refused, 401)
        assert refused.headers["access-control-allow-origin"] == PAGE  # so the page can say why
        read = await client.get("/curves", headers=by_page(authorization=f"Bearer {token}"))
        assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, PAGE)


OTHERS = ["https://evil.example", "http://tools.example", "https://tools.example:8443", "null"]


@pytest.mark.parametrize("origin", [*OTHERS, "https://a.tools.example"])
async def test_what_is_not_listed_stays_out(
    listed: httpx.AsyncClient, sqlite_worker: Worker, origin: str
) -> None:
    for response in (
        await listed.options("/curves", headers=before("GET", origin)),
        await listed.post("/sweeps", json=AXES, headers=by_page(origin)),
        await listed.get("/lhp?dims=500,600&wait=0", headers=by_page(origin)),
    ):
        check_problem(response, 403, "LHP_ALLOWED_ORIGINS")
        assert "access-control-allow-origin" not in response.headers
    # A link may lead here, and the page that has it can't read along.
    followed = await listed.get("/curves", headers=by_page(origin))
    assert followed.status_code == 200
    assert "access-control-allow-origin" not in followed.headers
    assert sqlite_worker.handed_in.empty()


async def test_an_unusual_preflight_of_a_listed_page_is_a_problem(
    listed: httpx.AsyncClient,
) -> None:
    check_problem(await listed.options("/curves", headers=before("BREW")), 403)
    odd = {**before("GET"), "access-control-request-headers": "x-forwarded-for"}
    check_problem(await listed.options("/curves", headers=odd), 403)
    # OPTIONS itself still names the methods.
    asked = await listed.options("/curves", headers=by_page())
    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("origin", [PAGE, *OTHERS])
async def test_with_an_asterisk_every_page_reads_and_none_starts_work(
    open_to_all: httpx.AsyncClient, sqlite_worker: Worker, origin: str
) -> None:
    may = await open_to_all.options("/curves", headers=before("GET", origin))
    read = await open_to_all.get("/curves", headers=by_page(origin))
    for response in (may, read):
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers
    for response in (
        await open_to_all.options("/sweeps", headers=before("POST", origin)),
        await open_to_all.post("/sweeps", json=AXES, headers=by_page(origin)),
        await open_to_all.get("/lhp?dims=500,600&wait=0", headers=by_page(origin)),
    ):
        check_problem(response, 403)
    assert sqlite_worker.handed_in.empty()


async def test_a_foreign_name_is_refused_in_spite_of_the_origin(listed: httpx.AsyncClient) -> None:
    # DNS rebinding: the page's own name means this machine.
    response = await listed.get("/curves", headers=by_page(host="tools.example"))
    check_problem(response, 421)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "text",
    [
        *("tools.example", "https://", "https://tools.example/page", "ftp://tools.example"),
        *("https://*.example", "null", "https://a b", "*,https://tools.example"),
    ],
)
def test_what_is_no_origin_cant_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no origin|every origin"):
        Settings(allowed_origins=text)


def test_origins_are_kept_as_browsers_send_them() -> None:
    given = " HTTPS://Tools.example:443/ ,http://[::1]:8888,http://here:80,https://here:80"
    kept = "https://tools.example,http://[::1]:8888,http://here,https://here:80"
    assert Settings(allowed_origins=given).allowed_origins == kept
