"""Sweeps of a user's own code: what is no such sweep, no batch, or not allowed is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from tests.api.conftest import Worker, check_problem, serving
from tests.api.test_own_sweeps import GIVEN, GRID, batch_body, begin, body_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"workload": "linear"}, "workload"),
        ({"host": "here"}, "host"),
        ({"machine": ""}, "machine"),
        ({"machine": " \x1b[31m"}, "name of a host"),
        ({"surprise": 1}, "surprise"),
        ({"mode": "kernels"}, "mode"),
        ({"axes": [{"first": 1, "last": 9000}]}, "at most 8,192"),
        ({"axes": [{"first": 1, "last": 2}] * 2}, "1 axis (hidden), but 2 dims"),
        ({"axes": [{"first": 9, "last": 8}]}, "empty"),
        ({"axes": [{"first": 1, "last": 1 << 40}]}, ""),
        ({"params": {"function": "os:system"}}, "source"),
        ({"params": {**GIVEN, "function": "rm -rf"}}, "doesn't name a function"),
        ({"params": {**GIVEN, "layers": "many"}}, "whole number"),
        ({"margin": "2%"}, "margin"),
        ({"seed": -1}, "seed"),
        ({"budget": 0}, "budget"),
        ({"protocol": {"timer": "x-y", "cache": "warm", "version": 1}}, "timer"),
        ({"protocol": {"timer": "perf_counter", "cache": "cold", "version": 1}}, "cache"),
    ],
)
async def test_what_is_no_such_sweep_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], says: str
) -> None:
    response = await client.post("/own-sweeps", json=body_of(GRID, **changes))
    check_problem(response, 422)
    assert says in response.text
    assert (await client.get("/sweeps")).json()["items"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "tpu"},
        {"device_model": "x" * 201},
        {"device_model": ""},
        {"threads": 0},
        {"memory_bytes": -1},
        {"flags": {f"flag{number}": "on" for number in range(257)}},
        {"libraries": {"blas": "1" * 501}},
        {"more": "fields"},
    ],
)
async def test_what_is_no_platform_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    body = body_of(GRID)
    body["platform"] |= changes
    check_problem(await client.post("/own-sweeps", json=body), 422)


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"latency_s": [1e-3, 0.0]}, 422, "latency_s"),
        ({"latency_s": [1e-3, -1e-3]}, 422, "latency_s"),
        ({"latency_s": [1e-3, "NaN"]}, 422, "latency_s"),
        ({"latency_s": [1e-3, "inf"]}, 422, "latency_s"),
        ({"latency_s": [1e-3, 1e-13]}, 422, "latency_s"),  # 0.1 ps
        ({"latency_s": [1e-3]}, 422, "have 1, 2 items"),
        ({"lost_s": [0.0]}, 422, "have 1, 2 items"),
        ({"point": [2, 5]}, 422, "outside the grid of 5 points"),
        ({"point": [2, -1]}, 422, "point"),
        ({"failures": [{"point": 5, "reason": "large"}]}, 422, "outside the grid"),
        # Else it could be of any round, and the service would make a table of 2^31 rounds.
        ({"failures": [{"point": 2, "reason": "large"}]}, 422, "point 2 has failed, and has"),
        ({"failures": [{"point": 2, "reason": "x" * 501}]}, 422, "reason"),
        ({"calls": 0}, 422, "calls"),
        ({"seconds": 1e9}, 422, "seconds"),
        ({"fraction": 1.5}, 422, "fraction"),
        ({"stage": "x" * 101}, 422, "stage"),
        ({"number": 1}, 409, "batch 1 of sweep"),
        ({"number": 200_000}, 422, "at most 100,000"),
        ({"more": "fields"}, 422, "more"),
    ],
)
async def test_what_is_no_batch_is_refused(
    client: httpx.AsyncClient,
    sqlite_store: Store,
    changes: dict[str, Any],
    status: int,
    says: str,
) -> None:
    sweep_id = await begin(client)
    body = batch_body()
    assert len(body["point"]) == 2  # the first batch calibrates
    response = await client.post(f"/own-sweeps/{sweep_id}/batches", json={**body, **changes})
    check_problem(response, status)
    assert says in response.text
    assert sqlite_store.load_batches(sweep_id) == []


@pytest.fixture
async def guarded(
    anyio_backend: str, settings: Settings, sqlite_worker: Worker
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    """A client of a service that has a token of each scope, and these tokens."""
    tokens = {}
    for scope in Scope:
        _, text = sqlite_worker.store.create_token(
            scope.value, [scope], lifetime_s=3600, by=Caller()
        )
        tokens[scope.value] = text
    async with serving(settings, sqlite_worker) as client:
        yield client, tokens


@pytest.mark.parametrize(
    ("scope", "status"), [("read", 403), ("measure", 403), ("host", 201), ("admin", 201)]
)
async def test_it_needs_the_scope_of_a_host(
    guarded: tuple[httpx.AsyncClient, dict[str, str]], scope: str, status: int
) -> None:
    client, tokens = guarded
    headers = {"authorization": f"Bearer {tokens[scope]}"}
    response = await client.post("/own-sweeps", json=body_of(GRID), headers=headers)
    assert response.status_code == status
    assert (await client.post("/own-sweeps", json=body_of(GRID))).status_code == 401
    # Whoever may read is told what to do, not that measuring isn't allowed.
    asked = {**GIVEN, "workload": "callable", "dims": 100}
    assert (await client.get("/lhp", params=asked, headers=headers)).status_code == 422
