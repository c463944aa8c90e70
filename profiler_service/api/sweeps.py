"""/sweeps: starts sweeps, and shows their progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic.json_schema import SkipJsonSchema

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.admission import refuse_own_code
from profiler_service.answering.questions import Where
from profiler_service.answering.queue import PlacedSweep
from profiler_service.answering.resources import read_sweep_request, sweep_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import BoundedRoute, Client, Cursor, ServicesDep, SweepId
from profiler_service.api.locations import LOCATION_HEADER, sweep_location
from profiler_service.api.origins import refuse_foreign
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    HostAwayError,
    HostNotAdmittedError,
    HostStartingError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    NotReadyError,
    OwnCodeError,
    ReplayError,
    RequestTooLargeError,
    StoreUnavailableError,
    TooManyRequestsError,
    UnknownHostError,
    UnknownSweepError,
    UnknownWorkloadError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Sweep
from profiler_service.wire import RaceInfo, SweepInfo, SweepPage, SweepRequest

EVENT_WAIT_S = 60.0
"""How long to wait for the state of a sweep, before waiting for it again. A revoked token ends no
stream later than that."""

router = APIRouter(route_class=BoundedRoute, prefix="/sweeps", tags=["sweeps"])


@router.post(
    "",
    status_code=201,
    dependencies=[require(Scope.MEASURE)],
    summary="Measure a grid",
    response_description="A new sweep, queued.",
    responses={
        200: {
            "model": SweepInfo,
            "description": "An equal sweep is already open: this one.",
            "headers": LOCATION_HEADER,
        },
        201: {"headers": LOCATION_HEADER},
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
            HostNotAdmittedError,
            HostAwayError,
            HostStartingError,
            StoreUnavailableError,
            TooManyRequestsError,
        ),
    },
)
async def post_sweep(
    request: SweepRequest, response: Response, services: ServicesDep, client: Client
) -> SweepInfo:
    """Queues the sweep on the host and returns at once. Equal open sweeps are measured once."""
    sweep, is_new = await submit_request(request, services, client=client)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = sweep_location(sweep.id)
    return await _describe(sweep, services)


async def submit_request(
    request: SweepRequest, services: Services, *, client: str
) -> tuple[Sweep, bool]:
    """The sweep that was asked for, and whether it is new: an equal one may be open already.

    Raises what `post_sweep` lists.
    """
    spec = read_sweep_request(request)
    refuse_own_code(spec)
    where = await services.hosts.locate(Where(host=request.host))
    host = await services.hosts.choose(where, wait_s=0, spec_key=spec.key)
    admitted = await services.admission.admit(spec, host, for_question=False)
    return await services.queue.submit(admitted, client=client)


@router.get(
    "",
    summary="Sweeps, newest first",
    responses=problem_responses(UnknownHostError, InvalidRequestError, StoreUnavailableError),
)
async def list_sweeps(
    services: ServicesDep,
    host: Annotated[str | None, Query(description="Only sweeps of this host.")] = None,
    state: Annotated[
        SweepState | SkipJsonSchema[None], Query(description="Only sweeps in this state.")
    ] = None,
    mode: Annotated[
        Mode | SkipJsonSchema[None], Query(description="Only sweeps of this mode.")
    ] = None,
    cursor: Cursor = None,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Largest number of sweeps on a page.")
    ] = 50,
) -> SweepPage:
    """One page of sweeps, including those that questions have started."""
    await services.hosts.resolve(Where(host=host))
    page = await asyncio.to_thread(
        services.store.list_sweeps,
        host=host,
        state=state,
        mode=mode,
        cursor=cursor or None,
        limit=limit,
    )
    placed = await services.queue.find_places(page.items)
    return SweepPage(
        items=[sweep_info(each.sweep, each.place) for each in placed],
        next_cursor=page.next_cursor,
    )


async def _describe(sweep: Sweep, services: Services) -> SweepInfo:
    """The sweep with its place in the queue."""
    (placed,) = await services.queue.find_places([sweep])
    return sweep_info(placed.sweep, placed.place)


@router.get(
    "/{sweep_id}",
    summary="One sweep",
    responses=problem_responses(UnknownSweepError, InvalidRequestError, StoreUnavailableError),
)
async def get_sweep(sweep_id: SweepId, services: ServicesDep) -> SweepInfo:
    """The sweep, with its state, its progress, and what is ahead of it."""
    return await _describe(await services.queue.get(sweep_id), services)


@router.post(
    "/{sweep_id}/cancel",
    summary="Cancel a sweep",
    dependencies=[require(Scope.MEASURE)],
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        InvalidRequestError,
        RequestTooLargeError,
        ConflictError,
        StoreUnavailableError,
    ),
)
async def cancel_sweep(sweep_id: SweepId, services: ServicesDep) -> SweepInfo:
    """Marks the sweep to be cancelled. Points measured until then are kept."""
    cancelled = await asyncio.to_thread(
        services.store.request_cancel, sweep_id, by=current_caller()
    )
    return sweep_info(cancelled)


@router.get(
    "/{sweep_id}/race",
    summary="How a race went",
    dependencies=[Depends(refuse_foreign)],
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        ConflictError,
        ReplayError,
        InvalidRequestError,
        StoreUnavailableError,
        NotReadyError,
        TooManyRequestsError,
    ),
)
async def get_race(sweep_id: SweepId, services: ServicesDep) -> RaceInfo:
    """Each stage so far: who took part, who was kept, and why the others were dropped.

    409 if the sweep is no race, or one over too many points to be replayed.
    """
    return await services.races.get(sweep_id)


@dataclass(frozen=True, kw_only=True)
class FollowedSweep:
    """A sweep as it was when a stream began, and how it goes on."""

    placed: PlacedSweep
    look_again: Callable[[], Coroutine[Any, Any, PlacedSweep]]


async def _follow(sweep_id: SweepId, services: ServicesDep) -> AsyncIterator[FollowedSweep]:
    """The sweep, before the stream begins: an unknown one gives a 404, too many streams a 429."""
    sweep = await services.queue.get(sweep_id)
    with services.queue.follow(sweep_id, token_id=current_caller().token_id) as look_again:
        (placed,) = await services.queue.find_places([sweep])
        yield FollowedSweep(placed=placed, look_again=look_again)


@router.get(
    "/{sweep_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(refuse_foreign)],
    summary="A sweep's progress, live",
    response_description="Server-sent events: `progress` after each change, and one `end` at the"
    " end. The data of each is a SweepInfo.",
    responses=problem_responses(
        ForeignOriginError,
        UnknownSweepError,
        InvalidRequestError,
        StoreUnavailableError,
        TooManyRequestsError,
    ),
)
async def stream_sweep(
    followed: Annotated[FollowedSweep, Depends(_follow)], services: ServicesDep
) -> AsyncIterator[ServerSentEvent]:
    """Streams until the sweep has ended. While nothing changes, comments keep the stream open.

    If a stream ends without `end`, the service was stopped, or the token isn't valid any more: that
    is looked at once a minute. While the database is away, the stream stays open, and goes on when
    it is back.
    """
    token_id = current_caller().token_id
    placed = followed.placed
    told: SweepInfo | None = None
    while not placed.sweep.state.is_final:
        info = sweep_info(placed.sweep, placed.place)
        if info != told:
            yield ServerSentEvent(event="progress", data=info)
            told = info
        looking = asyncio.create_task(followed.look_again())
        try:
            await services.shutdown.wait(looking, timeout_s=EVENT_WAIT_S)
            if services.shutdown.has_begun or not services.tokens.is_valid(token_id):
                return
            if looking.done():
                placed = looking.result()
        finally:
            looking.cancel()
    yield ServerSentEvent(event="end", data=sweep_info(placed.sweep))
