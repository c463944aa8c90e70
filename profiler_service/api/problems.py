"""Turns each error class into one kind of problem, sent as `application/problem+json`.

Only this module knows both the error classes and HTTP. Its only routes list the kinds of problem.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from profiler_service import errors
from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.suggestions import did_you_mean
from profiler_service.wire import PROBLEM_PATH, Problem, ProblemType

MEDIA_TYPE = "application/problem+json"
PROBLEM_SCHEMA = f"#/components/schemas/{Problem.__name__}"
WHERE_DETAILS_ARE = (
    "a token with the scope `read` shows why, at /healthz and /readyz; so does the service's log"
)
RETRY_AFTER_S = 2.0
RETRY_STATUSES = (429, 503)
"""The same request may succeed a little later."""

STATUS: Mapping[type[errors.LhpError], int] = {
    errors.InvalidRequestError: 422,
    errors.MalformedHttpError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForeignOriginError: 403,
    errors.InsufficientScopeError: 403,
    errors.JoinKeyRefusedError: 403,
    errors.MethodNotAllowedError: 405,
    errors.RequestTimeoutError: 408,
    errors.RequestTooLargeError: 413,
    errors.QueryTooLongError: 414,
    errors.ForeignHostError: 421,
    errors.HeadersTooLargeError: 431,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.PlatformMismatchError: 409,
    errors.TooManyRequestsError: 429,
    errors.HostAwayError: 503,
    errors.NotReadyError: 503,
    errors.OverloadedError: 503,
    errors.ShuttingDownError: 503,
    errors.StoreError: 503,
    errors.LhpError: 500,
}
"""Status of each error class. A class that isn't listed has the status of its nearest base."""

NOT_ON_THE_WIRE = frozenset(
    {
        errors.LhpError,
        errors.NotFoundError,
        errors.PlatformMismatchError,
        errors.StoreError,
        errors.SchemaTooOldError,
        errors.SchemaTooNewError,
        errors.MeasurementChildDiedError,
        errors.DeviceLostError,
        errors.MeasurementInterruptedError,
        errors.ModelError,
        errors.WorkerAlreadyRunningError,
        errors.HostTakenError,
        errors.HostRefusedError,
    }
)
"""Classes that no response carries: only the base of others, or met by the worker, the command line
or a service that is starting."""

OF_ANY_ADDRESS = (errors.UnknownAddressError, errors.MethodNotAllowedError)
"""Errors of addresses and methods that no route has."""

OF_THE_STORE = (
    errors.StoreUnavailableError,
    errors.StoreUnusableError,
    errors.StoreLostError,
    errors.StoreNotWritableError,
)
"""Errors of every route that needs the database. It is enough to name the first."""

OF_ANY_ROUTE = (
    errors.MalformedHttpError,
    errors.UnauthenticatedError,
    errors.InsufficientScopeError,
    errors.RequestTimeoutError,
    errors.QueryTooLongError,
    errors.ForeignHostError,
    errors.InvalidRequestError,
    errors.TooManyRequestsError,
    errors.HeadersTooLargeError,
    errors.ServiceDefectError,
    errors.OverloadedError,
    errors.ShuttingDownError,
)
"""Errors that every route may answer with, besides its own."""

_DESCRIPTIONS: Mapping[int, str] = {
    400: "The request breaks the rules of HTTP.",
    401: "The service needs a token, and none was sent, or one that isn't valid.",
    403: "The token doesn't allow this; or a web page of another site has sent the request, which"
    " would start or end work.",
    404: "The named workload, host, platform, sweep, curve or token doesn't exist.",
    405: "The address exists, but doesn't have this method.",
    408: "The rest of the request didn't arrive in time.",
    409: "The named resource is in a state that doesn't allow this, such as a cancelled sweep.",
    413: "The request body is larger than 1 MiB.",
    414: "The query string is longer than 8 KiB.",
    421: "The service isn't called what `Host` says.",
    422: "The request is malformed, out of range, too large to measure, or not possible on that"
    " host. `hint` says what to write instead.",
    429: "The service serves as many requests of this kind as it can. Try again after"
    " `Retry-After` seconds.",
    431: "The headers are longer or more than the service reads.",
    500: "The measurement failed, or the service has a defect; `detail` says which.",
    503: "The service can't do it for the moment: the host that must measure is away, the database"
    " can't be reached, or the service is busy or being stopped. Try again after `Retry-After`"
    " seconds.",
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
    """The OpenAPI descriptions of a route's possible problems, by status.

    `kinds` are its own; those that every route has are added.
    """
    of_the_store = OF_THE_STORE if errors.StoreUnavailableError in kinds else ()
    by_status: defaultdict[int, list[type[errors.LhpError]]] = defaultdict(list)
    for kind in dict.fromkeys((*kinds, *of_the_store, *OF_ANY_ROUTE)):
        by_status[status_of(kind)].append(kind)
    responses: dict[int | str, dict[str, Any]] = {}
    for status, together in sorted(by_status.items()):
        names = ", ".join(f"`{PROBLEM_PATH}{kind.problem_name()}`" for kind in together)
        responses[status] = {
            # A reference, and no `model`: FastAPI would make a validator of it for each of them.
            "content": {"application/json": {"schema": {"$ref": PROBLEM_SCHEMA}}},
            "description": f"{_DESCRIPTIONS[status]} Types: {names}.",
        }
        if status in RETRY_STATUSES:
            responses[status]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
            }
    return responses


