"""What holds for every route: HEAD, unknown parameters, proxies that strip a prefix."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import profiler_service
from profiler_service.app import create_app
from profiler_service.settings import Settings
from profiler_service.wire import CurveDetail, LhpAnswer
from tests.api.conftest import Worker, check_problem, keep_curve
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

LISTS = ("/sweeps", "/curves", "/hosts", "/platforms", "/workloads", "/problems")


@pytest.mark.parametrize("path", [*LISTS, "/healthz", "/readyz"])
async def test_parameters_that_a_route_does_not_have_are_refused(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path, params={"dtypo": "bfloat16"})
    check_problem(response, 422)
    assert "dtypo" in response.json()["detail"]
    # One that it has, given twice, would leave open which of them counts.
    twice = await client.get(f"{path}?limit=1&limit=2")
    check_problem(twice, 422)


async def test_single_things_refuse_unknown_parameters_too(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(1, 20), stairs(8))
    check_problem(await client.get(f"/curves/{curve_id}?fromat=csv"), 422, "format")
    assert (await client.get(f"/curves/{curve_id}?format=csv")).status_code == 200


@pytest.mark.parametrize("path", [*LISTS, "/healthz", "/openapi.json", "/docs", "/lhp?dims=5,6"])
async def test_head_answers_as_get_does_without_the_body(
    client: httpx.AsyncClient, sqlite_worker: Worker, path: str
) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    headers = {"X-Request-Id": "same"}
    whole, head = await client.get(path, headers=headers), await client.head(path, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == whole.headers
    assert int(head.headers["content-length"]) == len(whole.content) > 0


async def test_head_of_what_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/hosts/nobody"):
        response = await client.head(path)
        assert (response.status_code, response.content) == (404, b"")


async def test_head_of_an_endless_stream_ends(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    asking = asyncio.create_task(client.get("/lhp?dims=5,6"))
    sweep = await sqlite_worker.take(asking)
    async with asyncio.timeout(20):
        response = await client.head(f"/sweeps/{sweep.id}/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    sqlite_worker.finish(sweep, stairs(8))
    await asking


async def test_behind_a_proxy_that_strips_a_prefix(
    settings: Settings, sqlite_worker: Worker
) -> None:
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    # As a server that knows its root path hands requests over.
    transport = httpx.ASGITransport(app, root_path="/tools/lhp")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://proxy/tools/lhp/") as client,
    ):
        docs = (await client.get("docs")).text
        described = (await client.get("openapi.json")).json()
        assert described["servers"] == [{"url": "/tools/lhp"}]
        # What the page loads lies under the prefix, and is there.
        assert "/tools/lhp/openapi.json" in docs
        loaded = re.findall(r'(?:src|href)="([^"]+)"', docs)
        assert len(loaded) >= 2
        for path in loaded:
            assert path.startswith("/tools/lhp/"), path
            assert (await client.get(f"http://proxy{path}")).status_code == 200
        # A client resolves the address of its sweep.
        accepted = await client.get("lhp", params={"dims": "5,6", "wait": 0})
        sweep = await sqlite_worker.take()
        where = accepted.url.join(accepted.headers["location"])
        assert where == f"http://proxy/tools/lhp/sweeps/{sweep.id}"
        assert (await client.get(where)).json()["id"] == sweep.id


@pytest.mark.parametrize(
    ("method", "path", "to"),
    [
        ("GET", "lhp/?dims=5,6", "lhp?dims=5,6"),
        ("HEAD", "lhp/?dims=5,6", "lhp?dims=5,6"),
        ("POST", "sweeps/", "sweeps"),
        ("GET", "workloads/linear/", "workloads/linear"),
        ("GET", "static-offline-docs", "static-offline-docs/"),
    ],
)
async def test_an_address_with_a_slash_too_many_leads_to_the_right_one(
    client: httpx.AsyncClient, method: str, path: str, to: str
) -> None:
    response = await client.request(method, f"/{path}")
    assert response.status_code == 307
    # Also behind a proxy that serves it under a scheme, name and path that it knows nothing of.
    asked = httpx.URL(f"https://proxy/tools/lhp/{path}")
    assert asked.join(response.headers["location"]) == f"https://proxy/tools/lhp/{to}"


async def test_what_errors_point_to_is_there(client: httpx.AsyncClient) -> None:
    root = Path(profiler_service.__file__).parent
    pointed_to = {
        path
        for module in root.rglob("*.py")
        for path in re.findall(r'\bsee="(/[^"]*)"', module.read_text())
    }
    assert {"/docs", "/hosts", "/sweeps"} <= pointed_to
    for path in pointed_to:
        assert (await client.get(path)).status_code == 200, path


def test_clients_ignore_what_a_newer_service_adds(sqlite_worker: Worker) -> None:
    keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    answer: dict[str, Any] = {
        "dims": [5],
        "lhp": [8],
        "is_lhp": False,
        "grow_by": [3],
        "latency_s": 2.0,
        "lhp_latency_s": 1.0,
        "speedup": 2.0,
        "speedup_interval": [1.9, 2.1],
        "verdict": "faster",
        "prefer": "fastest",
        "workload": "matmul",
        "platform": "p",
        "host": "h",
        "curve": "c",
        "measured_at": "2026-01-01T00:00:00Z",
        "num_samples": 9,
        "stale": False,
        "evidence": {"calls": 3, "joules": 7},
        "luck": True,
    }
    parsed = LhpAnswer.model_validate(answer)
    assert parsed.evidence.calls == 3
    assert not hasattr(parsed, "luck")
    fields = CurveDetail.model_json_schema()["$defs"]
    assert all("additionalProperties" not in each for each in fields.values())
