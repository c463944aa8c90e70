"""/facts: the pairs of points that races have confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request

from profiler_service.answering.fact_filter import read_fact_filter
from profiler_service.answering.questions import Where
from profiler_service.answering.repeatability import read_repeatability
from profiler_service.answering.resources import fact_info
from profiler_service.api.dependencies import (
    BoundedRoute,
    ServicesDep,
    parse_query,
    query_parameters,
)
from profiler_service.api.problems import problem_responses
from profiler_service.errors import (
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    StoreUnavailableError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownWorkloadError,
)
from profiler_service.kinds import get_workload_kind
from profiler_service.storage.store import Fact, FactFilter, Store
from profiler_service.wire import FactPage, FactsQuery, RepeatabilityInfo

router = APIRouter(route_class=BoundedRoute, prefix="/facts", tags=["facts"])


@router.get(
    "",
    response_model=FactPage,
    summary="Facts, newest first",
    responses=problem_responses(
        UnknownWorkloadError,
        InvalidWorkloadError,
        InvalidDimsError,
        UnknownHostError,
        UnknownPlatformError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
    openapi_extra={"parameters": query_parameters(FactsQuery)},
)
async def list_facts(request: Request, services: ServicesDep) -> FactPage:
    """One page of confirmed pairs, and how well such pairs repeat.

    Answers to `GET /lhp` with `prefer=fastest` come from the facts of the window, unless a grid
    answers. Facts that later ones overrule stay in the list.
    """
    query = parse_query(request, FactsQuery)
    await services.known.refresh()
    where = await services.hosts.resolve(Where(host=query.host, platform=query.platform))
    wanted = read_fact_filter(query, platform_key=where.platform)
    store = services.store
    page = await asyncio.to_thread(
        store.list_facts, wanted, cursor=query.cursor or None, limit=query.limit
    )
    if query.workload is not None and not page.items:
        # The facts of a kind stay when its package is gone: only without facts it is unknown.
        of_kind = await asyncio.to_thread(
            store.list_facts, FactFilter(kind=query.workload), limit=1
        )
        if not of_kind.items:
            get_workload_kind(query.workload)
    overruled = await asyncio.to_thread(store.find_overruled, [fact.id for fact in page.items])
    hosts = services.known.curves.snapshot.hosts
    return FactPage(
        items=[
            fact_info(fact, hosts.get(fact.host), contradicts=overruled.get(fact.id, ()))
            for fact in page.items
        ],
        next_cursor=page.next_cursor,
        repeatability=await asyncio.to_thread(_read_repeatability, store, page.items),
    )


def _read_repeatability(store: Store, facts: Sequence[Fact]) -> list[RepeatabilityInfo]:
    groups = {(fact.workload.kind, fact.platform_key, fact.protocol_key): None for fact in facts}
    found = []
    for kind, platform, protocol in groups:
        read = read_repeatability(store, kind, platform, protocol)
        found.append(
            RepeatabilityInfo(
                workload=kind,
                platform=platform,
                protocol=protocol,
                tau=read.tau,
                num_repeats=read.num_repeats,
                tau_between_arenas=read.tau_between_arenas,
            )
        )
    return found
