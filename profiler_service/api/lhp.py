"""GET /lhp: the central question.

Warm queries never reach the route's function: the response to each query string is kept,
ready-made, for as long as the store's generation stays the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from profiler_service.answering.known import Conditions, Question
from profiler_service.answering.resources import sweep_info
from profiler_service.answering.services import Parts
from profiler_service.api.dependencies import PartsDep
from profiler_service.api.problems import RETRY_AFTER_S, problem_responses
from profiler_service.errors import (
    ConflictError,
    HostAwayError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    MeasurementFailedError,
    ShuttingDownError,
    StoreUnavailableError,
    SweepCancelledError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownWorkloadError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.storage.store import Host, Sweep
from profiler_service.wire import CrossoverQuery, LhpAnswer, LhpQuery, SweepInfo

Query = TypeVar("Query", bound=BaseModel)


class WarmRoute(APIRoute):
    """A route that gives the ready-made response to a query string, where there is one.

    Overriding `get_route_handler` is FastAPI's documented way to look at a request before it
    is parsed.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that looks for a ready-made response before it parses anything."""
        parse_and_answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            parts: Parts = request.app.state.parts
            body = parts.book.snapshot.ready.get(request.scope["query_string"])
            if body is not None:
                return Response(body, media_type="application/json")
            return await parse_and_answer(request)

        return handler


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of `model` as query parameters, as OpenAPI describes them."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": described.pop("description"),
            "schema": described,
        }
        for name, described in schema["properties"].items()
    ]


def parse_query(given: QueryParams, model: type[Query]) -> Query:
    """The query of class `model` that these parameters make.

    FastAPI can do this too; it takes twice as long as everything else that a query costs.
    Raises RequestValidationError, InvalidRequestError for a parameter given twice.
    """
    names = [name for name, _ in given.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRequestError(
            f"given more than once: {', '.join(twice)}", hint="give every parameter once"
        )
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def choose_wait_s(query: LhpQuery | CrossoverQuery, parts: Parts) -> float:
    """How long the query may wait. Raises InvalidRequestError where it asks for longer."""
    longest_s = parts.settings.max_wait_s
    if "wait" not in query.model_fields_set:
        return min(query.wait, longest_s)
    if query.wait > longest_s:
        raise InvalidRequestError(
            f"wait={query.wait:g} is longer than {longest_s:g} seconds",
            hint="wait less, and ask again after 202",
        )
    return query.wait


ACCEPTED: dict[str, Any] = {
    "model": SweepInfo,
    "description": "Not measured within `wait`. The sweep goes on; ask again, or watch it at"
    " `Location`.",
    "headers": {
        "Location": {"description": "Address of the sweep.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    },
}
"""What OpenAPI says of a 202."""
QUESTION_PROBLEMS = problem_responses(
    InvalidRequestError,
    InvalidDimsError,
    InvalidWorkloadError,
    WindowTooLargeError,
    UnsupportedOnHostError,
    UnknownWorkloadError,
    UnknownHostError,
    UnknownPlatformError,
    ConflictError,
    SweepCancelledError,
    MeasurementFailedError,
    HostAwayError,
    StoreUnavailableError,
    ShuttingDownError,
)
"""What may be wrong with a question, or with having it measured."""

router = APIRouter(route_class=WarmRoute, tags=["query"])


@router.get(
    "/lhp",
    response_model=LhpAnswer,
    summary="Which larger dims cost no more than mine?",
    response_description="The answer, from measured latencies.",
    responses={
        202: ACCEPTED,
        **QUESTION_PROBLEMS,
    },
    openapi_extra={"parameters": query_parameters(LhpQuery)},
)
async def get_lhp(request: Request, parts: PartsDep) -> Response:
    """Answers from a stored curve where one covers the window above `dims`.

    Otherwise the window is measured on the host asked, equal requests sharing one
    measurement. The call waits for it up to `wait` seconds, then returns 202. A client that
    goes away leaves the measurement running: its result is kept for the next who asks.

    Fixed parameters of the workload kind (`batch`, `dtype`, `backend` for the built-in ones;
    `/workloads` lists them all) are query parameters of the same name.

    An answer never mixes platforms, nor ways of taking time: it comes from the platform that
    `host` is on now, or from the one named by `platform`, and from curves measured as its
    hosts measure now. Where no host is on it any more, its newest curves answer, as `stale`.
    Answers take new curves into account within 0.3 s of
    their being kept, and at once where this service waited for them.
    """
    query = parse_query(request.query_params, LhpQuery)
    wait_s = choose_wait_s(query, parts)
    question = Question.parse(
        dims=query.dims,
        workload=query.workload,
        fixed_parameters=query.fixed_parameters,
        prefer=query.prefer,
        effort=query.effort,
        max_growth=query.max_growth,
        budget_s=query.budget,
    )
    deadline_s = time.monotonic() + wait_s
    snapshot = parts.book.snapshot
    conditions = await find_conditions(query.host, query.platform, parts)
    answer = None
    if conditions is not None:
        answer = await parts.book.find(question, conditions)
    if answer is None:
        outcome = await _measure(question, query, parts, deadline_s)
        if isinstance(outcome, Sweep):
            return accepted(outcome)
        return Response(outcome.model_dump_json(), media_type="application/json")
    body = answer.model_dump_json().encode()
    snapshot.keep_ready(request.scope["query_string"], body)
    return Response(body, media_type="application/json")


async def _measure(
    question: Question, query: LhpQuery, parts: Parts, deadline_s: float
) -> LhpAnswer | Sweep:
    """The answer, measured now; or the sweep that hasn't ended by the deadline."""
    host = await choose_host(query.host, query.platform, parts, deadline_s)
    return await parts.on_demand.answer(
        question,
        host,
        query.platform or host.platform_key,
        wait_s=max(0.0, deadline_s - time.monotonic()),
    )


