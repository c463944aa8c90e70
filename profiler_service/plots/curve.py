"""Draws latency curves: PNG with matplotlib, HTML in a single file with plotly.

`staircase` draws a curve of one axis, `heat_map` a curve of two axes, and `race` the panels of the
curve's race. Knows neither the service nor how LHPs are found.

Only the functions that need matplotlib or plotly import it: each takes long to import, and a
picture needs only one of them.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.plots.heat_map import draw_heat_map, heat_map_traces
from profiler_service.plots.kernels import MOST_TICKS, choose_ticks, place_kernels
from profiler_service.plots.marks import build_columns, latency_limits, mark_raced, raced_traces
from profiler_service.plots.race import (
    draw_confirmation,
    draw_contest,
    draw_stages,
    lay_out_race,
)
from profiler_service.plots.staircase import BINS, bin_edges, draw_staircase, staircase_traces
from profiler_service.plots.text import plot_title
from profiler_service.printable import printable
from profiler_service.wire import CurveDetail, PlatformInfo, RaceInfo
from profiler_service.wire.base import map_texts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RACE_ROWS = (0.46, 0.18, 0.36)
"""Shares of the page's height for the curve, the stages and the contest of a race."""


def save_plot(
    curve: CurveDetail,
    path: Path,
    *,
    platform: PlatformInfo | None = None,
    race: RaceInfo | None = None,
) -> None:
    """Writes the picture of `curve`, and of its `race`, to `path`: `.png` or `.html`.

    Raises InvalidRequestError for another ending, or a curve of more than two axes; LhpError
    if the file can't be written.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".png":
            draw_png(curve, platform=platform, race=race).savefig(path, dpi=150)
        elif ending == ".html":
            page = render_html(curve, platform=platform, race=race)
            path.write_text(page, encoding="utf-8")
        else:
            raise InvalidRequestError(
                f"can't draw into {str(path)!r}", hint="end the file's name with .png or .html"
            )
    except OSError as error:
        raise LhpError(
            f"can't write {str(path)!r}: {error.strerror}", hint="choose another file with -o FILE"
        ) from error


def draw_png(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> Figure:
    """A matplotlib figure of the curve, not tied to any window or global state.

    If the curve's `race` is given, its panels are below the curve.

    Raises InvalidRequestError for a curve of more than two axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curve, platform, race = map_texts((curve, platform, race), _for_matplotlib)
    _check_axes(curve)
    curve, names = place_kernels(curve)
    columns = build_columns(curve)
    if race is not None and race.stages:
        rows_in = (5.4, 0.5 + 0.25 * len(race.stages), 4.1)
        figure = Figure(figsize=(10, sum(rows_in)), layout="constrained")
        places = figure.add_gridspec(3, 2, height_ratios=rows_in, width_ratios=(5, 1))
        axes = figure.add_subplot(places[0, :])
        draw_stages(figure.add_subplot(places[1, :]), race)
        draw_contest(figure.add_subplot(places[2, 0]), curve, race)
        draw_confirmation(figure.add_subplot(places[2, 1]), curve)
    else:
        figure = Figure(figsize=(10, 6), layout="constrained")
        axes = figure.add_subplot()
    FigureCanvasAgg(figure)
    title, subtitle = plot_title(curve, platform)
    figure.suptitle(title, fontsize=13)
    axes.set_title(subtitle, fontsize=9, color="#555555")
    if len(curve.axes) == 1:
        draw_staircase(axes, curve, columns)
        if ticks := choose_ticks(names):
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.tick_params("x", labelrotation=30 if len(ticks) > MOST_TICKS / 2 else 0)
    else:
        draw_heat_map(axes, curve, columns)
    mark_raced(axes, curve, columns, race)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), fontsize=9)
    return figure


def render_html(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> str:
    """A complete HTML page with the interactive figure. It needs no network.

    Raises InvalidRequestError for a curve of more than two axes.
    """
    figure = build_plotly(curve, platform=platform, race=race)
    # include_plotlyjs=True writes the library that ships in plotly's wheel into the page.
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def build_plotly(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> Any:
    """A plotly `Figure` of the curve, like that of `draw_png`. (plotly has no type hints.)

    Raises InvalidRequestError for a curve of more than two axes.
    """
    import plotly.graph_objects as go  # type: ignore[import-untyped]
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    curve, platform, race = map_texts((curve, platform, race), _for_plotly)
    _check_axes(curve)
    curve, names = place_kernels(curve)
    columns = build_columns(curve)
    title, subtitle = plot_title(curve, platform)
    build = staircase_traces if len(curve.axes) == 1 else heat_map_traces
    traces = build(curve, columns) + raced_traces(curve, columns, race)
    for trace in traces if names else ():
        trace["customdata"] = [names[int(number)] for number in trace["x"]]
        trace["hovertemplate"] = trace["hovertemplate"].replace("%{x}", "%{customdata}")
    if race is not None and race.stages:
        figure = make_subplots(
            rows=3,
            cols=2,
            specs=[[{"colspan": 2}, None], [{"colspan": 2}, None], [{}, {}]],
            row_heights=RACE_ROWS,
            column_widths=(0.85, 0.15),
            vertical_spacing=0.06,
        )
        figure.add_traces(traces, rows=1, cols=1)
        # Otherwise it would extend beside all three rows.
        bar = {"len": RACE_ROWS[0], "y": 1, "yanchor": "top"}
        figure.update_traces(colorbar=bar, selector={"type": "heatmap"})
    else:
        figure = go.Figure(traces)
    figure.update_layout(
        title={"text": f"{title}<br><sub>{subtitle}</sub>"},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.15},
    )
    # The curve's axes are always the first ones, before the panels of a race.
    if len(curve.axes) == 1:
        latency = {"title": f"latency, {columns.unit} per call", "range": latency_limits(columns)}
        figure.update_layout(xaxis={"title": curve.axis_names[0]}, yaxis=latency)
        if ticks := choose_ticks(names):
            figure.update_layout(xaxis={"tickvals": list(ticks), "ticktext": list(ticks.values())})
        figure.update_layout(
            shapes=[
                {
                    "type": "rect",
                    "x0": start,
                    "x1": stop,
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "fillcolor": BINS[number % 2],
                    "line": {"width": 0},
                    "layer": "below",
                }
                for number, (start, stop) in enumerate(bin_edges(curve))
            ]
        )
    else:
        figure.update_layout(
            xaxis={"title": curve.axis_names[1]}, yaxis={"title": curve.axis_names[0]}
        )
    if race is not None and race.stages:
        lay_out_race(figure, curve, race)
    return figure


def _for_matplotlib(text: str) -> str:
    """The text without formulas, which matplotlib reads between dollar signs."""
    return printable(text).replace("$", r"\$")


def _for_plotly(text: str) -> str:
    """The text without tags, some of which plotly obeys: links, for example."""
    return html.escape(printable(text), quote=False)


def _check_axes(curve: CurveDetail) -> None:
    if len(curve.axes) > 2:
        raise InvalidRequestError(
            f"curve {curve.id} has {len(curve.axes)} axes; a picture can show only two",
            hint="run a sweep over two axes: give each other axis a single dimension",
        )
