"""POST /lhp/batch: many questions in one request, each with its own outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import ValidationError
from pydantic.json_schema import SkipJsonSchema

from profiler_service.access.scopes import Scope
from profiler_service.answering.batch import Asked, Outcome, ask_all
from profiler_service.answering.predicted import check_basis
from profiler_service.answering.resources import sweep_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import Client, ServicesDep
from profiler_service.api.origins import refuse_foreign
from profiler_service.api.problems import error_of_invalid, problem_of, problem_responses
from profiler_service.api.questions import (
    MARKS,
    choose_wait_s,
    read_lhp_question,
    read_where,
)
from profiler_service.api.ready_responses import find_mark
from profiler_service.errors import (
    ForeignOriginError,
    InvalidRequestError,
    LhpError,
    RequestTooLargeError,
    StoreUnavailableError,
)
from profiler_service.storage.store import Sweep
from profiler_service.telemetry.metrics import ServiceMetrics
from profiler_service.wire import LhpAnswer, LhpQuery
from profiler_service.wire.batch import MAX_BATCH, LhpBatchAnswer, LhpBatchItem

router = APIRouter(tags=["query"])

QUESTION_SCHEMA: Mapping[str, Any] = {
    "description": "A question: an object with the query parameters of `GET /lhp` by name, without"
    " `wait` and `basis`. Numbers may be numbers, and `dims` and `multiple_of` lists of them."
    " Anything else gets a problem of its own, and the other questions their answers.",
}
"""It allows anything: what is no question doesn't make the request invalid."""


@router.post(
    "/lhp/batch",
    summary="Which larger dims cost no more? For many at once",
    response_description="What each question got, in their order.",
    dependencies=[Depends(refuse_foreign), require(Scope.READ)],
    responses={
        200: MARKS,
        **problem_responses(
            ForeignOriginError, RequestTooLargeError, InvalidRequestError, StoreUnavailableError
        ),
    },
)
async def post_lhp_batch(
    request: Request,
    response: Response,
    questions: Annotated[
        list[Any],
        Body(
            min_length=1,
            max_length=MAX_BATCH,
            description="The questions.",
            examples=[[{"dims": "1197,317"}, {"dims": [512, 768], "dtype": "bfloat16"}]],
            json_schema_extra={"items": QUESTION_SCHEMA},
        ),
    ],
    services: ServicesDep,
    client: Client,
    wait: Annotated[
        float | SkipJsonSchema[None],
        Query(
            ge=0,
            allow_inf_nan=False,
            description="How long all questions together wait for measurements, seconds.",
        ),
    ] = None,
) -> LhpBatchAnswer:
    """Answers each question as `GET /lhp` does. Equal ones are asked once.

    A question that can't be answered has its own problem, and spoils no other. What isn't measured
    within `wait` seconds has its own sweep, which continues. A question that no longer fits into
    the host's queue has the problem `too-many-requests`: ask it again later. One that would
    have to be measured has the problem `insufficient-scope` if the token only reads.
    """
    read = [_read(question, services) for question in questions]
    outcomes = iter(
        await ask_all(
            services.asking,
            [each for each in read if not isinstance(each, LhpError)],
            wait_s=choose_wait_s(wait, services.settings.max_wait_s),
            client=client,
        )
    )
    in_order = [each if isinstance(each, LhpError) else next(outcomes) for each in read]
    mark = find_mark(services.known.age_s)
    if mark is not None:
        response.headers.update(mark.headers)
        in_order = [_marked(each, mark.age_s) for each in in_order]
    metrics: ServiceMetrics = request.app.state.metrics
    for each in in_order:
        if isinstance(each, LhpAnswer):
            metrics.find_answer_counter(each.verdict, each.settled)()
    return LhpBatchAnswer(items=await _describe(in_order, services))


def _marked(outcome: Outcome, away_s: int) -> Outcome:
    """The same; an answer says that the database is away."""
    if isinstance(outcome, LhpAnswer):
        return outcome.model_copy(update={"database_away_s": away_s})
    return outcome


def _read(question: object, services: Services) -> Asked | LhpError:
    """The question and where it is asked; or why it is none."""
    try:
        if not isinstance(question, Mapping):
            raise InvalidRequestError(
                "a question is no object", hint='write {"dims": "1197,317"}', see="/docs"
            )
        if "wait" in question:
            raise InvalidRequestError(
                "a question has no wait of its own", hint="give wait once, as a query parameter"
            )
        texts = {name: _as_text(name, value) for name, value in question.items()}
        query = LhpQuery.model_validate(texts)
        check_basis(query)
        if query.basis != "measured":
            raise InvalidRequestError(
                f"basis={query.basis} isn't for questions of a batch",
                hint="leave it out, or ask `GET /lhp` for each prediction: it takes milliseconds",
            )
        return read_lhp_question(query, services), read_where(query)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        return error_of_invalid(found)
    except LhpError as error:
        return error


def _as_text(name: str, value: object) -> str:
    """The value as it would stand in an address. Raises InvalidRequestError."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if any(type(each) not in (str, int, float) for each in values):
        raise InvalidRequestError(
            f"{name[:80]}: neither text nor a number",
            hint="leave out what has no value",
            see="/docs",
        )
    return ",".join(map(str, values))


async def _describe(outcomes: Sequence[Outcome], services: Services) -> list[LhpBatchItem]:
    sweeps = {each.id: each for each in outcomes if isinstance(each, Sweep)}
    placed = await services.queue.find_places([*sweeps.values()]) if sweeps else []
    infos = {each.sweep.id: sweep_info(each.sweep, each.place) for each in placed}
    items = []
    for outcome in outcomes:
        if isinstance(outcome, LhpAnswer):
            items.append(LhpBatchItem(status=200, answer=outcome))
        elif isinstance(outcome, Sweep):
            items.append(LhpBatchItem(status=202, sweep=infos[outcome.id]))
        else:
            problem = problem_of(outcome)
            items.append(LhpBatchItem(status=problem.status, problem=problem))
    return items
