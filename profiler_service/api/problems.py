"""Turns each error class into one kind of problem, sent as `application/problem+json`.

Only this module knows both the error classes and HTTP. Its only routes list the kinds of problem.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from profiler_service import errors
from profiler_service.wire import PROBLEM_PATH, Problem, ProblemType

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2.0
RETRY_STATUSES = (429, 503)
"""The same request may succeed a little later."""

STATUS: Mapping[type[errors.LhpError], int] = {
    errors.InvalidRequestError: 422,
    errors.MethodNotAllowedError: 405,
    errors.RequestTooLargeError: 413,
    errors.QueryTooLongError: 414,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.PlatformMismatchError: 409,
    errors.TooManyRequestsError: 429,
    errors.HostAwayError: 503,
    errors.NotReadyError: 503,
    errors.ShuttingDownError: 503,
    errors.StoreError: 503,
    errors.LhpError: 500,
}
"""Status of each error class. A class that isn't listed has the status of its nearest base."""

NOT_ON_THE_WIRE = frozenset(
    {
        errors.LhpError,
        errors.ModelError,
        errors.WorkerAlreadyRunningError,
        errors.MeasurementInterruptedError,
    }
)
"""Classes that no request can cause: they belong to the worker or to the command line."""

_DESCRIPTIONS: Mapping[int, str] = {
    404: "The named workload, host, platform, sweep or curve doesn't exist.",
    405: "The address exists, but doesn't have this method.",
    409: "The named resource is in a state that doesn't allow this, such as a cancelled sweep.",
    413: "The request body is larger than 1 MiB.",
    414: "The query string is longer than 8 KiB.",
    422: "The request is malformed, out of range, too large to measure, or not possible on that"
    " host. `hint` says what to write instead.",
    429: "The service serves as many requests of this kind as it can. Try again after"
    " `Retry-After` seconds.",
    500: "The measurement failed, or the service has a defect; `detail` says which.",
    503: "The host that must measure is away, or the database can't be reached. Try again after"
    " `Retry-After` seconds.",
}


def status_of(error: type[errors.LhpError]) -> int:
    """The status of an error class, or of its nearest base that has one."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)


def title_of(error: type[errors.LhpError]) -> str:
    """The kind of problem in a few words: `Host away`."""
    return error.problem_name().replace("-", " ").capitalize()


def problem_types() -> Iterator[ProblemType]:
    """Every kind of problem that a request can cause."""
    for error in errors.error_classes():
        if error not in NOT_ON_THE_WIRE:
            yield ProblemType(
                type=PROBLEM_PATH + error.problem_name(),
                title=title_of(error),
                status=status_of(error),
                meaning=" ".join((inspect.getdoc(error) or "").split()),
                transient=error.is_transient,
            )


def problem_responses(*kinds: type[errors.LhpError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI descriptions of a route's possible problems, by status."""
    by_status: defaultdict[int, list[type[errors.LhpError]]] = defaultdict(list)
    for kind in kinds:
        by_status[status_of(kind)].append(kind)
    responses: dict[int | str, dict[str, Any]] = {}
    for status, together in sorted(by_status.items()):
        names = ", ".join(f"`{PROBLEM_PATH}{kind.problem_name()}`" for kind in together)
        responses[status] = {
            "model": Problem,
            "description": f"{_DESCRIPTIONS[status]} Types: {names}.",
        }
        if status in RETRY_STATUSES:
            responses[status]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
            }
    return responses


def problem_response(
    error: errors.LhpError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for the error. `status`, if given, replaces the status of its class."""
    kind = type(error)
    status = status_of(kind) if status is None else status
    problem = Problem(
        type=PROBLEM_PATH + kind.problem_name(),
        title=title_of(kind),
        status=status,
        detail=str(error),
        hint=error.hint,
        see=error.see,
    )
    headers = dict(headers or {})
    if status in RETRY_STATUSES:
        headers.setdefault("Retry-After", str(math.ceil(RETRY_AFTER_S)))
    return Response(problem.model_dump_json(), status, headers, media_type=MEDIA_TYPE)


async def _on_lhp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LhpError)
    return problem_response(error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Each location begins with its place (query, path, body), which the message can leave out.
    found = [
        f"the body is no JSON: {item['ctx']['error']}, at character {item['loc'][1] + 1}"
        if item["type"] == "json_invalid"
        else f"{'.'.join(map(str, item['loc'][1:])) or item['loc'][0]}: {item['msg']}"
        for item in error.errors()
    ]
    return problem_response(
        errors.InvalidRequestError(
            "; ".join(found), hint="every parameter is described at /docs", see="/docs"
        )
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = error.headers or {}
    if error.status_code == 404:
        return problem_response(
            errors.UnknownAddressError(detail, hint="every address is listed at /docs", see="/docs")
        )
    if error.status_code == 405:
        allowed = _find_methods(request) or headers.get("Allow", "").split(", ")
        return problem_response(
            errors.MethodNotAllowedError(detail, hint=f"use {' or '.join(allowed)}", see="/docs"),
            headers={**headers, "Allow": ", ".join(allowed)},
        )
    if error.status_code == 413:
        return problem_response(
            errors.RequestTooLargeError(str(error.detail), hint="send a smaller body")
        )
    # Starlette's 400 means a body that isn't JSON. It is malformed, like a body that /docs doesn't
    # allow.
    return problem_response(
        errors.InvalidRequestError(detail, hint="send what /docs describes, as JSON", see="/docs"),
        status=None if error.status_code == 400 else error.status_code,
        headers=headers,
    )


def _find_methods(request: Request) -> list[str]:
    """The methods that the address has. The 405 itself names only the methods of one route."""
    routes = [each for each in request.app.router.routes if not isinstance(each, Mount)]
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(
            each.matches({**request.scope, "method": "GET" if method == "HEAD" else method})[0]
            is Match.FULL
            for each in routes
        )
    ]


async def _on_defect(request: Request, error: Exception) -> Response:
    # The response shows no details: the server logs the traceback.
    return problem_response(
        errors.ServiceDefectError(
            "the service has a defect",
            hint="please report it; the server's log has the details",
        )
    )


router = APIRouter(prefix="/problems", tags=["problems"])


@router.get("", summary="Every kind of problem")
async def list_problems() -> list[ProblemType]:
    """The values of `type` in an `application/problem+json`, and what each means."""
    return list(problem_types())


@router.get(
    "/{name}",
    summary="One kind of problem",
    responses=problem_responses(errors.UnknownAddressError, errors.InvalidRequestError),
)
async def get_problem(
    name: Annotated[str, Path(description="The last part of a `type`, such as `host-away`.")],
) -> ProblemType:
    """What a problem of that type means."""
    for each in problem_types():
        if each.type == PROBLEM_PATH + name:
            return each
    raise errors.UnknownAddressError(
        f"there is no problem called {name!r}", hint="choose one from the list", see="/problems"
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every error of `app` an `application/problem+json`, in responses and in OpenAPI."""
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
                        # FastAPI lists an error's model under the route's own media type.
                        if status >= "400":
                            (body,) = response["content"].values()
                            response["content"] = {MEDIA_TYPE: body}
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
