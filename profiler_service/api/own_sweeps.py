"""/own-sweeps: sweeps of a user's own code, which the user's command measures and sends."""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.access.scopes import Scope
from profiler_service.answering.resources import sweep_info
from profiler_service.api.access import require
from profiler_service.api.dependencies import BoundedRoute, Client, ServicesDep, SweepId
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    NotReadyError,
    ReplayError,
    RequestTooLargeError,
    StoreUnavailableError,
    TooManyRequestsError,
    UnknownSweepError,
    WindowTooLargeError,
)
from profiler_service.wire import OwnBatch, OwnSweepEnd, OwnSweepRequest, SweepInfo

router = APIRouter(route_class=BoundedRoute, prefix="/own-sweeps", tags=["sweeps"])


@router.post(
    "",
    status_code=201,
    dependencies=[require(Scope.HOST)],
    summary="Begin a sweep of your own code",
    response_description="A new sweep, which runs.",
    responses=problem_responses(
        ForeignOriginError,
        RequestTooLargeError,
        InvalidRequestError,
        InvalidDimsError,
        InvalidWorkloadError,
        WindowTooLargeError,
        ConflictError,
        StoreUnavailableError,
        TooManyRequestsError,
    ),
)
async def open_own_sweep(
    request: OwnSweepRequest, services: ServicesDep, client: Client
) -> SweepInfo:
    """The caller measures it: `lhp sweep --callable` does. No code is sent, only its name."""
    return sweep_info(await services.own_sweeps.open(request, client=client))


@router.post(
    "/{sweep_id}/batches",
    dependencies=[require(Scope.HOST)],
    summary="Add a batch of samples",
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        RequestTooLargeError,
        InvalidRequestError,
        ConflictError,
        StoreUnavailableError,
    ),
)
async def add_own_batch(sweep_id: SweepId, batch: OwnBatch, services: ServicesDep) -> SweepInfo:
    """The sweep with the batch. A batch that is there already changes nothing: send it again.

    If `cancel_requested` is true, end the sweep as cancelled.
    """
    return sweep_info(await services.own_sweeps.add(sweep_id, batch))


@router.post(
    "/{sweep_id}/end",
    dependencies=[require(Scope.HOST)],
    summary="End a sweep of your own code",
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        RequestTooLargeError,
        InvalidRequestError,
        ConflictError,
        ReplayError,
        StoreUnavailableError,
        NotReadyError,
        TooManyRequestsError,
    ),
)
async def end_own_sweep(sweep_id: SweepId, end: OwnSweepEnd, services: ServicesDep) -> SweepInfo:
    """The sweep with its curve, which the service computes from the samples.

    409 if the samples don't fit the sweep's plan. Ending it again changes nothing.
    """
    return sweep_info(await services.own_sweeps.end(sweep_id, end))
