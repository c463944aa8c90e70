"""Errors on the wire: which error gets which status, as `application/problem+json`.

The only place that knows both the error tree and HTTP. Knows no route.
"""

from __future__ import annotations

import http
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from profiler_service import errors
from profiler_service.wire import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2.0

STATUS: Mapping[type[Exception], int] = {
    errors.InvalidRequestError: 422,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.PlatformMismatchError: 409,
    errors.HostAwayError: 503,
    errors.StoreError: 503,
    errors.LhpError: 500,
}
"""Status of each error class; a class that isn't listed has that of its nearest base."""

_DESCRIPTIONS: Mapping[int, str] = {
    404: "The workload, host, platform, sweep or curve named doesn't exist.",
    409: "The thing named is in a state that doesn't allow this; a cancelled sweep, for example.",
    413: "The request body is larger than 1 MiB.",
    422: "The request can't be meant as written: malformed, out of range, too large to measure,"
    " or not possible on that host. `hint` says what to write instead.",
    500: "The measurement failed, or the service has a defect; `detail` says which.",
    503: "The host that must measure is away, or the database can't be reached. Try again after"
    " `Retry-After` seconds.",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI descriptions of the problems that a route may answer with."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": _DESCRIPTIONS[status]} for status in statuses
    }
    if 503 in responses:
        responses[503]["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
        }
    return responses


def problem_response(
    status: int, detail: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The response that tells of a problem."""
    problem = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail, hint=hint)
    headers = dict(headers or {})
    if status == 503:
        headers.setdefault("Retry-After", str(math.ceil(RETRY_AFTER_S)))
    return Response(problem.model_dump_json(), status, headers, media_type=MEDIA_TYPE)


def status_of(error: Exception) -> int:
    """The status of `error` by its class or nearest base; 500 for one that isn't ours."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


async def _on_lhp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LhpError)
    return problem_response(status_of(error), str(error), error.hint)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
    ]
    return problem_response(422, "; ".join(found), "the parameters are described at /docs")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hints = {
        422: "send what /docs describes, as JSON",
        404: "every address is listed at /docs",
        405: f"use {(error.headers or {}).get('Allow', 'another method')}; see /docs",
        413: "send a smaller body",
    }
    # Starlette's 400 is of a body that is no JSON: malformed like any that /docs doesn't allow.
    status = 422 if error.status_code == 400 else error.status_code
    return problem_response(
        status,
        f"{request.method} {request.url.path}: {error.detail}",
        hints.get(status, ""),
        error.headers,
    )


async def _on_defect(request: Request, error: Exception) -> Response:
    # What is inside stays inside: the server logs the traceback.
    return problem_response(
        500, "the service has a defect here", "please report it; the server's log has the details"
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every error of `app` an `application/problem+json`, in fact and in OpenAPI."""
    app.add_exception_handler(errors.LhpError, _on_lhp_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)

    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in describe()["paths"].values():
                for operation in path.values():
                    for status, response in operation["responses"].items():
                        # FastAPI files an error's model under the route's own media type.
                        if status >= "400":
                            (body,) = response["content"].values()
                            response["content"] = {MEDIA_TYPE: body}
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
