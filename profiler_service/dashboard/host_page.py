"""/ui/hosts/NAME: one host, with its noise over time, its queue, and what it has learned."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from profiler_service.analysis.resolution import QUIET_EFFECT, ROUNDS
from profiler_service.answering.host_noise import NoiseLevel, list_levels
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import platform_info, sweep_info
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import ServicesDep, refuse_unknown_parameters
from profiler_service.api.hosts import HostName, describe_hosts
from profiler_service.dashboard.platform_changes import find_changes, list_replayed
from profiler_service.dashboard.predictions import list_learned
from profiler_service.dashboard.rendering import count, format_percent, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.plan.spec import SweepState
from profiler_service.plots.history import HistoryPoint, history_figure
from profiler_service.storage.store import FactFilter, Host, Sweep
from profiler_service.wire import SweepInfo

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/hosts",
    include_in_schema=False,
    dependencies=[Depends(refuse_unknown_parameters)],
)

MAX_FACTS = 500
"""So many of the newest facts are looked at. A race has a few."""
SHOWN_SWEEPS = 50
"""Of the queue."""


@dataclass(frozen=True, kw_only=True)
class HostNoise:
    """The noise of a host over time, race by race, the oldest first."""

    host: Host
    levels: Sequence[NoiseLevel]

    @property
    def newest(self) -> NoiseLevel | None:
        """That of the newest race; None if the host has been another platform since, or without."""
        if not self.levels:
            return None
        newest = self.levels[-1]
        now = (self.host.platform_key, self.host.protocol_key)
        return newest if (newest.platform_key, newest.protocol_key) == now else None

    @property
    def title(self) -> str:
        """What it shows, as a sentence without a full stop."""
        name = self.host.name
        if self.newest is None:
            return f"How noisy {name} is isn't known yet"
        said = f"{name} resolves differences of {format_percent(self.newest.effect)}"
        noisy = sum(not level.is_quiet for level in self.levels)
        if not noisy:
            return f"{said}, and was quiet in {count(len(self.levels), 'race')}"
        return f"{said}, and was too noisy in {noisy:,} of {count(len(self.levels), 'race')}"


async def _read_noise(name: str, services: Services) -> HostNoise:
    """The noise of the host. Raises UnknownHostError."""
    await services.hosts.resolve(Where(host=name))
    host = await asyncio.to_thread(services.store.get_host, name)
    page = await asyncio.to_thread(
        services.store.list_facts, FactFilter(host=name), limit=MAX_FACTS
    )
    return HostNoise(host=host, levels=list_levels(page.items))


async def _list_queue(name: str, services: Services) -> list[SweepInfo]:
    """The host's open sweeps in the order in which they are expected to be measured."""
    open_sweeps: list[Sweep] = []
    for state in (SweepState.RUNNING, SweepState.QUEUED):
        page = await asyncio.to_thread(
            services.store.list_sweeps, host=name, state=state, limit=SHOWN_SWEEPS
        )
        open_sweeps += page.items
    placed = await services.queue.find_places(open_sweeps)
    infos = [sweep_info(each.sweep, each.place) for each in placed if each.place is not None]
    return sorted(infos, key=lambda info: info.ahead or 0)[:SHOWN_SWEEPS]


@router.get("/{name:host}")
async def show_host(request: Request, name: HostName, services: ServicesDep) -> Response:
    """The host's noise, its queue, and what an operator should know of it."""
    noise = await _read_noise(name, services)
    [info] = await describe_hosts([noise.host], services)
    platform = await asyncio.to_thread(services.store.get_platform, noise.host.platform_key)
    return render(
        request,
        "host.html",
        info=info,
        platform=platform_info(platform),
        noise=noise,
        levels=list(reversed(noise.levels)),
        changes=await find_changes(noise.levels, services.store),
        learned=await list_learned(noise.host, services.store),
        replayed=await list_replayed(noise.host, services.store),
        queue=await _list_queue(name, services),
        rounds=ROUNDS,
    )


@router.get("/{name:host}/noise")
async def draw_noise(name: HostName, services: ServicesDep) -> Response:
    """The figure of the host's noise over time."""
    noise = await _read_noise(name, services)
    points = [
        HistoryPoint(time=level.measured_at, value=level.effect, is_noisy=not level.is_quiet)
        for level in noise.levels
    ]
    changes = await find_changes(noise.levels, services.store)
    figure = history_figure(
        points, title=noise.title, quantity="share", changes=changes, limit=QUIET_EFFECT
    )
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")
