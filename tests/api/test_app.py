from __future__ import annotations

import asyncio
import gc
import re
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from profiler_service.app import create_app
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Store
from profiler_service.wire import EvidenceInfo, LhpAnswer, Problem, SweepInfo
from tests.api.conftest import HOST, Worker, check_problem, keep_curve
from tests.api.curves import square, stairs
from tests.api.test_sweeps import parse_events
from tests.applications import forget_applications

NO_TORCH = """
import sys
from profiler_service.app import create_app
from profiler_service.settings import Settings
import asyncio, httpx
from profiler_service import jobs
settings = Settings(database_url=sys.argv[1], host="here")
jobs.upgrade(settings)
async def main():
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert (await client.get("/lhp?dims=5,6")).status_code == 200
            # Measured on demand: handed to the real job engine, which nobody serves.
            assert (await client.get("/lhp?dims=500,600&wait=0")).status_code == 202
            assert (await client.get("/sweeps")).status_code == 200
asyncio.run(main())
print(sorted(name for name in ("torch", "profiler_service.measurement") if name in sys.modules))
"""


def test_the_service_never_imports_torch_nor_measures(sqlite_url: str) -> None:
    store = Store.open(sqlite_url)
    keep_curve(store, square(1, 48), stairs(8))
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, sqlite_url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.fixture
def address(settings: Settings, sqlite_worker: Worker) -> Iterator[str]:
    """Address of a real server."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # from here on, connections wait until the server takes them
    app = create_app(settings, store=sqlite_worker.store, enqueue=sqlite_worker.enqueue)
    server = uvicorn.Server(
        uvicorn.Config(app, loop="uvloop", http="httptools", ws="none", log_level="warning")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


def test_over_a_real_connection(address: str, sqlite_worker: Worker) -> None:
    with httpx.Client(base_url=address, timeout=30) as client:
        keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
        answers = [client.get("/lhp?dims=5,6") for _ in range(3)]
        assert [LhpAnswer.model_validate_json(a.content).lhp for a in answers] == [[8, 8]] * 3
        check_problem(client.get("/lhp?dims=" + "1," * 20_000), 414)
        endless = iter([b" " * 65536] * 64)
        response = client.post(
            "/sweeps", content=endless, headers={"content-type": "application/json"}
        )
        check_problem(response, 413)


def test_events_come_live(address: str, sqlite_worker: Worker) -> None:
    with httpx.Client(base_url=address, timeout=30) as client:
        axes = [{"first": 1, "last": 9}] * 2
        location = client.post("/sweeps", json={"axes": axes}).headers["location"]
        sweep = sqlite_worker.handed_in.get(timeout=20)
        states = []
        with client.stream("GET", f"{location}/events") as response:
            text = ""
            for chunk in response.iter_text():
                text += chunk
                while "\n\n" in text:
                    block, text = text.split("\n\n", 1)
                    for event, info in parse_events(block):
                        states.append((event, info.state))
                        # Each step is taken only once the one before was heard of.
                        if info.state == "queued":
                            sqlite_worker.store.start_sweep(sweep.id)
                        elif info.state == "running":
                            sqlite_worker.store.finish_sweep(
                                sweep.id, None, state=SweepState.CANCELLED
                            )
        assert states == [("progress", "queued"), ("progress", "running"), ("end", "cancelled")]


def test_a_client_that_goes_away_leaves_the_sweep(address: str, sqlite_worker: Worker) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /lhp?dims=5,6 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sweep = sqlite_worker.handed_in.get(timeout=20)
    sqlite_worker.finish(sweep, stairs(8))
    assert httpx.get(f"{address}/lhp?dims=5,6", timeout=30).json()["lhp"] == [8, 8]
    assert len(sqlite_worker.store.list_sweeps().items) == 1


# OpenAPI


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    settings = Settings(database_url="sqlite:///unused", host=HOST)
    return create_app(settings).openapi()


def references(value: object) -> Iterator[str]:
    """Every $ref within."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    found = set(references(schema))
    assert "#/components/schemas/LhpAnswer" in found
    for reference in found:
        target: Any = schema
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_everything_is_described(schema: dict[str, Any]) -> None:
    operations = [(p, m, o) for p, ms in schema["paths"].items() for m, o in ms.items()]
    assert len(operations) >= 35
    tags = {tag["name"] for tag in schema["tags"]}
    for path, method, operation in operations:
        assert operation["summary"] and operation["description"], path
        assert set(operation["tags"]) <= tags and operation["tags"], path
        # What holds for every route: unknown parameters, long query strings, long bodies.
        assert {"414", "422"} <= set(operation["responses"]), path
        assert ("413" in operation["responses"]) == (method in ("post", "patch")), path
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }, (path, method, status)


