"""The figure of a curve: one axis, kernels side by side, or two axes; with its race, if wanted."""

from __future__ import annotations

from collections.abc import Sequence

from profiler_service.analysis.blocks import Blocks
from profiler_service.errors import InvalidRequestError
from profiler_service.plots.columns import build_columns
from profiler_service.plots.figure import Figure, Scale, Sheet, View, literal
from profiler_service.plots.heat_map import draw_heat_map
from profiler_service.plots.kernels import place_kernels
from profiler_service.plots.race import draw_race, mark_raced
from profiler_service.plots.staircase import draw_staircase
from profiler_service.plots.text import describe_counts, describe_curve_keys, describe_finding
from profiler_service.wire import CurveDetail, PlatformInfo, RaceInfo
from profiler_service.wire.base import map_texts

__all__ = ["curve_figure", "describe_finding", "race_figure"]


def curve_figure(
    curve: CurveDetail,
    *,
    platform: PlatformInfo | None = None,
    race: RaceInfo | None = None,
    view: View = "latency",
    scale: Scale = "linear",
    asked: Sequence[int] | None = None,
    answer: Sequence[int] | None = None,
    blocks: Blocks | None = None,
) -> Figure:
    """The figure of the curve; with a `race`, the race's panels are below it.

    `view` and `scale` are for a curve of one axis. `asked` is the point that a heat map compares
    with; without it, the one that the curve's race was about, if it had one. `answer` is where the
    arrow points; without it, to the rival of the asked point, if that is confirmed. `blocks` are
    the cells of a heat map of a large curve, of which `curve` then has few points: only those that
    are marked.

    Raises InvalidRequestError for a curve of more than two axes, and for the view `per_flop` of a
    workload whose kind isn't known here.
    """
    if len(curve.axes) > 2:
        raise InvalidRequestError(
            f"curve {curve.id} has {len(curve.axes)} axes; a picture can show only two",
            hint="run a sweep over two axes: give each other axis a single dimension",
        )
    sheet = _begin(curve, platform)
    curve, race = _escape(curve), map_texts(race, literal)
    placed, names = place_kernels(curve)
    columns = build_columns(placed, names, asked=asked)
    if len(curve.axes) == 1:
        panel = draw_staircase(sheet, placed, columns, view=view, scale=scale)
    else:
        panel = draw_heat_map(sheet, placed, columns, answer=answer, blocks=blocks)
    if race is not None and race.stages:
        if view == "latency":
            mark_raced(panel, curve, columns, race)
        draw_race(sheet, curve, race)
    return sheet.build()


def race_figure(
    curve: CurveDetail, race: RaceInfo, *, platform: PlatformInfo | None = None
) -> Figure:
    """The figure of a race: its stages, its contest and its confirmation."""
    sheet = _begin(curve, platform)
    curve, race = _escape(curve), map_texts(race, literal)
    draw_race(sheet, curve, race)
    return sheet.build()


def _begin(curve: CurveDetail, platform: PlatformInfo | None) -> Sheet:
    """An empty sheet under the curve's finding."""
    keys, counts = describe_curve_keys(curve, platform), describe_counts(curve)
    return Sheet(
        title=literal(describe_finding(curve)), subtitle=f"{literal(keys)}<br>{literal(counts)}"
    )


def _escape(curve: CurveDetail) -> CurveDetail:
    """The curve with every text that is drawn as plotly shows it literally."""
    drawn = ("workload", "axis_names", "failures")
    return curve.model_copy(
        update={name: map_texts(getattr(curve, name), literal) for name in drawn}
    )
