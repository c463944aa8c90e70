"""/hosts and /platforms: the machines that measure, and their platforms."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path

from profiler_service.answering.questions import Where
from profiler_service.answering.resources import host_info, platform_info
from profiler_service.api.dependencies import SHORTENED, BoundedRoute, ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    InvalidRequestError,
    StoreUnavailableError,
    UnknownHostError,
    UnknownPlatformError,
)
from profiler_service.wire import HostInfo, PlatformInfo

router = APIRouter(route_class=BoundedRoute, tags=["hosts"])


@router.get(
    "/hosts", summary="Every host, by name", responses=problem_responses(StoreUnavailableError)
)
async def list_hosts(services: ServicesDep) -> list[HostInfo]:
    """Every host that has ever registered. A host registers when its worker starts."""
    presence_s = services.settings.presence_s
    hosts = await asyncio.to_thread(services.store.list_hosts)
    return [host_info(host, presence_s=presence_s) for host in hosts]


@router.get(
    "/hosts/{name}",
    summary="One host",
    responses=problem_responses(UnknownHostError, InvalidRequestError, StoreUnavailableError),
)
async def get_host(
    name: Annotated[str, Path(description="Name of a host.")], services: ServicesDep
) -> HostInfo:
    """The host, its platform, and whether its worker runs."""
    await services.hosts.resolve(Where(host=name))
    host = await asyncio.to_thread(services.store.get_host, name)
    return host_info(host, presence_s=services.settings.presence_s)


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
