"""What web pages can make a browser send: other names of this machine, requests from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from profiler_service.app import create_app
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, check_problem, keep_curve
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

OWN = "127.0.0.1:8000"
AXES = {"axes": [{"first": 1, "last": 9}] * 2}


@pytest.fixture
async def browser(anyio_backend: str, sqlite_worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service at OWN, which is also called tools.example and *.lab.example."""
    settings = Settings(
        database_url="sqlite:///unused",
        host=HOST,
        allowed_hosts="tools.example, *.lab.example",
    )
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url=f"http://{OWN}",
            timeout=60,
        ) as client,
    ):
        yield client


# Host


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost:1", "localhost.:8000", "x.localhost"),
        *("127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]:8000"),
        *("tools.example", "tools.example:443", "TOOLS.example.", "a.lab.example"),
    ],
)
async def test_a_service_answers_to_its_own_names_at_any_port(
    browser: httpx.AsyncClient, host: str
) -> None:
    assert (await browser.get("/healthz", headers={"host": host})).status_code == 200


FOREIGN_HOSTS = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("notlocalhost", "lab.example", "evil.example:80:80", "6.6.6.6", "[::2]", "0.0.0.0:8000"),
    *("localhost@evil.example", "evil.example/localhost", "", " ", "localhost#", "a" * 5000),
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_name_that_is_not_the_services_is_refused(
    browser: httpx.AsyncClient, host: str
) -> None:
    response = await browser.get("/healthz", headers={"host": host})
    check_problem(response, 421, "LHP_ALLOWED_HOSTS")
    assert response.json()["type"] == "/problems/foreign-host"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "TRACE"])
@pytest.mark.parametrize("path", ["/lhp?dims=5,6", "/sweeps", "/docs", "/openapi.json", "/nowhere"])
async def test_a_foreign_name_is_refused_whatever_is_asked(
    browser: httpx.AsyncClient, sqlite_worker: Worker, method: str, path: str
) -> None:
    response = await browser.request(method, path, headers={"host": "evil.example"})
    assert response.status_code == 421
    assert response.headers["content-type"] == "application/problem+json"
    assert sqlite_worker.handed_in.empty()


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
async def test_a_request_has_one_host(browser: httpx.AsyncClient, hosts: list[str]) -> None:
    request = browser.build_request("GET", "/healthz")
    del request.headers["host"]
    request.headers = httpx.Headers([*request.headers.raw, *((b"host", h.encode()) for h in hosts)])
    response = await browser.send(request)
    check_problem(response, 400)
    assert response.json()["type"] == "/problems/malformed-http"


async def asgi(app: Any, scope: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the application sends in that scope."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_there_are_no_websockets(host: str) -> None:
    app = create_app(Settings(database_url="sqlite:///unused", host=HOST))
    scope = {"type": "websocket", "path": "/sweeps", "headers": [(b"host", host.encode())]}
    assert [each["type"] for each in await asgi(app, scope)] == ["websocket.close"]


# Origin

OF_OTHERS: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "https://evil.example:8000"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
    {"origin": "http://localhost:3000"},  # another program on this machine
    {"origin": "http://localhost:8000"},  # another name is another origin
    {"origin": "http://[::1"},
    {"origin": "file://"},
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": f"http://{OWN}"},
]
OF_ITS_OWN: list[dict[str, str]] = [
    {},  # a program
    {"origin": f"http://{OWN}"},
    {"origin": f"http://{OWN}", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},  # typed into the address bar
    {"origin": "https://tools.example", "sec-fetch-site": "cross-site"},  # listed
    {"origin": "http://a.lab.example:3000"},
    {"host": "tools.example", "origin": "https://tools.example"},
    {"host": "localhost", "origin": "http://localhost:80"},
]


@pytest.mark.parametrize("headers", OF_OTHERS, ids=str)
async def test_a_page_of_another_site_cant_start_or_end_work(
    browser: httpx.AsyncClient, sqlite_worker: Worker, headers: dict[str, str]
) -> None:
    mine = (await browser.post("/sweeps", json=AXES)).json()["id"]
    await sqlite_worker.take()
    for method, path in (
        ("POST", "/sweeps"),
        ("POST", f"/sweeps/{mine}/cancel"),
        ("DELETE", f"/sweeps/{mine}"),  # not there, and still none of a page's business
        ("OPTIONS", "/sweeps"),
        ("GET", "/lhp?dims=500,600&wait=0"),
        ("GET", "/lhp?dims=5,6"),
        ("GET", "/lhp?dims=5,6"),  # kept ready from before
        ("HEAD", "/lhp?dims=500,600&wait=0"),
        ("GET", "/crossover?dims=500,600&wait=0"),
        ("GET", f"/sweeps/{mine}/race"),
        ("GET", f"/sweeps/{mine}/events"),
    ):
        assert (await browser.get("/lhp?dims=5,6")).status_code == 200
        response = await browser.request(method, path, headers=headers)
        assert response.status_code == 403, (method, path)
        if method != "HEAD":
            check_problem(response, 403, "LHP_ALLOWED_HOSTS")
            assert response.json()["type"] == "/problems/foreign-origin"
        assert "access-control-allow-origin" not in response.headers
    assert sqlite_worker.handed_in.empty()
    assert (await browser.get(f"/sweeps/{mine}")).json()["state"] == "queued"


@pytest.mark.parametrize("headers", OF_OTHERS, ids=str)
async def test_a_link_from_another_site_leads_to_what_is_only_read(
    browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for path in ("/docs", "/openapi.json", "/hosts", "/curves", "/sweeps", "/healthz"):
        response = await browser.get(path, headers=headers)
        assert response.status_code == 200, path
        # And no page may read along.
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("headers", OF_ITS_OWN, ids=str)
async def test_its_own_pages_and_programs_start_and_end_work(
    browser: httpx.AsyncClient, sqlite_worker: Worker, headers: dict[str, str]
) -> None:
    made = await browser.post("/sweeps", json=AXES, headers=headers)
    assert made.status_code == 201
    cancelled = await browser.post(f"/sweeps/{made.json()['id']}/cancel", headers=headers)
    assert cancelled.status_code == 200
    assert (await browser.get("/lhp?dims=5,6", headers=headers)).status_code == 200
    asked = await browser.get("/lhp?dims=500,600&wait=0", headers=headers)
    assert asked.status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        # A proxy that hands the name on; one that puts its own; each with an old browser or a new.
        {"host": "tools.example", "origin": "https://tools.example"},
        {
            "host": "tools.example",
            "origin": "https://tools.example",
            "sec-fetch-site": "same-origin",
        },
        {"host": OWN, "origin": "https://tools.example"},
        {"host": OWN, "origin": "https://unlisted.example", "sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
async def test_docs_try_requests_out_through_a_proxy_with_a_prefix(
    sqlite_worker: Worker, headers: dict[str, str]
) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, allowed_hosts="tools.example")
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    transport = httpx.ASGITransport(app, root_path="/tools/lhp")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=f"http://{OWN}/tools/lhp/") as client,
    ):
        assert "/tools/lhp/openapi.json" in (await client.get("docs", headers=headers)).text
        assert (await client.post("sweeps", json=AXES, headers=headers)).status_code == 201
        foreign = {**headers, "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert (await client.post("sweeps", json=AXES, headers=foreign)).status_code == 403


@pytest.mark.parametrize("text", ["http://tools.example", "tools.example:443", "a b", "*", "a/b"])
def test_what_is_no_host_cant_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Settings(allowed_hosts=text)
