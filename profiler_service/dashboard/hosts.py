"""/ui/hosts: every host with its state; operators approve, drain, label and remove them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.host_noise import NoiseLevel, find_newest
from profiler_service.answering.resources import platform_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import ServicesDep
from profiler_service.api.hosts import HostName, describe_hosts
from profiler_service.dashboard.given import read_form
from profiler_service.dashboard.rendering import is_part, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import InvalidRequestError
from profiler_service.plan.turns import OpenSweep
from profiler_service.storage.store import HostStatus
from profiler_service.wire import HostChange, HostInfo, HostState, PlatformInfo

router = APIRouter(route_class=PageRoute, prefix="/ui/hosts", include_in_schema=False)

TONES = {
    HostState.READY: "faster",
    HostState.BUSY: "faster",
    HostState.PENDING: "undecided",
    HostState.DRAINING: "undecided",
    HostState.QUARANTINED: "slower",
}
"""Colour of each state; grey for the others."""


@dataclass(frozen=True, kw_only=True)
class HostRow:
    """A host as the page lists it."""

    info: HostInfo
    platform: PlatformInfo
    queue: HostQueue
    noise: NoiseLevel | None
    """That of its newest race on its platform of now; None without one."""
    tone: str


@dataclass(frozen=True, kw_only=True)
class HostQueue:
    """How much a host has to measure."""

    num_begun: int
    num_waiting: int
    left_s: float
    """Expected measuring time of all."""

    @classmethod
    def of(cls, sweeps: Collection[OpenSweep]) -> HostQueue:
        """That of a host with these open sweeps."""
        num_begun = sum(each.progress is not None for each in sweeps)
        return cls(
            num_begun=num_begun,
            num_waiting=len(sweeps) - num_begun,
            left_s=sum(each.left_s() for each in sweeps),
        )

    def __str__(self) -> str:
        begun = f"{self.num_begun:,} measuring" if self.num_begun else ""
        waiting = f"{self.num_waiting:,} waiting" if self.num_waiting else ""
        return ", ".join(filter(None, [begun, waiting])) or "empty"


async def _list_rows(services: Services) -> list[HostRow]:
    hosts = [
        host
        for host in await asyncio.to_thread(services.store.list_hosts)
        if host.status is not HostStatus.RETIRED
    ]
    found = {each.key: each for each in await asyncio.to_thread(services.store.list_platforms)}
    names = [host.name for host in hosts]
    opened = await asyncio.to_thread(services.store.find_open_of, names)
    noise = find_newest(await asyncio.to_thread(services.store.find_newest_noise, names))
    return [
        HostRow(
            info=info,
            platform=platform_info(found[host.platform_key]),
            queue=HostQueue.of([sweep for _, sweep in opened.get(host.name, ())]),
            noise=noise.get((host.name, host.platform_key, host.protocol_key)),
            tone=TONES.get(HostState(info.state or ""), ""),
        )
        for host, info in zip(hosts, await describe_hosts(hosts, services), strict=True)
    ]


def describe_fleet(rows: list[HostRow]) -> str:
    """How many hosts can measure, as a sentence."""
    if not rows:
        return "No host has joined yet"
    able = sum(row.info.state in (HostState.READY, HostState.BUSY) for row in rows)
    if len(rows) == 1:
        return f"{rows[0].info.name} is {rows[0].info.state}"
    if able == len(rows):
        return f"All {able} hosts are ready"
    return f"{able or 'None'} of {len(rows)} hosts {'is' if able == 1 else 'are'} ready"


@router.get("")
async def show_hosts(request: Request, services: ServicesDep) -> Response:
    """Every host that hasn't been removed, and what an operator should know of it."""
    rows = await _list_rows(services)
    template = "part_hosts.html" if is_part(request) else "hosts.html"
    return render(request, template, rows=rows, title=describe_fleet(rows))


@router.post("/{name:host}", dependencies=[require(Scope.ADMIN)])
async def change_host(name: HostName, request: Request, services: ServicesDep) -> Response:
    """The page again, after the change that its form asked for."""
    form = {name: values[0] for name, values in (await read_form(request)).items()}
    if form.get("remove") == name:
        await asyncio.to_thread(services.store.remove_host, name, by=current_caller())
    else:
        change = _read_change(form)
        await asyncio.to_thread(
            services.store.change_host,
            name,
            new_name=change.name,
            labels=change.labels,
            status=None if change.status is None else HostStatus(change.status),
            split_to=change.split_to,
            by=current_caller(),
        )
    return RedirectResponse("../hosts", status_code=303)


def _read_change(form: dict[str, str]) -> HostChange:
    """The change that a form asks for. Raises InvalidRequestError, RequestValidationError."""
    if "status" in form:
        return HostChange.model_validate({"status": form["status"]})
    if "labels" in form:
        pairs = [each.partition("=") for each in form["labels"].split()]
        if not all(name and equals and value for name, equals, value in pairs):
            raise InvalidRequestError(
                f"{form['labels'][:80]!r} are no labels",
                hint="write each as NAME=VALUE, with spaces between them: pool=train rack=4",
            )
        return HostChange.model_validate({"labels": {name: value for name, _, value in pairs}})
    raise InvalidRequestError("the form asks for nothing", hint="use the buttons of the page")
