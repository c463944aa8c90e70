"""/hosts and /platforms: the machines that measure, and their platforms."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.convertors import StringConvertor, register_url_convertor

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.host_states import host_info
from profiler_service.answering.platform_changes import read_changes, read_offered
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import platform_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import SHORTENED, BoundedRoute, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    ConflictError,
    ForeignOriginError,
    InvalidRequestError,
    RequestTooLargeError,
    StoreUnavailableError,
    UnknownHostError,
    UnknownPlatformError,
)
from profiler_service.host_name import TAKEN
from profiler_service.storage.store import Host, HostStatus
from profiler_service.wire import HostChange, HostInfo, PlatformInfo

router = APIRouter(route_class=BoundedRoute, tags=["hosts"])


class _NameConvertor(StringConvertor):
    """A name that a host can have: `api.joining` has the other addresses below `/hosts`."""

    regex = f"(?!(?:{'|'.join(TAKEN)})$)[^/]+"


register_url_convertor("host", _NameConvertor())

HostName = Annotated[str, Path(description="Name of a host.")]


async def _info(host: Host, services: Services) -> HostInfo:
    return (await describe_hosts([host], services))[0]


async def describe_hosts(hosts: Sequence[Host], services: Services) -> list[HostInfo]:
    """The hosts as resources, each with what the last change of its platform changed.

    Each is compared with the others of its platform.
    """
    busy = await asyncio.to_thread(services.store.find_busy_hosts)
    changes = await asyncio.to_thread(read_changes, services.store, hosts)
    offered = await asyncio.to_thread(read_offered, services.store, hosts)
    compared = await asyncio.to_thread(services.canaries.compare)
    presence_s = services.settings.presence_s
    return [
        host_info(
            host,
            presence_s=presence_s,
            is_busy=host.name in busy,
            comparison=compared.get(host.name),
            change=changes.get(host.name),
            offered=offered.get(host.name, ""),
        )
        for host in hosts
    ]


@router.get(
    "/hosts", summary="Every host, by name", responses=problem_responses(StoreUnavailableError)
)
async def list_hosts(
    services: ServicesDep,
    retired: Annotated[bool, Query(description="Also those that were removed.")] = False,
) -> list[HostInfo]:
    """Every host that has joined or registered. A host registers when its worker starts."""
    hosts = await asyncio.to_thread(services.store.list_hosts)
    listed = [host for host in hosts if retired or host.status is not HostStatus.RETIRED]
    return await describe_hosts(listed, services)


@router.get(
    "/hosts/{name:host}",
    summary="One host",
    responses=problem_responses(UnknownHostError, InvalidRequestError, StoreUnavailableError),
)
async def get_host(name: HostName, services: ServicesDep) -> HostInfo:
    """The host, its platform, and whether its worker runs."""
    await services.hosts.resolve(Where(host=name))
    return await _info(await asyncio.to_thread(services.store.get_host, name), services)


@router.patch(
    "/hosts/{name:host}",
    summary="Approve, drain, label, rename or split a host",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError,
        UnknownHostError,
        ConflictError,
        RequestTooLargeError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
)
async def change_host(name: HostName, change: HostChange, services: ServicesDep) -> HostInfo:
    """The host as it is after the change; with `split_to`, the new one.

    A host is renamed while its worker is stopped.
    """
    host = await asyncio.to_thread(
        services.store.change_host,
        name,
        new_name=change.name,
        labels=change.labels,
        status=None if change.status is None else HostStatus(change.status),
        split_to=change.split_to,
        by=current_caller(),
    )
    return await _info(host, services)


@router.delete(
    "/hosts/{name:host}",
    summary="Remove a host",
    dependencies=[require(Scope.ADMIN)],
    responses=problem_responses(
        ForeignOriginError, UnknownHostError, InvalidRequestError, StoreUnavailableError
    ),
)
async def remove_host(name: HostName, services: ServicesDep) -> HostInfo:
    """The host, retired: its worker ends, and its open sweeps fail. Its curves and facts stay."""
    host = await asyncio.to_thread(services.store.remove_host, name, by=current_caller())
    return await _info(host, services)


@router.get(
    "/platforms", summary="Every platform", responses=problem_responses(StoreUnavailableError)
)
async def list_platforms(services: ServicesDep) -> list[PlatformInfo]:
    """Every platform that was ever registered, oldest first.

    A platform is everything besides the workload that latencies depend on.
    """
    return [platform_info(each) for each in await asyncio.to_thread(services.store.list_platforms)]


@router.get(
    "/platforms/{key}",
    summary="One platform",
    responses=problem_responses(UnknownPlatformError, InvalidRequestError, StoreUnavailableError),
)
async def get_platform(
    key: Annotated[str, Path(description=f"Key of a platform, {SHORTENED}.")],
    services: ServicesDep,
) -> PlatformInfo:
    """The platform with that key."""
    await services.known.refresh()
    where = await services.hosts.resolve(Where(platform=key))
    whole = where.platform or key
    return platform_info(await asyncio.to_thread(services.store.get_platform, whole))
