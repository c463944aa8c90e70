"""/fleet-sweeps: the same sweep on every host with a label."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.fleet import read_label
from profiler_service.answering.resources import read_sweep_request, sweep_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import BoundedRoute, Client, Cursor, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ForeignOriginError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    OwnCodeError,
    RequestTooLargeError,
    StoreUnavailableError,
    TooManyRequestsError,
    UnknownHostError,
    UnknownSweepError,
    UnknownWorkloadError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.storage.records import FleetSweep
from profiler_service.wire import FleetSweepInfo, FleetSweepPage, FleetSweepRequest

router = APIRouter(route_class=BoundedRoute, prefix="/fleet-sweeps", tags=["sweeps"])

FleetSweepId = Annotated[str, Path(description="Id of a fleet sweep.")]


@router.post(
    "",
    status_code=201,
    summary="Measure a grid on every host with a label",
    response_description="A new fleet sweep, queued on each host.",
    dependencies=[require(Scope.MEASURE)],
    responses={
        200: {"model": FleetSweepInfo, "description": "An equal one is already open: this one."},
        **problem_responses(
            ForeignOriginError,
            UnknownWorkloadError,
            UnknownHostError,
            RequestTooLargeError,
            InvalidRequestError,
            InvalidDimsError,
            InvalidWorkloadError,
            WindowTooLargeError,
            UnsupportedOnHostError,
            OwnCodeError,
            StoreUnavailableError,
            TooManyRequestsError,
        ),
    },
)
async def post_fleet_sweep(
    request: FleetSweepRequest, response: Response, services: ServicesDep, client: Client
) -> FleetSweepInfo:
    """Queues the sweep on each host that has the label now and takes sweeps, and returns at once.

    It is queued on all of them, or on none. A host that is away begins when it is back. Hosts that
    get the label later have no part in it.
    """
    if request.host is not None:
        raise InvalidRequestError(
            "a fleet sweep is for every host with the label", hint="leave out `host`, or `label`"
        )
    spec = read_sweep_request(request)
    label = read_label(request.label)
    hosts = [each for each in await services.hosts.list_labelled(label) if each.status.takes_sweeps]
    if not hosts:
        raise UnknownHostError(
            f"no host with the label {':'.join(label)} takes sweeps",
            hint="they are drained; choose another label",
            see="/hosts",
        )
    admitted = [await services.admission.admit(spec, host, for_question=False) for host in hosts]
    sweep, is_new = await services.queue.submit_fleet(":".join(label), admitted, client=client)
    response.status_code = 201 if is_new else 200
    return await _describe(sweep, services)


@router.get(
    "",
    summary="Fleet sweeps, newest first",
    responses=problem_responses(InvalidRequestError, StoreUnavailableError),
)
async def list_fleet_sweeps(
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[
        int, Query(ge=1, le=100, description="Largest number of fleet sweeps on a page.")
    ] = 20,
) -> FleetSweepPage:
    """One page of the sweeps of several hosts, each with those of its hosts."""
    page = await asyncio.to_thread(
        services.store.list_fleet_sweeps, cursor=cursor or None, limit=limit
    )
    return FleetSweepPage(
        items=[await _describe(each, services) for each in page.items],
        next_cursor=page.next_cursor,
    )


@router.get(
    "/{fleet_sweep_id}",
    summary="One fleet sweep",
    responses=problem_responses(UnknownSweepError, InvalidRequestError, StoreUnavailableError),
)
async def get_fleet_sweep(fleet_sweep_id: FleetSweepId, services: ServicesDep) -> FleetSweepInfo:
    """The fleet sweep, with the state and the progress on each host."""
    return await _describe(
        await asyncio.to_thread(services.store.get_fleet_sweep, fleet_sweep_id), services
    )


@router.post(
    "/{fleet_sweep_id}/cancel",
    summary="Cancel a fleet sweep",
    dependencies=[require(Scope.MEASURE)],
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        InvalidRequestError,
        RequestTooLargeError,
        StoreUnavailableError,
    ),
)
async def cancel_fleet_sweep(fleet_sweep_id: FleetSweepId, services: ServicesDep) -> FleetSweepInfo:
    """Marks the sweep of each host to be cancelled. Points measured until then are kept."""
    cancelled = await asyncio.to_thread(
        services.store.cancel_fleet_sweep, fleet_sweep_id, by=current_caller()
    )
    return await _describe(cancelled, services)


async def _describe(sweep: FleetSweep, services: Services) -> FleetSweepInfo:
    placed = await services.queue.find_places(sweep.sweeps)
    return FleetSweepInfo(
        id=sweep.id,
        label=sweep.label,
        state=sweep.state.value,
        created_at=sweep.created_at,
        fraction=sweep.fraction,
        sweeps=[sweep_info(each.sweep, each.place) for each in placed],
    )
