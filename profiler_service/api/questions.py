"""GET /lhp and GET /crossover: two questions that are asked in the same way."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from profiler_service.answering.admission import is_own_code
from profiler_service.answering.crossover import CrossoverQuestion
from profiler_service.answering.fleet import read_label
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.predicted import check_basis
from profiler_service.answering.questions import Question, Where
from profiler_service.answering.resources import sweep_info
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import (
    ServicesDep,
    identify_client,
    parse_query,
    query_parameters,
)
from profiler_service.api.locations import LOCATION_HEADER, sweep_location
from profiler_service.api.predictions import respond_predicted
from profiler_service.api.problems import RETRY_AFTER_S, problem_responses
from profiler_service.api.ready_responses import (
    ReadyResponse,
    ReadyResponses,
    WarmRoute,
    count_nothing,
    find_address,
)
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    HostAwayError,
    HostNotAdmittedError,
    HostStartingError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    MeasurementFailedError,
    OwnCodeError,
    ShuttingDownError,
    StoreUnavailableError,
    SweepCancelledError,
    TooManyRequestsError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownWorkloadError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.plan.turns import Place
from profiler_service.storage.store import Sweep
from profiler_service.suggestions import did_you_mean
from profiler_service.telemetry.metrics import ServiceMetrics
from profiler_service.wire import (
    AnyAnswer,
    CrossoverAnswer,
    CrossoverQuery,
    LhpAnswer,
    LhpQuery,
    SweepInfo,
)

DEFAULT_WAIT_S: float = LhpQuery.model_fields["wait"].default
MAX_RETRY_AFTER_S = 60.0
"""Longest time after which to ask again: what is expected may be wrong."""


MARKS: dict[str, Any] = {
    "headers": {
        "Age": {
            "description": "While the database is away: seconds since it was last read.",
            "schema": {"type": "integer"},
        },
        "Cache-Status": {
            "description": "While the database is away, that the answer comes from memory.",
            "schema": {"type": "string"},
        },
    }
}
"""What marks a 200, in OpenAPI."""
MARKED_OR_QUEUED: dict[str, Any] = {"headers": {**MARKS["headers"], **LOCATION_HEADER}}
"""The same, where a prediction says in `Location` which race was queued for it."""
ACCEPTED: dict[str, Any] = {
    "model": SweepInfo,
    "description": "Not measured within `wait` seconds. The sweep continues: ask again, or watch it"
    " at `Location`.",
    "headers": {
        **LOCATION_HEADER,
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    },
}
"""The description of a 202 in OpenAPI."""
PROBLEMS = problem_responses(
    ForeignOriginError,
    InvalidRequestError,
    InvalidDimsError,
    InvalidWorkloadError,
    WindowTooLargeError,
    UnsupportedOnHostError,
    OwnCodeError,
    UnknownWorkloadError,
    UnknownHostError,
    UnknownPlatformError,
    ConflictError,
    SweepCancelledError,
    MeasurementFailedError,
    HostNotAdmittedError,
    HostAwayError,
    HostStartingError,
    StoreUnavailableError,
    ShuttingDownError,
    TooManyRequestsError,
)
"""Errors of a question, or of its measurement."""

router = APIRouter(route_class=WarmRoute, tags=["query"])


@router.get(
    "/lhp",
    response_model=AnyAnswer,
    summary="Which larger dims cost no more than mine?",
    response_description="The answer, from measured latencies; or, with another `basis`, the"
    " predicted one.",
    responses={200: MARKED_OR_QUEUED, 202: ACCEPTED, **PROBLEMS},
    openapi_extra={"parameters": query_parameters(LhpQuery)},
)
async def get_lhp(request: Request, services: ServicesDep) -> Response:
    """Answers from a stored curve if one covers the window above `dims`.

    Otherwise the host measures the window, which needs a token with the scope `measure`; equal
    requests share one measurement. The call waits for it up to `wait` seconds, then returns 202. If
    the client disconnects, the measurement continues, and its result is kept.

    The fixed parameters of the workload kind (such as `batch`, `dtype` and `backend`; `/workloads`
    lists them all) are query parameters of the same name.

    An answer never mixes platforms or timing protocols. It comes from the platform that `host` has
    now, or the hosts with that `label`, or from the one that `platform` names; without any of
    these, from the only platform there is. Of several hosts, the least loaded one measures. Its
    curves were measured with the protocol that the
    platform's hosts use now. With `platforms`, one answer holds on several platforms: each is asked
    by itself, and what one prefers is compared with `dims` on all of them. If no host has the
    platform any more, its newest curves answer, marked `stale`. A new curve is used at most 0.3 s
    after it was stored, and at once if this service waited for it.

    With `basis=predicted`, the host's model answers in milliseconds (`PredictedAnswer`): nothing is
    measured, and a token that reads is enough. With `basis=any`, it answers for a measurement that
    isn't known yet, which is queued: `Location` is its sweep's.
    """
    query = parse_query(request, LhpQuery)
    check_basis(query)
    question = read_lhp_question(query, services)
    if query.basis != "measured":
        return await respond_predicted(request, services, question, read_where(query), query)
    return await _respond(request, services, question, query)


def read_where(query: LhpQuery | CrossoverQuery) -> Where:
    """Where the question is asked. Raises InvalidRequestError for what excludes each other."""
    platforms = query.platforms if isinstance(query, LhpQuery) else None
    label = None if query.label is None else read_label(query.label)
    return Where(host=query.host, platform=query.platform, label=label, platforms=platforms)


def read_lhp_question(query: LhpQuery, services: Services) -> LhpQuestion:
    """The question that a query asks. Raises as `LhpQuestion.parse` does."""
    try:
        return LhpQuestion.parse(
            dims=query.dims,
            workload=query.workload,
            fixed_parameters=query.fixed_parameters,
            prefer=query.prefer,
            effort=query.effort,
            max_growth=query.max_growth,
            budget_s=query.budget,
            margin=query.margin,
            settle_s=query.settle,
            slack=query.slack,
            max_age=query.max_age,
            multiple_of=query.multiple_of,
            limits=services.admission.limits,
            is_shared=query.platforms is not None,
        )
    except InvalidWorkloadError as error:
        # A misspelled parameter of the question was taken for one of the workload.
        if "did you mean" not in error.hint:
            meant = [did_you_mean(name, LhpQuery.model_fields) for name in query.model_extra or ()]
            error.hint = next(filter(None, meant), "") + error.hint
        raise


@router.get(
    "/crossover",
    response_model=CrossoverAnswer,
    summary="From which sparsity on is a sparse product faster?",
    response_description="The answer, from measured latencies.",
    responses={200: MARKS, 202: ACCEPTED, **PROBLEMS},
    openapi_extra={"parameters": query_parameters(CrossoverQuery)},
)
async def get_crossover(request: Request, services: ServicesDep) -> Response:
    """Compares `csr`, at whole percentages of zeros, with every dense backend of `linear`.

    All of them are measured in the same rounds, so that a disturbance of the host affects all in
    the same way. If the answer isn't stored yet, the host measures it; equal requests share one
    measurement. The call waits for it up to `wait` seconds, then returns 202. An answer is about
    one layer on one platform, with zeros at random places.
    """
    query = parse_query(request, CrossoverQuery)
    question = CrossoverQuestion.parse(
        dims=query.dims,
        batch=query.batch,
        dtype=query.dtype,
        bias=query.bias,
        limits=services.admission.limits,
    )
    return await _respond(request, services, question, query)


async def _respond(
    request: Request,
    services: Services,
    question: Question[BaseModel],
    query: LhpQuery | CrossoverQuery,
) -> Response:
    """200 with the answer, or 202 with the sweep that will give it."""
    given_s = query.wait if "wait" in query.model_fields_set else None
    wait_s = choose_wait_s(given_s, services.settings.max_wait_s)
    where = read_where(query)
    generation = services.known.curves.snapshot.generation
    ready: ReadyResponses = request.app.state.ready
    meaning = question.meaning
    conditions = (
        services.hosts.find_known_conditions(where, own_code=is_own_code(question.sweep))
        if where.platforms is None
        else where.platforms
    )
    key = None if meaning is None or conditions is None else (meaning, conditions)
    known = None if key is None else ready.find(key, generation)
    if known is not None:
        ready.keep(find_address(request), known, generation)
        return known.send(age_s=services.known.age_s)
    answer = await services.asking.ask(
        question, where, wait_s=wait_s, client=identify_client(request)
    )
    if isinstance(answer, Sweep):
        place = await services.queue.find_place_soon(answer)
        return Response(
            sweep_info(answer, place).model_dump_json(),
            status_code=202,
            headers={
                "Location": sweep_location(answer.id),
                "Retry-After": f"{_retry_after_s(place):.0f}",
            },
            media_type="application/json",
        )
    count = count_nothing
    if isinstance(answer, LhpAnswer):
        metrics: ServiceMetrics = request.app.state.metrics
        count = metrics.find_answer_counter(answer.verdict, answer.settled)
    response = ReadyResponse(answer.model_dump_json().encode(), count)
    # The end of a comparison changes the answer, even if it leaves no curve.
    may_change = isinstance(answer, LhpAnswer) and answer.comparing_backends
    may_change = may_change or meaning is None
    if not may_change and generation == services.known.curves.snapshot.generation:
        for each in (find_address(request), key):
            if each is not None:
                ready.keep(each, response, generation)
    return response.send(age_s=services.known.age_s)


def _retry_after_s(place: Place | None) -> float:
    """When to ask again: when the sweep is expected to have ended, in whole seconds."""
    if place is None:
        return RETRY_AFTER_S
    return min(max(RETRY_AFTER_S, math.ceil(place.wait_s + place.left_s)), MAX_RETRY_AFTER_S)


def choose_wait_s(given_s: float | None, longest_s: float) -> float:
    """Seconds that a question may wait. Raises InvalidRequestError if it asks for more."""
    if given_s is None:
        return min(DEFAULT_WAIT_S, longest_s)
    if given_s > longest_s:
        raise InvalidRequestError(
            f"wait={given_s:g} is longer than {longest_s:g} seconds",
            hint="wait less, and ask again after 202",
        )
    return given_s