async def choose_host(
    asked: str | None, platform: str | None, parts: Parts, deadline_s: float
) -> Host:
    """The host that measures for such a query: present, or waited for until the deadline.

    Raises UnknownHostError, HostAwayError.
    """
    if platform is not None and asked is None:
        return await parts.desk.get_present_host_on(platform)
    return await parts.desk.get_present_host(
        asked or parts.settings.host, wait_s=max(0.0, deadline_s - time.monotonic())
    )


async def find_conditions(
    asked: str | None, platform: str | None, parts: Parts
) -> Conditions | None:
    """The conditions asked about; None where the host asked hasn't registered yet.

    Raises UnknownPlatformError, UnknownHostError.
    """
    snapshot = parts.book.snapshot
    host = asked or parts.settings.host
    if (platform is not None and platform not in snapshot.platforms) or (
        (platform is None or asked is not None) and host not in snapshot.hosts
    ):
        await parts.book.refresh()
        snapshot = parts.book.snapshot
    if asked is not None and asked not in (*snapshot.hosts, parts.settings.host):
        raise UnknownHostError(
            f"there is no host {asked!r}", hint="ask for one that has registered", see="/hosts"
        )
    if platform is None:
        return Conditions.of(snapshot.hosts[host]) if host in snapshot.hosts else None
    if platform not in snapshot.platforms:
        raise UnknownPlatformError(
            f"there is no platform {platform!r}",
            hint="ask for one that a host has registered",
            see="/platforms",
        )
    on_it = [each for each in snapshot.hosts.values() if each.platform_key == platform]
    if not on_it:
        return Conditions(platform_key=platform, protocol_key=None)
    # They should all measure alike; during an upgrade, those heard of last are ahead.
    return Conditions.of(max(on_it, key=lambda each: (each.name == host, each.last_seen_at)))


def accepted(sweep: Sweep) -> Response:
    """202: the sweep that goes on, and where to look for it."""
    return Response(
        sweep_info(sweep).model_dump_json(),
        status_code=202,
        headers={"Location": f"/sweeps/{sweep.id}", "Retry-After": f"{RETRY_AFTER_S:.0f}"},
        media_type="application/json",
    )
