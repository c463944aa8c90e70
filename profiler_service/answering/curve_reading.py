"""Reads curves for routes and pages alike: lists of them, and several compared. Knows no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from profiler_service.answering.curve_comparison import compare_curves
from profiler_service.answering.curve_filter import read_curve_filter, read_curve_order
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import curve_info
from profiler_service.answering.services import Services
from profiler_service.kinds import get_workload_kind
from profiler_service.storage.store import CurveFilter, CurveHeader
from profiler_service.wire import CurveComparison, CurvePage, CurvesQuery


async def list_curves(services: Services, query: CurvesQuery) -> CurvePage:
    """The page of curves that the query asks for.

    Raises UnknownWorkloadError, InvalidWorkloadError, UnknownHostError, UnknownPlatformError,
    InvalidRequestError, StoreError.
    """
    await services.known.refresh()
    where = await services.hosts.resolve(Where(host=query.host, platform=query.platform))
    snapshot = services.known.curves.snapshot
    wanted = read_curve_filter(query, platform_key=where.platform, platforms=snapshot.platforms)
    page = await asyncio.to_thread(
        services.store.list_curves,
        wanted,
        order=read_curve_order(query),
        cursor=query.cursor or None,
        limit=query.limit,
    )
    if query.workload is not None and not page.items:
        # The curves of a kind stay when its package is gone: only without curves it is unknown.
        of_kind = await asyncio.to_thread(
            services.store.list_curves, CurveFilter(kind=query.workload), limit=1
        )
        if not of_kind.items:
            get_workload_kind(query.workload)
    return CurvePage(
        items=[curve_info(header, stale=snapshot.is_stale(header)) for header in page.items],
        next_cursor=page.next_cursor,
    )


async def compare_stored(
    services: Services, headers: Sequence[CurveHeader], *, max_points: int
) -> CurveComparison:
    """These curves, which are comparable, the others with the first one. Raises StoreError."""
    snapshot = services.known.curves.snapshot
    curves = [await asyncio.to_thread(services.store.load_curve, each.id) for each in headers]
    return await asyncio.to_thread(
        compare_curves,
        [
            # The header of a curve that was kept before there were edges counts them as LHPs.
            replace(header, num_lhps=curve.num_lhps)
            for header, curve in zip(headers, curves, strict=True)
        ],
        curves,
        is_stale={each.id: snapshot.is_stale(each) for each in headers},
        platforms=snapshot.platforms,
        max_points=max_points,
    )
