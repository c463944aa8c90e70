"""What is predicted: `GET /lhp` with a basis, and `GET /curves/predicted`."""

from __future__ import annotations

import csv
import io

from fastapi import APIRouter, Request
from fastapi.responses import Response

from profiler_service.answering.fleet import read_label
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.predicted import answer_any, predict_answer, predict_curve
from profiler_service.answering.questions import Where
from profiler_service.answering.services import Services
from profiler_service.api.compression import CompressingRoute
from profiler_service.api.dependencies import (
    ServicesDep,
    identify_client,
    parse_query,
    query_parameters,
)
from profiler_service.api.locations import sweep_location
from profiler_service.api.problems import problem_responses
from profiler_service.api.ready_responses import ReadyResponse, count_nothing
from profiler_service.errors import (
    HostAwayError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    StoreUnavailableError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownWorkloadError,
    WindowTooLargeError,
)
from profiler_service.telemetry.metrics import ServiceMetrics
from profiler_service.wire import (
    LhpAnswer,
    LhpQuery,
    PredictedCurve,
    PredictedCurveQuery,
)

router = APIRouter(route_class=CompressingRoute, prefix="/curves", tags=["curves"])


async def respond_predicted(
    request: Request, services: Services, question: LhpQuestion, where: Where, query: LhpQuery
) -> Response:
    """200 with the predicted answer; for any basis, with the measured one if it is known.

    Nothing of it is kept ready-made: what is predicted changes when the model has learned.
    """
    moves_unproven = query.unproven == "move"
    if query.basis == "predicted":
        predicted = await predict_answer(services, question, where, moves_unproven=moves_unproven)
        return _send(predicted.model_dump_json(), services)
    answer = await answer_any(
        services,
        question,
        where,
        moves_unproven=moves_unproven,
        client=identify_client(request),
    )
    if isinstance(answer, LhpAnswer):
        metrics: ServiceMetrics = request.app.state.metrics
        metrics.find_answer_counter(answer.verdict, answer.settled)()
    response = _send(answer.model_dump_json(), services)
    if not isinstance(answer, LhpAnswer) and answer.sweep is not None:
        response.headers["Location"] = sweep_location(answer.sweep)
    return response


def _send(body: str, services: Services) -> Response:
    return ReadyResponse(body.encode(), count_nothing).send(age_s=services.known.age_s)


@router.get(
    "/predicted",
    response_model=PredictedCurve,
    summary="The predicted landscape of a window",
    response_description="The landscape as JSON, or its points as CSV.",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problem_responses(
            InvalidRequestError,
            InvalidDimsError,
            InvalidWorkloadError,
            WindowTooLargeError,
            UnknownWorkloadError,
            UnknownHostError,
            UnknownPlatformError,
            HostAwayError,
            StoreUnavailableError,
        ),
    },
    openapi_extra={"parameters": query_parameters(PredictedCurveQuery)},
)
async def get_predicted_curve(request: Request, services: ServicesDep) -> Response:
    """What the host's model predicts of every point above `dims`. Measures nothing.

    `standing`, `calibration` and `distance` say how far it can be believed. Rows of the CSV are the
    points: their dims, `speedup` and `deviation`, the last one empty if it is null.
    """
    query = parse_query(request, PredictedCurveQuery)
    question = LhpQuestion.parse(
        dims=query.dims,
        workload=query.workload,
        fixed_parameters=query.fixed_parameters,
        prefer="fastest",
        effort="quick",
        max_growth=query.max_growth,
        multiple_of=query.multiple_of,
        limits=services.admission.limits,
    )
    label = None if query.label is None else read_label(query.label)
    curve = await predict_curve(
        services,
        question,
        Where(host=query.host, platform=query.platform, label=label),
        max_points=query.max_points,
    )
    if query.format == "csv":
        return Response(_write_csv(curve), media_type="text/csv")
    return _send(curve.model_dump_json(), services)


def _write_csv(curve: PredictedCurve) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*curve.axis_names, "speedup", "deviation"])
    points = curve.points
    for place, (dims, speedup) in enumerate(zip(points.dims, points.speedup, strict=True)):
        deviation = "" if points.deviation is None else points.deviation[place]
        writer.writerow([*dims, speedup, deviation])
    return table.getvalue()
