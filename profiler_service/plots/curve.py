"""Pictures of latency curves: PNG through matplotlib, self-contained HTML through plotly.

One axis: latency against the dimension, LHPs marked, hysteresis bins shaded in turns. Two
axes: a heat map of the measured points, LHPs marked. Knows neither where a curve comes from
nor how its LHPs were found: it draws what it is given. A race's panels are `race_plot`'s.

matplotlib and plotly are imported by the functions that need them; each takes a while, and a
picture needs only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.plots.race import (
    CONFIRMED,
    draw_confirmation,
    draw_contest,
    draw_stages,
    find_racers,
    latency_unit,
    lay_out_race,
)
from profiler_service.wire import CurveDetail, CurveInfo, GridAxisRange, PlatformInfo, RaceInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

F64 = npt.NDArray[np.float64]

POINT, LHP, UNDECIDED, FAILED = "#6b7a90", "#c8102e", "#e08a00", "#111111"
RACED = "#d1478c"
BINS = ("#dfe9f5", "#f6f1e3")
UNMEASURED = "#e6e6e6"
RACE_ROWS = (0.46, 0.18, 0.36)
"""Shares of a page's height that a race's curve, stages and contest take."""
COLOR_PERCENTILES = (1, 95)
"""The colours of a heat map span these, so that outliers don't wash out the rest."""
MARKED_POINTS = 400
"""Up to so many points each gets a dot one can see; above it they shrink to a texture."""


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """A curve's points as arrays of equal length, latencies in `unit`."""

    dims: npt.NDArray[np.int64]
    """int64 [points, axes]."""
    latency: F64
    low: F64
    """Not finite where the interval isn't bounded (a single sample); `high` likewise."""
    high: F64
    status: npt.NDArray[np.str_]
    unit: str
    """`µs` or `ms`."""

    def where(self, status: str) -> npt.NDArray[np.bool_]:
        """bool [points]: which points have that status."""
        chosen: npt.NDArray[np.bool_] = self.status == status
        return chosen


def save_plot(
    curve: CurveDetail,
    path: Path,
    *,
    platform: PlatformInfo | None = None,
    race: RaceInfo | None = None,
) -> None:
    """Writes the picture of `curve`, and of the `race` that left it, to `path`: `.png` or `.html`.

    Raises InvalidRequestError for another ending, or a curve of more than two axes; LhpError
    where the file can't be written.
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
            f"can't write {str(path)!r}: {error.strerror}", hint="say where with -o FILE"
        ) from error


def format_redundancy(curve: CurveInfo) -> str:
    """The redundancy as a percentage, or as a range where points are undecided.

    Undecided points may turn out to be LHPs, so the lower end counts them as such. A dash
    where nothing was measured, or only what one query needed.
    """
    if curve.redundancy is None or curve.mode != "grid":
        return "–"
    high = 100 * curve.redundancy
    if not curve.num_undecided:
        return f"{high:.1f} %"
    low = max(0.0, high - 100 * curve.num_undecided / curve.num_measured)
    return f"{low:.1f} to {high:.1f} %"


def format_undecided(curve: CurveInfo) -> str:
    """The share of points left undecided, as a percentage; a dash where none was to be decided."""
    return "–" if curve.undecided is None else f"{100 * curve.undecided:.1f} %"


def plot_title(curve: CurveDetail, platform: PlatformInfo | None = None) -> tuple[str, str]:
    """The heading of a curve's picture: what was measured; on what, and what was found."""
    if platform is None:
        where = f"platform {curve.platform}"
    else:
        threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
        # What stands in brackets (a processor's features) is longer than the picture is wide.
        where = f"{platform.device_model.partition(' (')[0]}, {threads}"
    if not curve.num_measured:
        found = "nothing measured"
    elif curve.mode != "grid":
        asked = ",".join(str(axis.start) for axis in curve.axes)
        found = f"{curve.num_measured} of {curve.num_points} points looked at for one at {asked}"
    else:
        found = (
            f"{curve.num_lhps} of {curve.num_measured} points are LHPs,"
            f" {format_undecided(curve)} undecided, redundancy {format_redundancy(curve)}"
        )
    return curve.workload, f"{where} · {found} · {curve.measured_at:%Y-%m-%d}"


