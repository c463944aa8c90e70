"""/ui/sweeps: running and ended sweeps, and how a race went."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import sweep_info
from profiler_service.api.access import require
from profiler_service.api.dependencies import (
    Cursor,
    ServicesDep,
    SweepId,
    refuse_unknown_parameters,
)
from profiler_service.api.origins import refuse_foreign
from profiler_service.dashboard.rendering import count, is_part, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.dashboard.stages import describe_race, list_stages
from profiler_service.errors import ConflictError, ReplayError
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepState

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/sweeps",
    include_in_schema=False,
    dependencies=[Depends(refuse_unknown_parameters)],
)

SHOWN = 25
"""Sweeps on a page."""
TONES = {"running": "undecided", "done": "faster", "failed": "slower"}


@router.get("")
async def show_sweeps(
    request: Request,
    services: ServicesDep,
    host: str | None = None,
    state: Annotated[SweepState | None, Query()] = None,
    cursor: Cursor = None,
) -> Response:
    """A page of sweeps, newest first."""
    await services.hosts.resolve(Where(host=host))
    page = await asyncio.to_thread(
        services.store.list_sweeps, host=host, state=state, cursor=cursor or None, limit=SHOWN
    )
    placed = await services.queue.find_places(page.items)
    sweeps = [sweep_info(each.sweep, each.place) for each in placed]
    num_open = sum(not each.is_final for each in sweeps)
    title = f"{count(num_open, 'sweep')} under way" if num_open else "Nothing is being measured"
    return render(
        request,
        "part_sweeps.html" if is_part(request) else "sweeps.html",
        sweeps=sweeps,
        next_cursor=page.next_cursor,
        title=title,
        tones=TONES,
        states=list(SweepState),
        chosen=state,
        host=host,
        cursor=cursor,
    )


@router.get("/{sweep_id}")
async def show_sweep(request: Request, sweep_id: SweepId, services: ServicesDep) -> Response:
    """One sweep, live while it goes on."""
    sweep = await services.queue.get(sweep_id)
    (placed,) = await services.queue.find_places([sweep])
    info = sweep_info(placed.sweep, placed.place)
    return render(
        request,
        "part_sweep.html" if is_part(request) else "sweep.html",
        sweep=info,
        is_race=MODES[info.mode].is_race,
        tones=TONES,
    )


@router.get("/{sweep_id}/race", dependencies=[Depends(refuse_foreign)])
async def show_race(
    request: Request, sweep_id: SweepId, services: ServicesDep, brief: bool = False
) -> Response:
    """The stages of a race, as bars in a table; if `brief`, one for all of a kind in a row."""
    template = "part_race.html" if is_part(request) else "race.html"
    show = functools.partial(render, request, template, sweep_id=sweep_id)
    try:
        race = await services.races.get(sweep_id)
    except (ConflictError, ReplayError) as error:
        return show(race=None, title="How it was found", why=str(error))
    stages = list_stages(race, brief=brief)
    return show(race=race, title=describe_race(stages), stages=stages)


@router.post("/{sweep_id}/cancel", dependencies=[require(Scope.MEASURE)])
async def cancel(sweep_id: SweepId, services: ServicesDep) -> Response:
    """The sweep's page, after it was asked to stop."""
    await asyncio.to_thread(services.store.request_cancel, sweep_id, by=current_caller())
    return RedirectResponse(f"../{sweep_id}", status_code=303)
