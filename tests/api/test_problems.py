from __future__ import annotations

import inspect

import httpx
import pytest
from fastapi import FastAPI

from profiler_service import errors
from profiler_service.api.problems import NOT_ON_THE_WIRE, install_problem_handlers, status_of
from tests.api.conftest import check_problem

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidDimsError, 422),
        (errors.InvalidWorkloadError, 422),
        (errors.WindowTooLargeError, 422),
        (errors.UnsupportedOnHostError, 422),
        (errors.UnknownWorkloadError, 404),
        (errors.UnknownPlatformError, 404),
        (errors.UnknownHostError, 404),
        (errors.UnknownCurveError, 404),
        (errors.UnknownSweepError, 404),
        (errors.ConflictError, 409),
        (errors.PlatformMismatchError, 409),
        (errors.HostAwayError, 503),
        (errors.StoreUnavailableError, 503),
        (errors.SchemaTooOldError, 503),
        (errors.MeasurementFailedError, 500),
        (errors.LhpError, 500),
    ],
)
def test_every_error_has_its_status(error: type[errors.LhpError], status: int) -> None:
    assert status_of(error) == status


async def test_a_defect_tells_nothing_of_what_is_inside() -> None:
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/defect")
    def defect() -> None:
        raise RuntimeError("password=hunter2")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/defect")
    check_problem(response, 500, "log")
    assert "hunter2" not in response.text


async def test_unknown_addresses_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/nowhere"), 404, "/docs")
    response = await client.delete("/lhp")
    check_problem(response, 405, "use GET or HEAD")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    # Several routes may share an address.
    response = await client.delete("/sweeps")
    check_problem(response, 405, "use GET or HEAD or POST")
    assert response.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    response = await client.head("/sweeps/x/cancel")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")


async def test_a_body_that_is_no_json_is_told_from_a_field_that_is_wrong(
    client: httpx.AsyncClient,
) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/sweeps", content=b"{bad", headers=headers)
    check_problem(response, 422)
    # The second character is the first one that can't be.
    assert response.json()["detail"].startswith("the body is no JSON: Expecting property name")
    assert response.json()["detail"].endswith(", at character 2")
    response = await client.post("/sweeps", content=b'{"axes": [{"first": 0}]}', headers=headers)
    assert response.json()["detail"].startswith("axes.0.first: ")


async def test_a_query_string_that_is_too_long_has_a_type_of_its_own(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/lhp?" + "x" * 9000)
    check_problem(response, 414)
    kind = (await client.get(response.json()["type"])).json()
    assert (kind["type"], kind["status"]) == ("/problems/query-too-long", 414)


def test_every_error_has_a_name_of_its_own_and_comes_back_by_it() -> None:
    classes = list(errors.error_classes())
    defined = {
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if each.__module__ == errors.__name__
    }
    assert defined == set(classes)
    names = [each.problem_name() for each in classes]
    assert len(set(names)) == len(names)
    assert errors.HostAwayError.problem_name() == "host-away"
    assert errors.MeasurementChildDiedError.problem_name() == "measurement-child-died"
    assert [errors.find_error_class(name) for name in names] == classes
    assert errors.find_error_class("unheard-of") is None


async def test_kinds_of_problems_are_listed(client: httpx.AsyncClient) -> None:
    listed = {each["type"]: each for each in (await client.get("/problems")).json()}
    classes = set(errors.error_classes()) - NOT_ON_THE_WIRE
    assert listed.keys() == {f"/problems/{each.problem_name()}" for each in classes}
    away = listed["/problems/host-away"]
    assert (away["status"], away["transient"], away["title"]) == (503, True, "Host away")
    assert away["meaning"] == "The host that must measure isn't running its worker."
    assert (await client.get("/problems/host-away")).json() == away
    unknown = await client.get("/problems/unheard-of")
    check_problem(unknown, 404)
    assert unknown.json()["type"] == "/problems/unknown-address"


async def test_problems_name_their_type_and_where_to_look(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/hosts/nobody")).json()
    assert (problem["type"], problem["see"]) == ("/problems/unknown-host", "/hosts")
    malformed = (await client.get("/lhp?dims=1&wait=soon")).json()
    assert malformed["type"] == "/problems/invalid-request"
    assert malformed["detail"].startswith("wait: ")


async def test_openapi_lists_the_types_of_each_route(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    away = paths["/lhp"]["get"]["responses"]["503"]["description"]
    assert "`/problems/host-away`" in away and "`/problems/store-unavailable`" in away
