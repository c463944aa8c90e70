from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from profiler_service import errors
from profiler_service.api.problems import install_problem_handlers, status_of
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
        (errors.MeasurementError, 500),
        (errors.LhpError, 500),
    ],
)
def test_every_error_has_its_status(error: type[errors.LhpError], status: int) -> None:
    assert status_of(error("it went wrong")) == status


def test_an_error_of_anyone_else_is_500() -> None:
    assert status_of(KeyError("secret")) == 500


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
    check_problem(response, 405, "use GET")
    assert response.headers["allow"] == "GET"
