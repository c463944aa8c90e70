"""Figures of curves for pages: what of a curve is drawn, and figures kept as they are sent.

A stored curve never changes, so its figure is drawn once.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache

from profiler_service.analysis.blocks import Blocks, choose_sides, median_blocks
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.curve_formats import curve_detail
from profiler_service.answering.downsampling import Numbers, choose_drawn, choose_marked
from profiler_service.answering.resources import curve_info, platform_info
from profiler_service.answering.services import Services
from profiler_service.dashboard.rendering import count
from profiler_service.errors import InvalidRequestError
from profiler_service.plan.modes import MODES
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.figure import TEXT_POINTS, Scale, View
from profiler_service.storage.store import CurveHeader
from profiler_service.wire import PlatformInfo
from profiler_service.workload import Dims

MAX_DRAWN = 2_000
"""Marks on a figure at most: more than one for each pixel of its width, and each with a text when
it is pointed at (fewer than `TEXT_POINTS`)."""
MAX_CELLS = 1 << 16
"""Cells of a heat map at most. Points of a larger curve are drawn in blocks."""
MAX_KEPT_BYTES = 32 << 20
"""Figures kept in memory together, compressed: each of large curves takes about 0.3 MB."""


@dataclass(frozen=True, kw_only=True)
class FigureKey:
    """What determines a figure."""

    curve_id: str
    view: View
    scale: Scale
    asked: Dims | None
    answer: Dims | None


class KeptFigures:
    """Figures as plotly.js takes them: JSON, compressed by gzip. Belongs to one event loop."""

    def __init__(self) -> None:
        self._kept: LRUCache[FigureKey, bytes] = LRUCache(MAX_KEPT_BYTES, getsizeof=len)

    async def draw(self, services: Services, key: FigureKey) -> bytes:
        """The figure. Raises UnknownCurveError, InvalidRequestError, StoreError."""
        header = await asyncio.to_thread(services.store.get_curve_header, key.curve_id)
        if key in self._kept:
            return self._kept[key]
        curve = await services.known.curves.load_curve(key.curve_id)
        platform = await asyncio.to_thread(services.store.get_platform, header.platform_key)
        drawn = await asyncio.to_thread(_draw, curve, header, platform_info(platform), key)
        if len(drawn) <= MAX_KEPT_BYTES:
            self._kept[key] = drawn
        return drawn


def describe_excerpt(curve: LatencyCurve) -> str:
    """What of a large curve its figure shows, as a sentence; empty if it shows every point."""
    if len(curve.grid.axes) == 1 and _is_large(curve):
        points = count(curve.num_measured, "point")
        return f"About {MAX_DRAWN:,} of {points} are drawn: those that show the shape of all."
    if len(curve.grid.axes) == 2 and _is_large(curve):
        rows, columns = curve.grid.shape
        tall, wide = choose_sides(rows, columns, MAX_CELLS)
        if tall * wide > 1:
            return f"Each cell of the figure is the median of {tall} × {wide} points."
    return ""


def _is_large(curve: LatencyCurve) -> bool:
    """Whether the figure shows marks of some points only; of two axes, blocks of cells.

    A heat map tells everything of each cell, and may have as many as there are texts.
    """
    if len(curve.grid.axes) == 2:
        return curve.grid.size > TEXT_POINTS
    return curve.num_measured > MAX_DRAWN


def _draw(
    curve: LatencyCurve, header: CurveHeader, platform: PlatformInfo, key: FigureKey
) -> bytes:
    num_axes = len(curve.grid.axes)
    if num_axes > 2:
        raise InvalidRequestError(
            "a curve of more than two axes has no figure", hint="its files have all points"
        )
    blocks: Blocks | None = None
    if num_axes == 2 and _is_large(curve):
        points = choose_marked(curve, MAX_DRAWN)
        blocks = median_blocks(curve, MAX_CELLS)
    else:
        points = choose_drawn(curve, MAX_DRAWN if num_axes == 1 else TEXT_POINTS)
    points = np.union1d(points, _find_named(curve, header, key))
    # A list counts the edges of a curve that was kept before there were edges as LHPs.
    info = curve_info(replace(header, num_lhps=curve.num_lhps), stale=False)
    figure = curve_figure(
        curve_detail(curve, info, points, is_excerpt=True),
        platform=platform,
        view=key.view,
        scale=key.scale,
        asked=key.asked,
        answer=key.answer,
        blocks=blocks,
    )
    text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def _find_named(curve: LatencyCurve, header: CurveHeader, key: FigureKey) -> Numbers:
    """Numbers of the points that the figure must have: asked, answer, and the asked one's rival."""
    named = [key.asked, key.answer]
    if key.asked is None and MODES[header.mode].is_race:
        named.append(curve.grid.first)
    numbers = [None if dims is None else curve.grid.find_index(dims) for dims in named]
    found = np.array([number for number in numbers if number is not None], dtype=np.intp)
    found = np.append(found, curve.answers.find_rivals()[found])
    return found[(found >= 0) & (curve.num_samples[found] > 0)]
