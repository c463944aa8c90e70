"""/ui/curves: every measured curve, and each with its figure and its points."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from profiler_service.analysis.curve import PointStatus
from profiler_service.answering.curve_formats import curve_detail
from profiler_service.answering.curve_reading import list_curves
from profiler_service.answering.downsampling import choose_drawn
from profiler_service.answering.resources import curve_info, is_stale, platform_info
from profiler_service.api.compression import CompressingRoute
from profiler_service.api.dependencies import CurveId, ServicesDep
from profiler_service.dashboard.figures import FigureKey, KeptFigures, describe_excerpt
from profiler_service.dashboard.files import KEPT, send_compressed
from profiler_service.dashboard.given import parse_given, read_given
from profiler_service.dashboard.rendering import count, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.kinds import CALLABLE, workload_kinds
from profiler_service.plan.modes import MODES
from profiler_service.plots.curve import describe_finding
from profiler_service.plots.figure import Scale, View
from profiler_service.plots.text import format_redundancy, format_undecided
from profiler_service.plots.thumbnail import thumbnail
from profiler_service.wire import CurvesQuery
from profiler_service.workload import DTYPE_SIZES_BYTES, parse_dims


class CompressedPageRoute(CompressingRoute, PageRoute):
    """A page that is compressed on its way. For pages without a secret only: beside what a
    stranger chose, the compressed length would tell about it."""


router = APIRouter(
    route_class=CompressedPageRoute,
    prefix="/ui/curves",
    include_in_schema=False,
)

SHOWN = 25
"""Curves on a page."""
MAX_ROWS = 500
"""Points in the table of a curve at most. Its files have all."""
MOST_MARKS = 200


@router.get("")
async def show_curves(request: Request, services: ServicesDep) -> Response:
    """A page of curves: those that the filter lets through, in the order asked for."""
    given = read_given(request)
    query = parse_given(CurvesQuery, given).model_copy(update={"limit": SHOWN})
    page = await list_curves(services, query)
    snapshot, curves = services.known.curves.snapshot, page.items
    title = "What has been measured"
    if not curves:
        title = "No curve is like that" if given else "No curve yet"
    return render(
        request,
        "curves.html",
        curves=curves,
        redundancy=format_redundancy,
        following={**given, "cursor": page.next_cursor} if page.next_cursor else None,
        kinds=[*workload_kinds(), CALLABLE.name],
        hosts=sorted(snapshot.hosts),
        platforms={key: each.device_model for key, each in sorted(snapshot.platforms.items())},
        modes=MODES,
        dtypes=list(DTYPE_SIZES_BYTES),
        given=given,
        title=title,
        narrowed=bool(given),
        base_url=str(request.base_url).rstrip("/"),
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


@router.get("/{curve_id}")
async def show_curve(request: Request, curve_id: CurveId, services: ServicesDep) -> Response:
    """The finding, its figure, and the points as a table."""
    store = services.store
    header = await asyncio.to_thread(store.get_curve_header, curve_id)
    whole = await services.known.curves.load_curve(curve_id)
    stale = is_stale(header, await asyncio.to_thread(store.get_host, header.host))
    platform = await asyncio.to_thread(store.get_platform, header.platform_key)
    # A list counts the edges of a curve that was kept before there were edges as LHPs.
    info = curve_info(replace(header, num_lhps=whole.num_lhps), stale=stale)
    curve = await asyncio.to_thread(
        lambda: curve_detail(whole, info, choose_drawn(whole, MAX_ROWS), is_excerpt=True)
    )
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
        modes=MODES,
        rows=rows,
        num_samples=int(whole.num_samples.sum()),
        excerpt=describe_excerpt(whole),
        num_more=curve.num_measured - len(rows),
        points=count(curve.num_measured, "point"),
    )


@router.get("/{curve_id}/figure")
async def draw_curve(
    request: Request,
    curve_id: CurveId,
    services: ServicesDep,
    view: View = "latency",
    scale: Scale = "linear",
    asked: Annotated[str, Query(max_length=200)] = "",
    answer: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The curve's figure, as plotly.js takes it."""
    figures: KeptFigures = request.app.state.figures
    key = FigureKey(
        curve_id=curve_id,
        view=view,
        scale=scale,
        asked=parse_dims(asked) if asked else None,
        answer=parse_dims(answer) if answer else None,
    )
    headers = {"Cache-Control": "private, max-age=300"}
    drawn = await figures.draw(services, key)
    return send_compressed(request, drawn, media_type="application/json", headers=headers)
