"""/ui/curves: every measured curve, and each with its figure and its points."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from profiler_service.analysis.curve import PointStatus
from profiler_service.answering.curve_formats import curve_detail
from profiler_service.answering.curve_reading import list_curves
from profiler_service.answering.downsampling import choose_points
from profiler_service.answering.resources import curve_info, is_stale, platform_info
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import CurveId, ServicesDep
from profiler_service.dashboard.files import KEPT
from profiler_service.dashboard.given import parse_given, read_given
from profiler_service.dashboard.rendering import count, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import InvalidRequestError
from profiler_service.kinds import workload_kinds
from profiler_service.plan.modes import MODES
from profiler_service.plots.curve import curve_figure, describe_finding
from profiler_service.plots.figure import Scale, View
from profiler_service.plots.text import format_redundancy, format_undecided
from profiler_service.plots.thumbnail import thumbnail
from profiler_service.wire import CurveDetail, CurvesQuery
from profiler_service.workload import DTYPE_SIZES_BYTES, parse_dims

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/curves",
    include_in_schema=False,
)

SHOWN = 25
"""Curves on a page."""
MAX_ROWS = 500
"""About so many points in the table of a curve. Its files have all."""
MAX_DRAWN = 20_000
"""About so many points in a figure: more than a screen can show."""
MOST_MARKS = 200


@router.get("")
async def show_curves(request: Request, services: ServicesDep) -> Response:
    """A page of curves: those that the filter lets through, in the order asked for."""
    given = read_given(request)
    query = parse_given(CurvesQuery, given).model_copy(update={"limit": SHOWN})
    page = await list_curves(services, query)
    snapshot, curves = services.known.curves.snapshot, page.items
    return render(
        request,
        "curves.html",
        curves=curves,
        redundancy=format_redundancy,
        following={**given, "cursor": page.next_cursor} if page.next_cursor else None,
        kinds=list(workload_kinds()),
        hosts=sorted(snapshot.hosts),
        platforms={key: each.device_model for key, each in sorted(snapshot.platforms.items())},
        modes=list(MODES),
        dtypes=list(DTYPE_SIZES_BYTES),
        given=given,
        title="What has been measured" if curves else "No curve is like that",
        narrowed=bool(given),
    )


@router.get("/{curve_id}/thumbnail")
async def draw_thumbnail(curve_id: CurveId, services: ServicesDep) -> Response:
    """The curve as a small picture for lists. Of several axes, along the first one."""
    curve = await services.known.curves.load_curve(curve_id)
    latency_s = curve.latency_s.reshape(curve.grid.shape)
    along = np.nanmin(
        np.where(np.isfinite(latency_s), latency_s, np.inf),
        axis=tuple(range(1, latency_s.ndim)),
    )
    is_lhp = (curve.status == PointStatus.LHP) if latency_s.ndim == 1 else np.zeros(len(along))
    picture = thumbnail(
        [float(each) if np.isfinite(each) else None for each in along],
        marks=np.flatnonzero(is_lhp)[:MOST_MARKS].tolist(),
    )
    return Response(picture, media_type="image/svg+xml", headers=KEPT)


async def _load(curve_id: str, services: Services, *, max_points: int) -> CurveDetail:
    """The curve with about so many of its points, among them all LHPs."""
    store = services.store
    header = await asyncio.to_thread(store.get_curve_header, curve_id)
    curve = await services.known.curves.load_curve(curve_id)
    header = replace(header, num_lhps=curve.num_lhps)
    stale = is_stale(header, await asyncio.to_thread(store.get_host, header.host))
    info = curve_info(header, stale=stale)
    return await asyncio.to_thread(
        lambda: curve_detail(curve, info, choose_points(curve, max_points))
    )


@router.get("/{curve_id}")
async def show_curve(request: Request, curve_id: CurveId, services: ServicesDep) -> Response:
    """The finding, its figure, and the points as a table."""
    curve = await _load(curve_id, services, max_points=MAX_ROWS)
    platform = await asyncio.to_thread(services.store.get_platform, curve.platform)
    points = curve.points
    rows = list(
        zip(
            points.dims,
            points.latency_s,
            points.low_s,
            points.high_s,
            points.num_samples,
            points.status,
            points.rival,
            points.ratio,
            strict=True,
        )
    )
    return render(
        request,
        "curve.html",
        curve=curve,
        platform=platform_info(platform),
        title=describe_finding(curve),
        redundancy=format_redundancy(curve),
        undecided=format_undecided(curve),
        rows=rows,
        num_more=curve.num_measured - len(rows),
        points=count(curve.num_measured, "point"),
    )


@router.get("/{curve_id}/figure")
async def draw_curve(
    curve_id: CurveId,
    services: ServicesDep,
    view: View = "latency",
    scale: Scale = "linear",
    asked: Annotated[str, Query(max_length=200)] = "",
    answer: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The curve's figure, as plotly.js takes it."""
    curve = await _load(curve_id, services, max_points=MAX_DRAWN)
    if len(curve.axes) > 2:
        raise InvalidRequestError(
            "a curve of more than two axes has no figure", hint="its files have all points"
        )
    platform = await asyncio.to_thread(services.store.get_platform, curve.platform)
    figure = await asyncio.to_thread(
        lambda: curve_figure(
            curve,
            platform=platform_info(platform),
            view=view,
            scale=scale,
            asked=parse_dims(asked) if asked else None,
            answer=parse_dims(answer) if answer else None,
        )
    )
    return Response(
        json.dumps(figure, separators=(",", ":")),
        media_type="application/json",
        headers={"Cache-Control": "private, max-age=300"},
    )