def draw_png(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> Figure:
    """A matplotlib figure of the curve, not tied to any window or global state.

    Where the `race` that left the curve is given, its panels stand below the curve.

    Raises InvalidRequestError for a curve of more than two axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _check_axes(curve)
    columns = _columns(curve)
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
        _draw_staircase(axes, curve, columns)
    else:
        _draw_heat_map(axes, curve, columns)
    _mark_raced(axes, curve, columns, race)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), fontsize=9)
    return figure


def render_html(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> str:
    """A whole HTML page with the interactive figure; needs no network to show.

    Raises InvalidRequestError for a curve of more than two axes.
    """
    figure = build_plotly(curve, platform=platform, race=race)
    # include_plotlyjs=True writes the library that ships in plotly's wheel into the page.
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def build_plotly(
    curve: CurveDetail, *, platform: PlatformInfo | None = None, race: RaceInfo | None = None
) -> Any:
    """A plotly `Figure` of the curve (plotly carries no types), like `draw_png`'s.

    Raises InvalidRequestError for a curve of more than two axes.
    """
    import plotly.graph_objects as go  # type: ignore[import-untyped]
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    _check_axes(curve)
    columns = _columns(curve)
    title, subtitle = plot_title(curve, platform)
    build = _staircase_traces if len(curve.axes) == 1 else _heat_map_traces
    traces = build(curve, columns) + _raced_traces(curve, columns, race)
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
        # Else it would stand beside all three rows.
        bar = {"len": RACE_ROWS[0], "y": 1, "yanchor": "top"}
        figure.update_traces(colorbar=bar, selector={"type": "heatmap"})
    else:
        figure = go.Figure(traces)
    figure.update_layout(
        title={"text": f"{title}<br><sub>{subtitle}</sub>"},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.15},
    )
    # The curve's own axes are the first, whatever panels a race adds.
    if len(curve.axes) == 1:
        latency = {"title": f"latency, {columns.unit} a call", "range": _latency_limits(columns)}
        figure.update_layout(xaxis={"title": curve.axis_names[0]}, yaxis=latency)
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
                for number, (start, stop) in enumerate(_bin_edges(curve))
            ]
        )
    else:
        figure.update_layout(
            xaxis={"title": curve.axis_names[1]}, yaxis={"title": curve.axis_names[0]}
        )
    if race is not None and race.stages:
        lay_out_race(figure, curve, race)
    return figure


def _check_axes(curve: CurveDetail) -> None:
    if len(curve.axes) > 2:
        raise InvalidRequestError(
            f"curve {curve.id} has {len(curve.axes)} axes; a picture has room for two",
            hint="sweep a plane of it: give all but two axes a single dimension",
        )


def _columns(curve: CurveDetail) -> _Columns:
    points = curve.points
    latency_s = np.asarray(points.latency_s, dtype=np.float64)
    slowest_s = float(latency_s.max()) if latency_s.size else 0.0
    unit, unit_s = latency_unit(slowest_s)
    return _Columns(
        dims=np.asarray(points.dims, dtype=np.int64).reshape(-1, len(curve.axes)),
        latency=latency_s / unit_s,
        low=np.asarray(points.low_s, dtype=np.float64) / unit_s,
        high=np.asarray(points.high_s, dtype=np.float64) / unit_s,
        status=np.asarray(points.status, dtype=np.str_),
        unit=unit,
    )


def _latency_limits(columns: _Columns) -> tuple[float, float]:
    """Where the latency axis begins and ends: around the points, however wide an interval."""
    if not columns.latency.size:
        return 0.0, 1.0
    fastest, slowest = float(columns.latency.min()), float(columns.latency.max())
    room = 0.08 * ((slowest - fastest) or slowest)
    return max(0.0, fastest - room), slowest + room


def _bin_edges(curve: CurveDetail) -> list[tuple[float, float]]:
    """Left and right edge of each hysteresis bin; neighbours touch.

    None of a race or a survey: it tells of one point only whether it is an LHP.
    """
    if curve.mode != "grid":
        return []
    half = curve.axes[0].step / 2
    return [(bin_.start - half, bin_.stop + half) for bin_ in curve.bins]


def _undecided_marks(curve: CurveDetail, marker: str, plain: str) -> tuple[str, str, str]:
    """Colour, marker and label of undecided points: plain ones where none was to be decided."""
    if curve.mode == "grid":
        return UNDECIDED, marker, "undecided"
    return POINT, plain, "looked at"


def _failed_dims(curve: CurveDetail) -> npt.NDArray[np.int64]:
    """int64 [failed points, axes]."""
    dims = [failure.dims for failure in curve.failures]
    return np.asarray(dims, dtype=np.int64).reshape(-1, len(curve.axes))


def _raced_points(
    curve: CurveDetail, columns: _Columns, race: RaceInfo | None
) -> list[tuple[str, str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Label, colour, x and y of the points that a race raced, and of the confirmed one."""
    if race is None or not columns.latency.size:
        return []
    racers = find_racers(curve, race)
    confirmed = [racer for racer in racers if racer.fate == "confirmed"]
    groups: list[tuple[str, str, npt.NDArray[Any], npt.NDArray[Any]]] = []
    for label, color, chosen in (("raced", RACED, racers), ("confirmed", CONFIRMED, confirmed)):
        if not chosen:
            continue
        dims = np.array([racer.dims for racer in chosen], dtype=np.int64)
        if len(curve.axes) == 2:
            groups.append((label, color, dims[:, 1], dims[:, 0]))
        else:
            numbers = np.searchsorted(columns.dims[:, 0], dims[:, 0])
            groups.append((label, color, dims[:, 0], columns.latency[numbers]))
    return groups


# PNG


def _mark_raced(axes: Axes, curve: CurveDetail, columns: _Columns, race: RaceInfo | None) -> None:
    for label, color, x, y in _raced_points(curve, columns, race):
        axes.scatter(
            x,
            y,
            s=36 if label == "raced" else 110,
            facecolors="none",
            edgecolors=color,
            linewidths=1.2,
            label=label,
            clip_on=False,
            zorder=5,
            gid=label,
        )


def _draw_staircase(axes: Axes, curve: CurveDetail, columns: _Columns) -> None:
    from matplotlib.ticker import MaxNLocator

    floor, ceiling = _latency_limits(columns)
    edges = _bin_edges(curve)
    for turn, color in enumerate(BINS):
        axes.broken_barh(
            [(left, right - left) for left, right in edges[turn::2]],
            (0, 1),
            transform=axes.get_xaxis_transform(),
            color=color,
            linewidth=0,
            zorder=0,
            # One entry in the legend stands for both colours.
            label="hysteresis bins" if edges and turn == 0 else None,
            gid="bins",
        )
    dims = columns.dims[:, 0]
    if dims.size:
        axes.vlines(
            dims,
            columns.low,
            columns.high,
            color=POINT,
            alpha=0.4,
            linewidth=1,
            label="95 % interval",
        )
    size = 14 if len(dims) <= MARKED_POINTS else 3
    for status, color, marker, label in (
        ("dominated", POINT, "o", "measured"),
        ("undecided", *_undecided_marks(curve, "D", "o")),
        ("lhp", LHP, "o", "LHP"),
    ):
        chosen = columns.where(status)
        if chosen.any():
            axes.scatter(
                dims[chosen],
                columns.latency[chosen],
                s=2.2 * size if status == "lhp" else size,
                color=color,
                marker=marker,
                linewidths=0,
                label=label,
                zorder=3 if status == "lhp" else 2,
                gid=status,
            )
    failed = _failed_dims(curve)[:, 0]
    if failed.size:
        axes.scatter(
            failed,
            np.full(failed.size, floor),
            s=24,
            color=FAILED,
            marker="x",
            label="failed",
            clip_on=False,
            zorder=4,
            gid="failed",
        )
    asked = _asked(curve, columns)
    if len(asked):
        _mark_asked(axes, x=asked[:, 0], y=columns.latency[:1])
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel(curve.axis_names[0])
    axes.set_ylabel(f"latency, {columns.unit} a call")
    left, right = _limits(curve.axes[0])
    room = (right - left) / 100
    axes.set_xlim(left - room, right + room)
    axes.set_ylim(floor, ceiling)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_heat_map(axes: Axes, curve: CurveDetail, columns: _Columns) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    rows, cols = curve.axes
    image = _image(curve, columns)
    extent = (*_limits(cols), *_limits(rows))
    axes.set_facecolor(UNMEASURED)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    if columns.latency.size:
        low, high = np.percentile(columns.latency, COLOR_PERCENTILES)
        picture = axes.imshow(
            image,
            origin="lower",
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            cmap=colormaps["viridis"],
            vmin=low,
            vmax=high,
        )
        axes.figure.colorbar(
            picture, ax=axes, label=f"latency, {columns.unit} a call", extend="both", pad=0.02
        )
    for status, marker, face, edge, label in (
        ("undecided", "D", "none", UNDECIDED, "undecided"),
        ("lhp", "o", LHP, "white", "LHP"),
    ):
        chosen = columns.where(status)
        if chosen.any() and _is_marked(curve, status):
            axes.scatter(
                columns.dims[chosen, 1],
                columns.dims[chosen, 0],
                s=_mark_size(int(chosen.sum())),
                facecolors=face,
                edgecolors=edge,
                marker=marker,
                linewidths=0.7,
                label=label,
                gid=status,
            )
    asked = _asked(curve, columns)
    if len(asked):
        _mark_asked(axes, x=asked[:, 1], y=asked[:, 0])
    failed = _failed_dims(curve)
    if len(failed):
        axes.scatter(
            failed[:, 1], failed[:, 0], s=24, color=FAILED, marker="x", label="failed", gid="failed"
        )
    axes.set_xlabel(curve.axis_names[1])
    axes.set_ylabel(curve.axis_names[0])
    axes.set_xlim(*_limits(cols))
    axes.set_ylim(*_limits(rows))


def _mark_asked(axes: Axes, *, x: npt.NDArray[np.int64], y: npt.NDArray[Any]) -> None:
    axes.scatter(
        x,
        y,
        s=60,
        facecolors="none",
        edgecolors=FAILED,
        marker="s",
        label="asked",
        # It lies in the corner, and would be cut to a quarter.
        clip_on=False,
        zorder=4,
        gid="asked",
    )


def _asked(curve: CurveDetail, columns: _Columns) -> npt.NDArray[np.int64]:
    """int64 [1, axes]: the point whose query the curve answers; [0, axes] for a grid sweep.

    The first of the window, and so the first that was measured; [0, axes] also where it failed.
    """
    first = np.array([[axis.start for axis in curve.axes]], dtype=np.int64)
    if curve.mode == "grid" or not np.array_equal(columns.dims[:1], first):
        return first[:0]
    return first


def _mark_size(marks: int) -> float:
    return 34 if marks <= 100 else 12 if marks <= 1000 else 3


def _is_marked(curve: CurveDetail, status: str) -> bool:
    """Whether a heat map marks points of that status: races leave most undecided."""
    return not (status == "undecided" and curve.mode != "grid")


def _limits(axis: GridAxisRange) -> tuple[float, float]:
    """The axis with half a step of room on both sides: the edges of its outermost cells."""
    half = axis.step / 2
    return axis.start - half, axis.stop + half


def _image(curve: CurveDetail, columns: _Columns) -> F64:
    """float64 [first axis, second axis]: latency; NaN where nothing was measured."""
    shape = tuple((axis.stop - axis.start) // axis.step + 1 for axis in curve.axes)
    image = np.full(shape, np.nan)
    starts = np.array([axis.start for axis in curve.axes])
    steps = np.array([axis.step for axis in curve.axes])
    positions = (columns.dims - starts) // steps
    image[positions[:, 0], positions[:, 1]] = columns.latency
    return image


# HTML


def _rival_texts(curve: CurveDetail, status: str) -> list[str]:
    """What dominates, or may dominate, each point of that status; empty where nothing's known."""
    points = curve.points
    texts = []
    for number, own in enumerate(points.status):
        if own != status:
            continue
        rival = points.rival[number]
        ratio, low, high = (
            column[number] for column in (points.ratio, points.ratio_low, points.ratio_high)
        )
        text = ""
        if rival is not None:
            text = f"best larger: {','.join(map(str, rival))}"
        if ratio is not None and low is not None and high is not None:
            text += f"<br>its latency / this: {ratio:.4f} [{low:.4f}, {high:.4f}]"
        texts.append(text)
    return texts


def _raced_traces(
    curve: CurveDetail, columns: _Columns, race: RaceInfo | None
) -> list[dict[str, Any]]:
    traces = []
    for label, color, x, y in _raced_points(curve, columns, race):
        size = 8 if label == "raced" else 15
        marker: dict[str, object] = {"color": color, "symbol": "circle-open", "size": size}
        traces.append(_marks_trace(label, x=x, y=y, marker=marker))
    return traces


def _staircase_traces(curve: CurveDetail, columns: _Columns) -> list[dict[str, Any]]:
    dims = columns.dims[:, 0]
    undecided_color, undecided_symbol, undecided_label = _undecided_marks(
        curve, "diamond", "circle"
    )
    traces = []
    for status, color, symbol, size, label in (
        ("dominated", POINT, "circle", 5, "measured"),
        ("undecided", undecided_color, undecided_symbol, 6, undecided_label),
        ("lhp", LHP, "circle", 8, "LHP"),
    ):
        chosen = columns.where(status)
        if not chosen.any():
            continue
        latency, low, high = (c[chosen] for c in (columns.latency, columns.low, columns.high))
        traces.append(
            {
                "type": "scattergl",
                "mode": "markers",
                "name": label,
                "x": dims[chosen],
                "y": latency,
                "error_y": {
                    "array": np.where(np.isfinite(high), high - latency, 0),
                    "arrayminus": np.where(np.isfinite(low), latency - low, 0),
                    "thickness": 1,
                    "width": 0,
                },
                "marker": {"color": color, "symbol": symbol, "size": size},
                "text": _rival_texts(curve, status),
                "hovertemplate": f"{curve.axis_names[0]} %{{x}}<br>%{{y:.2f}} {columns.unit}"
                "<br>%{text}",
            }
        )
    asked = _asked(curve, columns)
    if len(asked):
        traces.append(_asked_trace(x=asked[:, 0], y=columns.latency[:1]))
    if _bin_edges(curve):
        # Shapes have no place in a legend: an empty trace stands for them.
        marker = {"color": BINS[0], "symbol": "square", "size": 12}
        nothing = np.array([])
        traces.append(_marks_trace("hysteresis bins", x=nothing, y=nothing, marker=marker))
    if curve.failures:
        failed = _failed_dims(curve)[:, 0]
        floor, _ = _latency_limits(columns)
        traces.append(_failed_trace(curve, x=failed, y=np.full(len(failed), floor)))
    return traces


def _heat_map_traces(curve: CurveDetail, columns: _Columns) -> list[dict[str, Any]]:
    rows, cols = curve.axes
    first, second = curve.axis_names
    traces: list[dict[str, Any]] = []
    if columns.latency.size:
        low, high = np.percentile(columns.latency, COLOR_PERCENTILES)
        traces.append(
            {
                "type": "heatmap",
                "x": np.arange(cols.start, cols.stop + 1, cols.step),
                "y": np.arange(rows.start, rows.stop + 1, rows.step),
                "z": _image(curve, columns),
                "zmin": low,
                "zmax": high,
                "colorscale": "Viridis",
                "colorbar": {"title": {"text": f"latency, {columns.unit} a call"}},
                "hovertemplate": f"{first} %{{y}}, {second} %{{x}}<br>"
                f"%{{z:.2f}} {columns.unit}<extra></extra>",
            }
        )
    for status, color, symbol, label in (
        ("undecided", UNDECIDED, "diamond-open", "undecided"),
        ("lhp", LHP, "circle", "LHP"),
    ):
        dims = columns.dims[columns.where(status)]
        if len(dims) and _is_marked(curve, status):
            marker = {"color": color, "symbol": symbol, "size": 7}
            trace = _marks_trace(label, x=dims[:, 1], y=dims[:, 0], marker=marker)
            trace |= {
                "text": _rival_texts(curve, status),
                "hovertemplate": "%{y},%{x}<br>%{text}",
            }
            traces.append(trace)
    asked = _asked(curve, columns)
    if len(asked):
        traces.append(_asked_trace(x=asked[:, 1], y=asked[:, 0]))
    if curve.failures:
        failed = _failed_dims(curve)
        traces.append(_failed_trace(curve, x=failed[:, 1], y=failed[:, 0]))
    return traces


def _marks_trace(
    name: str, *, x: npt.NDArray[Any], y: npt.NDArray[Any], marker: dict[str, object]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "marker": marker,
        "hovertemplate": "%{y},%{x}",
    }


def _asked_trace(*, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, Any]:
    marker: dict[str, object] = {"color": FAILED, "symbol": "square-open", "size": 12}
    # Else it, which lies in the corner, would be cut to a quarter.
    return _marks_trace("asked", x=x, y=y, marker=marker) | {"cliponaxis": False}


def _failed_trace(
    curve: CurveDetail, *, x: npt.NDArray[Any], y: npt.NDArray[Any]
) -> dict[str, Any]:
    marker: dict[str, object] = {"color": FAILED, "symbol": "x", "size": 8}
    return _marks_trace("failed", x=x, y=y, marker=marker) | {
        "text": [failure.reason for failure in curve.failures],
        "hovertemplate": "%{text}",
    }
