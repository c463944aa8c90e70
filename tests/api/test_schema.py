"""What the OpenAPI description says of every route is what the route does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from profiler_service.api.problems import OF_ANY_ADDRESS
from profiler_service.app import create_app
from profiler_service.settings import Settings
from tests.api.conftest import HOST, Worker, check_problem, keep_curve
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

DESCRIBED: dict[str, Any] = create_app(
    Settings(database_url="sqlite:///unused", host=HOST)
).openapi()["paths"]
METHODS = ("get", "post", "put", "patch", "delete")
NEEDED = {
    "/lhp": {"dims": "5,6", "wait": "0"},
    "/crossover": {"dims": "5,6", "wait": "0"},
    "/curves/predicted": {"dims": "5,6"},
}
"""Parameters without which a route refuses everything."""


def parameters() -> Iterator[Any]:
    """Each query parameter: path, name, and the schema of its value."""
    for path, operations in DESCRIBED.items():
        for each in operations.get("get", {}).get("parameters", ()):
            if each["in"] == "query":
                yield pytest.param(path, each["name"], each["schema"], id=f"{path} {each['name']}")


@pytest.fixture
async def ids(sqlite_worker: Worker) -> dict[str, str]:
    """What stands for each parameter in a path."""
    curve = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    [sweep] = sqlite_worker.store.list_sweeps().items
    platform = sqlite_worker.store.get_host(HOST).platform_key
    return {
        "curve_id": curve,
        "sweep_id": sweep.id,
        "fleet_sweep_id": sweep.id,
        "name": HOST,
        "key": platform,
        "token_id": "0" * 32,
        "key_id": "0" * 32,
    }


def fill(path: str, ids: dict[str, str]) -> str:
    """The path with existing things for its parameters."""
    if path.startswith("/workloads/"):
        return "/workloads/linear"
    if path.startswith("/problems/"):
        return "/problems/host-away"
    return re.sub(r"{(\w+)}", lambda found: ids[found[1]], path)


def allows(schema: dict[str, Any], text: str) -> bool:
    """Whether the schema of a query parameter allows this text."""
    if "pattern" in schema and not re.search(schema["pattern"], text):
        return False
    if "anyOf" in schema:
        return any(allows(each, text) for each in schema["anyOf"])
    return (
        schema.get("type") == "string"
        and text in schema.get("enum", [text])
        and schema.get("minLength", 0) <= len(text)
    )


@pytest.mark.parametrize(("path", "name", "schema"), list(parameters()))
async def test_an_empty_value_is_refused_exactly_where_the_schema_forbids_it(
    client: httpx.AsyncClient, ids: dict[str, str], path: str, name: str, schema: dict[str, Any]
) -> None:
    given = {**NEEDED.get(path, {}), name: ""}
    response = await client.get(fill(path, ids), params=given)
    if allows(schema, ""):
        assert response.status_code in (200, 202, 404), response.text
    else:
        check_problem(response, 422)
    assert str(response.status_code) in DESCRIBED[path]["get"]["responses"]


def test_no_parameter_is_said_to_be_null_unless_it_takes_any_text() -> None:
    # In an address, null is the text "null", which is no number and no name of a state.
    for path, operations in DESCRIBED.items():
        for operation in operations.values():
            for each in operation.get("parameters", ()):
                kinds = [kind.get("type") for kind in each["schema"].get("anyOf", ())]
                plain = {"type": "string"} in each["schema"].get("anyOf", ())
                assert "null" not in kinds or plain, (path, each["name"])


@pytest.mark.parametrize("path", ["/sweeps", "/curves"])
async def test_an_empty_cursor_is_the_first_page(
    client: httpx.AsyncClient, ids: dict[str, str], path: str
) -> None:
    first = (await client.get(path)).json()
    assert len(first["items"]) == 1
    assert (await client.get(f"{path}?cursor=")).json() == first
    check_problem(await client.get(f"{path}?cursor=x"), 422, "leave the cursor out")


async def test_a_question_says_how_long_it_may_wait(client: httpx.AsyncClient) -> None:
    longest = Settings().max_wait_s
    for operation in (DESCRIBED["/lhp"]["get"], DESCRIBED["/lhp/batch"]["post"]):
        [wait] = [each for each in operation["parameters"] if each["name"] == "wait"]
        assert wait["schema"]["maximum"] == longest
    check_problem(await client.get(f"/lhp?dims=5,6&wait={longest + 1}"), 422)
    asked = [{"dims": "5,6"}]
    check_problem(await client.post(f"/lhp/batch?wait={longest + 1}", json=asked), 422)


async def test_a_sweep_that_is_no_race_conflicts_with_asking_how_it_went(
    client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    check_problem(await client.get(f"/sweeps/{ids['sweep_id']}/race"), 409, "/curves/")


@pytest.mark.parametrize("path", [*DESCRIBED, "/docs", "/openapi.json", "/static-offline-docs/x"])
async def test_every_address_names_all_its_methods(
    client: httpx.AsyncClient, ids: dict[str, str], path: str
) -> None:
    has = [each.upper() for each in METHODS if each in DESCRIBED.get(path, {"get": None})]
    expected = {*has, *(["HEAD"] if "GET" in has else []), "OPTIONS"}
    asked = await client.options(fill(path, ids))
    assert (asked.status_code, asked.content) == (204, b"")
    assert set(asked.headers["allow"].split(", ")) == expected
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - expected:
        refused = await client.request(method, fill(path, ids))
        assert refused.status_code == 405, method
        assert set(refused.headers["allow"].split(", ")) == expected
        if method != "HEAD":
            check_problem(refused, 405, "use ")


async def test_an_unknown_address_has_no_methods(client: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/lhp/x", "/sweeps/x/y"):
        check_problem(await client.options(path), 404)


def named_types() -> set[str]:
    """Every type of problem that some route is said to answer with."""
    return {
        name
        for operations in DESCRIBED.values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for name in re.findall(r"`/problems/([\w-]+)`", response["description"])
    }


async def test_the_list_of_problems_is_what_routes_answer_with(client: httpx.AsyncClient) -> None:
    listed = {each["type"].rpartition("/")[2] for each in (await client.get("/problems")).json()}
    assert listed == named_types() | {each.problem_name() for each in OF_ANY_ADDRESS}


def test_every_route_says_what_all_may_answer() -> None:
    for path, operations in DESCRIBED.items():
        for operation in operations.values():
            described = {
                status: response["description"]
                for status, response in operation["responses"].items()
            }
            for status, name in (
                *(("401", "unauthenticated"), ("403", "insufficient-scope")),
                *(("429", "too-many-requests"),),
                *(("400", "malformed-http"), ("408", "request-timeout"), ("414", "query-too-long")),
                *(("421", "foreign-host"), ("422", "invalid-request"), ("500", "service-defect")),
                *(("431", "headers-too-large"), ("503", "overloaded"), ("503", "shutting-down")),
            ):
                assert f"`/problems/{name}`" in described[status], (path, name)


@pytest.mark.parametrize("path", ["/lhp?dims=5,6&nope=1", "/crossover?dims=5,6&nope=1"])
async def test_a_question_names_a_parameter_that_it_doesnt_have(
    client: httpx.AsyncClient, path: str
) -> None:
    problem = (await client.get(path)).json()
    assert problem["status"] == 422
    assert "no parameter" in problem["detail"] and "nope" in problem["detail"]
    assert problem["hint"].startswith("its parameters are: ")
    assert "Extra inputs" not in problem["detail"]


async def test_a_field_that_a_body_doesnt_have_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/sweeps", json={"axes": [{"first": 1, "last": 2, "nope": 3}]})
    check_problem(response, 422)
    assert response.json()["detail"] == "there is no field 'axes.0.nope'"
