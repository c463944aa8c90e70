"""/ui/compare: two to six curves of one workload, the others compared with the first one."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from profiler_service.answering.curve_comparison import check_comparable, read_ids
from profiler_service.answering.curve_reading import compare_stored
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import ServicesDep, complete_curve_id
from profiler_service.dashboard.rendering import render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.dashboard.sentences import describe_gain
from profiler_service.errors import InvalidRequestError
from profiler_service.plots.compare import ComparedLine, compare_figure
from profiler_service.plots.figure import Scale
from profiler_service.wire import CurveComparison

router = APIRouter(route_class=PageRoute, prefix="/ui/compare", include_in_schema=False)

MAX_POINTS = 2000
"""Points of a figure: more than a screen has columns."""
Ids = Annotated[list[str], Query(description="Ids of curves, also several in one with commas.")]


async def read_comparison(services: Services, ids: list[str]) -> CurveComparison:
    """The curves, compared with the first one. Raises as `GET /curves/compare`."""
    store = services.store
    whole = [await complete_curve_id(each, services) for each in read_ids(",".join(ids))]
    headers = [await asyncio.to_thread(store.get_curve_header, each) for each in whole]
    check_comparable(headers)
    await services.known.refresh()
    return await compare_stored(services, headers, max_points=MAX_POINTS)


@router.get("")
async def show_comparison(request: Request, services: ServicesDep, ids: Ids = []) -> Response:  # noqa: B006  FastAPI copies it
    """What differs between the curves, and what follows."""
    if not ids:
        return render(request, "compare.html", compared=None, title="Compare curves", ids="")
    compared = await read_comparison(services, ids)
    first, *others = compared.curves
    return render(
        request,
        "compare.html",
        compared=compared,
        title=_say(compared),
        ids=",".join(each.curve.id for each in compared.curves),
        first=first,
        others=others,
    )


def _say(compared: CurveComparison) -> str:
    """The finding about the curve that differs most, as a heading."""
    first, *others = compared.curves
    summaries = [(each.label, each.summary) for each in others if each.summary is not None]
    told = [(label, found) for label, found in summaries if found.verdict != "ambiguous"]
    if not told:
        return f"Nothing can be told from {first.label} at the typical size"
    label, found = max(told, key=lambda each: abs(each[1].ratio - 1))
    if found.verdict == "faster":
        return f"{label} is {describe_gain(1 / found.ratio)} than {first.label}".replace(
            "as fast than", "as fast as"
        )
    return f"{label} takes {found.ratio:.2f} × as long as {first.label}"


@router.get("/figure")
async def draw_comparison(
    services: ServicesDep,
    ids: Ids,
    view: Literal["ratio", "latency"] = "ratio",
    scale: Scale = "log",
) -> Response:
    """The figure of the compared curves."""
    compared = await read_comparison(services, ids)
    if len(compared.axis_names) != 1:
        raise InvalidRequestError(
            "only curves over one axis are drawn over each other",
            hint="the table has what was found; open each curve for its heat map",
        )
    curves = [
        ComparedLine(
            label=each.label,
            dims=[dims[0] for dims in compared.dims],
            latency_s=each.latency_s,
            low_s=each.low_s,
            high_s=each.high_s,
            ratio=None if each.ratios is None else each.ratios.ratio,
            ratio_low=None if each.ratios is None else each.ratios.ratio_low,
            ratio_high=None if each.ratios is None else each.ratios.ratio_high,
        )
        for each in compared.curves
    ]
    figure = compare_figure(
        curves,
        axis=compared.axis_names[0],
        is_paired=compared.intervals == "paired",
        view=view,
        scale=scale,
    )
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")
