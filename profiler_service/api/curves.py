"""/curves: measured curves, as lists, data and files."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.answering import curve_reading
from profiler_service.answering.curve_comparison import (
    LEAST_CURVES,
    MOST_CURVES,
    check_comparable,
    read_ids,
)
from profiler_service.answering.curve_formats import (
    arrow_chunks,
    csv_chunks,
    json_chunks,
    parquet_chunks,
)
from profiler_service.answering.downsampling import LEAST_POINTS, choose_points
from profiler_service.answering.resources import curve_info, is_stale, kernel_points
from profiler_service.api.compression import CompressingRoute
from profiler_service.api.dependencies import (
    SHORTENED,
    CurveId,
    ServicesDep,
    complete_curve_id,
    parse_query,
    query_parameters,
    refuse_unknown_parameters,
)
from profiler_service.api.problems import problem_responses
from profiler_service.api.revalidation import has_already, make_etag
from profiler_service.distribution import find_version
from profiler_service.errors import (
    IncomparableCurvesError,
    InvalidRequestError,
    InvalidWorkloadError,
    StoreUnavailableError,
    UnknownCurveError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownWorkloadError,
)
from profiler_service.wire import CurveComparison, CurveDetail, CurvePage, CurvesQuery, KernelPoints

Format = Literal["json", "csv", "arrow", "parquet"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}

IDS_PATTERN = "^[^,]+(,[^,]+){1,5}$"
ETAG: dict[str, Any] = {
    "ETag": {
        "description": "Changes if the content does: of JSON, with `stale` and `kernels`; of the"
        " other formats, only with the version of the service.",
        "schema": {"type": "string"},
    }
}
NOT_MODIFIED = {"description": "The client has it already, as its `If-None-Match` says."}

router = APIRouter(route_class=CompressingRoute, prefix="/curves", tags=["curves"])


@router.get(
    "",
    response_model=CurvePage,
    summary="Curves, filtered and sorted",
    responses=problem_responses(
        UnknownWorkloadError,
        InvalidWorkloadError,
        UnknownHostError,
        UnknownPlatformError,
        InvalidRequestError,
        StoreUnavailableError,
    ),
    openapi_extra={"parameters": query_parameters(CurvesQuery)},
)
async def list_curves(request: Request, services: ServicesDep) -> CurvePage:
    """One page of curves, without their points; newest first, unless asked for otherwise."""
    return await curve_reading.list_curves(services, parse_query(request, CurvesQuery))


def choose_format(accept: str) -> Format:
    """The first known format in an Accept header, or JSON."""
    asked = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    known: dict[str, Format] = {media_type: name for name, media_type in MEDIA_TYPES.items()}
    return next((known[media_type] for media_type in asked if media_type in known), "json")


@functools.cache
def _contract() -> str:
    """What the content for a curve, which never changes, depends on: the version and its fields."""
    return (
        f"{find_version()} {CurveDetail.model_json_schema()} {CurveComparison.model_json_schema()}"
    )


@router.get(
    "/compare",
    dependencies=[Depends(refuse_unknown_parameters)],
    response_model=CurveComparison,
    summary="Curves compared with each other",
    responses={
        200: {"headers": ETAG},
        304: NOT_MODIFIED,
        **problem_responses(
            UnknownCurveError, IncomparableCurvesError, InvalidRequestError, StoreUnavailableError
        ),
    },
)
async def get_curve_comparison(
    services: ServicesDep,
    ids: Annotated[
        str,
        Query(
            description=f"Ids of {LEAST_CURVES} to {MOST_CURVES} curves, separated by commas; each"
            f" whole, {SHORTENED}. The others are compared with the first one.",
            json_schema_extra={"pattern": IDS_PATTERN},
        ),
    ],
    max_points: Annotated[
        int,
        Query(
            ge=LEAST_POINTS,
            le=100_000,
            description="About how many points to send, chosen as for `GET /curves/{id}`. All"
            " common points are counted and summed up, whether they are sent or not.",
        ),
    ] = 4000,
    if_none_match: Annotated[str, Header(description="`ETag` of a response kept.")] = "",
) -> Response:
    """Ratios to the first curve, with intervals, at the points that it and another one have.

    The curves are of one workload kind, over the same axes, timed alike. They may differ in
    platform, host, time and fixed parameters; `differs` says in what, and `finding` what follows.
    """
    store = services.store
    whole = [await complete_curve_id(each, services) for each in read_ids(ids)]
    headers = [await asyncio.to_thread(store.get_curve_header, each) for each in whole]
    check_comparable(headers)
    await services.known.refresh()
    snapshot = services.known.curves.snapshot
    stale = {each.id: snapshot.is_stale(each) for each in headers}
    etag = make_etag(_contract(), "compare", stale, max_points)
    sent = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if has_already(if_none_match, etag):
        return Response(status_code=304, headers={**sent, "Vary": "Accept-Encoding"})
    compared = await curve_reading.compare_stored(services, headers, max_points=max_points)
    body = await asyncio.to_thread(compared.model_dump_json)
    return Response(body, headers=sent, media_type=MEDIA_TYPES["json"])


@router.get(
    "/{curve_id}",
    dependencies=[Depends(refuse_unknown_parameters)],
    response_model=CurveDetail,
    summary="One curve with its points",
    response_description="The curve: its header, measured points, LHPs, bins and failures as"
    " JSON, or its measured points as CSV, an Arrow IPC stream, or a Parquet file.",
    responses={
        200: {
            "content": {
                MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
                MEDIA_TYPES["arrow"]: {"schema": {"type": "string", "format": "binary"}},
                MEDIA_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
            },
            "headers": ETAG,
        },
        304: NOT_MODIFIED,
        **problem_responses(UnknownCurveError, InvalidRequestError, StoreUnavailableError),
    },
)
async def get_curve(
    curve_id: CurveId,
    services: ServicesDep,
    format: Annotated[  # noqa: A002  the name in the address
        Format | SkipJsonSchema[None],
        Query(description="Format of the response (default: as the header `Accept` says)."),
    ] = None,
    max_points: Annotated[
        Annotated[int, Field(ge=LEAST_POINTS)] | SkipJsonSchema[None],
        Query(
            description="About how many points to send, for a picture. LHPs, edges, the first and"
            " the last point are always sent, even if they are more, and so are all `failures`. Of"
            " the others, those that show the shape of the curve; with several axes, the fastest"
            " and the slowest one of each block of a grid.",
        ),
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    if_none_match: Annotated[str, Header(description="`ETag` of a response kept.")] = "",
) -> Response:
    """Streams the curve. Rows are the measured points; the last axis varies fastest.

    The schema of Arrow and Parquet has metadata, `lhp_curve`: where the curve comes from, its
    platform, protocol, evidence and failures, as JSON.

    A stored curve never changes (but its `kernels` come a moment later), so a client may keep it,
    and ask with `If-None-Match` whether it is still there.
    """
    store = services.store
    header = await asyncio.to_thread(store.get_curve_header, curve_id)
    chosen = format or choose_format(accept)
    stale = chosen == "json" and is_stale(
        header, await asyncio.to_thread(store.get_host, header.host)
    )
    kernels: list[KernelPoints] = []
    if chosen == "json":
        found = await asyncio.to_thread(store.find_kernel_names, [header.id])
        kernels = kernel_points(found.get(header.id, {}))
    etag = make_etag(_contract(), header.id, chosen, max_points, stale, bool(kernels))
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if has_already(if_none_match, etag):
        return Response(status_code=304, headers={**headers, "Vary": "Accept, Accept-Encoding"})
    record = await asyncio.to_thread(store.read_record, curve_id)
    curve = record.curve
    points = await asyncio.to_thread(choose_points, curve, max_points)
    if chosen == "arrow":
        chunks = arrow_chunks(curve, points, record.describe())
    elif chosen == "parquet":
        chunks = parquet_chunks(curve, points, record.describe())
    elif chosen == "csv":
        chunks = csv_chunks(curve, points)
    else:
        # The header of a curve that was kept before there were edges counts them as LHPs.
        header = replace(header, num_lhps=curve.num_lhps)
        info = curve_info(header, stale=stale)
        chunks = json_chunks(curve, info, points, kernels=kernels)
    headers["Vary"] = "Accept"  # and what the compression adds
    return StreamingResponse(chunks, media_type=MEDIA_TYPES[chosen], headers=headers)