def test_the_query_is_described(schema: dict[str, Any]) -> None:
    operation = schema["paths"]["/lhp"]["get"]
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == [
        *("dims", "workload", "max_growth", "multiple_of", "host", "platform", "label", "vary"),
        *("batch", "dtype", "backend", "basis", "unproven", "prefer", "slack", "effort", "wait"),
        *("budget", "margin", "settle", "max_age", "platforms"),
    ]
    assert all(parameter["description"] for parameter in operation["parameters"])
    assert set(operation["responses"]) == {
        *(
            "200",
            "202",
            "400",
            "401",
            "403",
            "404",
            "408",
            "409",
            "414",
            "421",
            "422",
            "429",
            "431",
        ),
        *("500", "503"),
    }
    assert set(operation["responses"]["202"]["headers"]) == {"Location", "Retry-After"}


def test_where_sweeps_are_is_described(schema: dict[str, Any]) -> None:
    for path, method, status in (
        ("/lhp", "get", "202"),
        ("/crossover", "get", "202"),
        ("/sweeps", "post", "201"),
        ("/sweeps", "post", "200"),
    ):
        response = schema["paths"][path][method]["responses"][status]
        assert "Location" in response["headers"], (path, status)


def test_what_measuring_took_is_described_field_by_field(schema: dict[str, Any]) -> None:
    fields = schema["components"]["schemas"]["EvidenceInfo"]["properties"]
    assert set(fields) == set(EvidenceInfo.model_fields)
    # What is counted is a whole number. What a mode doesn't have is left out: nothing is null.
    assert (fields["calls"]["type"], fields["seconds"]["type"]) == ("integer", "number")
    assert EvidenceInfo(calls=3).model_dump() == {"calls": 3}


words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["5,6", "5", "0", "8,8", "1e9", "NaN", "-1", "true", "grid", "linear", "\x00"]),
    st.integers().map(str),
    st.floats().map(str),
)
names = st.one_of(
    st.sampled_from(
        ["dims", "workload", "prefer", "max_growth", "host", "platform", "batch", "dtype", "x"]
    ),
    st.text(max_size=5),
)


@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(query=st.lists(st.tuples(names, words), max_size=4), start=st.sampled_from(["", "5,6"]))
def test_whatever_is_asked_gets_a_documented_answer(
    fuzzed: httpx.Client, query: list[tuple[str, str]], start: str
) -> None:
    given_dims = [("dims", start)] if start else []
    params: Any = [*given_dims, *query, ("wait", "0")]
    response = fuzzed.get("/lhp", params=params)
    if response.status_code == 200:
        LhpAnswer.model_validate_json(response.content)
    elif response.status_code == 202:
        SweepInfo.model_validate_json(response.content)
    else:
        assert response.status_code in (404, 409, 422), response.text
        assert Problem.model_validate_json(response.content).hint


@pytest.fixture
def fuzzed(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_needs_nothing_from_elsewhere(address: str, path: str) -> None:
    page = httpx.get(f"{address}{path}").text
    needed = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']([^\"']+)", page)
    assert any(each.endswith(".js") for each in needed)
    for each in needed:
        response = httpx.get(f"{address}{each}")
        assert each.startswith("/") and response.status_code == 200 and response.content, each


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_description_is_served(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 200


def test_the_store_that_it_opens_is_closed(sqlite_url: str) -> None:
    # Warnings are errors: a connection left open would be one.
    app = create_app(Settings(database_url=sqlite_url, host=HOST), enqueue=lambda sweep: None)
    transport = httpx.ASGITransport(app)

    async def once() -> int:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            return (await client.get("/readyz")).status_code

    assert asyncio.run(once()) == 200


def test_an_application_that_a_test_has_ended_with_gives_its_memory_back() -> None:
    """The fixture `applications` does so; with thousands of them, each collection took seconds."""
    app = weakref.ref(create_app(Settings(database_url="sqlite:///unused", host=HOST)))
    forget_applications()
    gc.collect()
    assert app() is None
