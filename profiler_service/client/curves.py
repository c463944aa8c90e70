"""The client's methods about curves."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from profiler_service.client.frames import (
    find_arrow_reader,
    find_pandas_reader,
    find_polars_reader,
)
from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.transport import Call, Query
from profiler_service.wire import CurveComparison, CurveDetail, CurveInfo, CurvePage

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_segment = functools.partial(quote, safe="")


class CurveOperations:
    """Part of `service.Service`."""

    async def _request(self, call: Call) -> httpx.Response:
        """The response to the call, tried again where that may help."""
        raise NotImplementedError

    @operation
    async def list_curves(self, query: Query) -> CurvePage:
        """A page of curves, from the query parameters of `GET /curves`."""
        return await self._list_curves(query)

    @operation
    async def get_curve(self, curve_id: str, *, max_points: int | None = None) -> CurveDetail:
        """The curve with that id, with all its points, or about `max_points` for a picture."""
        return parse(CurveDetail, await self._get_curve(curve_id, max_points=max_points))

    @operation
    async def get_curve_arrow(
        self, curve_id: str, *, max_points: int | None = None
    ) -> pyarrow.Table:
        """The measured points as a table of pyarrow, one a row; as `get_curve` otherwise.

        The metadata of its schema say where the curve comes from: `lhp_curve`, JSON. Raises
        MissingExtraError without pyarrow.
        """
        read = find_arrow_reader()
        return read(await self._get_stream(curve_id, max_points))

    @operation
    async def get_curve_pandas(
        self, curve_id: str, *, max_points: int | None = None
    ) -> pandas.DataFrame:
        """The measured points as a frame of pandas, one a row; as `get_curve` otherwise.

        `attrs["lhp_curve"]` says where the curve comes from. Raises MissingExtraError without
        pandas or pyarrow.
        """
        read = find_pandas_reader()
        return read(await self._get_stream(curve_id, max_points))

    @operation
    async def get_curve_polars(
        self, curve_id: str, *, max_points: int | None = None
    ) -> polars.DataFrame:
        """The measured points as a frame of polars, one a row; as `get_curve` otherwise.

        Raises MissingExtraError without polars.
        """
        read = find_polars_reader()
        return read(await self._get_stream(curve_id, max_points))

    @operation
    async def get_curve_header(self, curve_id: str, *, host: str) -> CurveInfo:
        """The curve with that id, measured by `host`, without its points.

        Looks among the host's newest curves first, because the curve's points, which the other
        route sends too, may be a hundred megabytes.
        """
        for header in (await self._list_curves({"host": host, "limit": 20})).items:
            if header.id == curve_id:
                return header
        return parse(CurveDetail, await self._get_curve(curve_id))

    @operation
    async def compare_curves(
        self, curve_ids: Sequence[str], *, max_points: int | None = None
    ) -> CurveComparison:
        """Two to six curves of one workload kind, each compared with the first one.

        Raises IncomparableCurvesError for curves that have nothing in common. `max_points` is
        about how many points there are of each; all are summed up.
        """
        params: dict[str, str | int] = {"ids": ",".join(curve_ids)}
        if max_points is not None:
            params["max_points"] = max_points
        return parse(
            CurveComparison, await self._request(Call(path="/curves/compare", params=params))
        )

    async def _list_curves(self, query: Query) -> CurvePage:
        return parse(CurvePage, await self._request(Call(path="/curves", params=query)))

    async def _get_curve(self, curve_id: str, **options: str | int | None) -> httpx.Response:
        params = {name: value for name, value in options.items() if value is not None}
        return await self._request(Call(path=f"/curves/{_segment(curve_id)}", params=params))

    async def _get_stream(self, curve_id: str, max_points: int | None) -> bytes:
        response = await self._get_curve(curve_id, format="arrow", max_points=max_points)
        return response.content