def problem_of(error: errors.LhpError, *, status: int | None = None) -> Problem:
    """The problem for the error. `status`, if given, replaces the status of its class."""
    kind = type(error)
    return Problem(
        type=PROBLEM_PATH + kind.problem_name(),
        title=title_of(kind),
        status=status_of(kind) if status is None else status,
        detail=str(error),
        hint=error.hint,
        see=error.see,
    )


def problem_response(
    error: errors.LhpError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for the error. `status`, if given, replaces the status of its class."""
    problem = problem_of(error, status=status)
    status = problem.status
    headers = dict(headers or {})
    if status in RETRY_STATUSES:
        headers.setdefault("Retry-After", str(math.ceil(RETRY_AFTER_S)))
    return Response(problem.model_dump_json(), status, headers, media_type=MEDIA_TYPE)


async def _on_lhp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LhpError)
    return problem_response(hide_details(error))


def hide_details(error: errors.LhpError) -> errors.LhpError:
    """The error as the caller may see it: paths, servers and hosts are for the scope `read`."""
    tells_much = isinstance(error, errors.StoreError | errors.NotReadyError)
    if not tells_much or Scope.READ in current_caller().allowed:
        return error
    return type(error)("the service can't do this now", hint=WHERE_DETAILS_ARE)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(error_of_invalid(error.errors()))


def error_of_invalid(found: Sequence[Any]) -> errors.InvalidRequestError:
    """The error for what pydantic found in a request."""
    return errors.InvalidRequestError(
        "; ".join(map(_describe_invalid, found)),
        hint="".join(map(_suggest, found)) + "every parameter is described at /docs",
        see="/docs",
    )


def _describe_invalid(item: Mapping[str, Any]) -> str:
    """What pydantic found, in a few words."""
    if item["type"] == "json_invalid":
        return f"the body is no JSON: {item['ctx']['error']}, at character {item['loc'][1] + 1}"
    # A location begins with its place (query, path, body), which the message can leave out.
    where = ".".join(map(str, item["loc"][1:])) or item["loc"][0]
    if item["type"] == "extra_forbidden":
        return f"there is no field {where[:80]!r}"
    return f"{where}: {item['msg']}"


def _suggest(item: Mapping[str, Any]) -> str:
    """What may have been meant, where only a few words are allowed."""
    expected = str(item.get("ctx", {}).get("expected", ""))
    return did_you_mean(item.get("input"), re.findall("'([^']+)'", expected))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = error.headers or {}
    if error.status_code == 404:
        return problem_response(
            errors.UnknownAddressError(detail, hint="every address is listed at /docs", see="/docs")
        )
    if error.status_code == 405:
        # The error itself names only the methods of one route.
        methods = _find_methods(request)
        allow = {"Allow": ", ".join([*methods, "OPTIONS"])}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        return problem_response(
            errors.MethodNotAllowedError(detail, hint=f"use {' or '.join(methods)}", see="/docs"),
            headers={**headers, **allow},
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
    """The methods that the address has."""

    # A mount calls its own path the root; this is the root of all.
    root = request.scope.get("app_root_path", request.scope.get("root_path", ""))

    def has(method: str) -> bool:
        # GET and HEAD are answered alike. Files, which are mounted, have only these.
        asked = {"root_path": root, "method": "GET" if method == "HEAD" else method}
        return any(
            each.matches({**request.scope, **asked})[0] is Match.FULL
            for each in request.app.router.routes
            if not isinstance(each, Mount) or method in ("GET", "HEAD")
        )

    return list(filter(has, ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")))


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
    known = {each.type.removeprefix(PROBLEM_PATH): each for each in problem_types()}
    if name in known:
        return known[name]
    raise errors.UnknownAddressError(
        f"there is no problem called {name!r}",
        hint=did_you_mean(name, known) + "choose one from the list",
        see="/problems",
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
