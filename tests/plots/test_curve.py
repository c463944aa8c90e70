from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection, QuadMesh
from matplotlib.figure import Figure

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.plots.curve import build_plotly, draw_png, render_html, save_plot
from profiler_service.plots.heat_map import heat_map_traces
from profiler_service.plots.marks import build_columns
from profiler_service.plots.text import plot_title
from profiler_service.wire import (
    AxisRange,
    CurveDetail,
    CurvePoints,
    FailedPoint,
)
from tests.cli.stub import CURVE, LINEAR, PLATFORM

# 3 × 2 points, of which 5 were measured and (12,6) failed. (11,6), 40 µs, has nothing larger
# that was measured: an LHP; so has (12,5), 30 µs. (10,5) at 50 is dominated by both.
PLANE = CURVE.model_copy(
    update={
        "id": "c8",
        "workload": LINEAR,
        "axis_names": ["out_features", "in_features"],
        "axes": [AxisRange(first=10, last=12), AxisRange(first=5, last=6)],
        "num_measured": 5,
        "num_undecided": 0,
        "points": CurvePoints(
            dims=[[10, 5], [10, 6], [11, 5], [11, 6], [12, 5]],
            latency_s=[50e-6, 55e-6, 45e-6, 40e-6, 30e-6],
            low_s=[49e-6, 54e-6, 44e-6, 39e-6, 29e-6],
            high_s=[51e-6, 56e-6, 46e-6, 41e-6, 31e-6],
            num_samples=[4] * 5,
            status=["dominated", "dominated", "dominated", "lhp", "lhp"],
            rival=[[12, 5], [11, 6], [12, 5], None, None],
            ratio=[0.6, 0.727, 0.667, None, None],
            ratio_low=[0.59, 0.72, 0.66, None, None],
            ratio_high=[0.61, 0.74, 0.68, None, None],
        ),
        "lhps": [[11, 6], [12, 5]],
        "bins": [],
        "failures": [FailedPoint(dims=[12, 6], reason="out of memory")],
    }
)

PLANE_LATENCY = np.array([[50, 55], [45, 40], [30, float("nan")]])
"""In µs, out_features downwards, in_features to the right."""


def drawn(figure: Figure, gid: str) -> list[Collection]:
    axes: Axes = figure.axes[0]
    return [c for c in axes.collections if c.get_gid() == gid]


def positions(figure: Figure, gid: str) -> list[list[float]]:
    """The positions of the marks, without the last digits, which a change of units may change."""
    offsets = [np.asarray(c.get_offsets()) for c in drawn(figure, gid)]
    return [point for each in offsets for point in each.round(9).tolist()]


def outline(figure: Figure, gid: str) -> int:
    """Number of corners of the marker: a circle has more than a diamond."""
    [collection] = drawn(figure, gid)
    return len(np.asarray(collection.get_paths()[0].vertices))


def without_points(curve: CurveDetail) -> CurveDetail:
    """A sweep in which every point failed."""
    nothing = CurvePoints.model_validate({name: [] for name in CurvePoints.model_fields})
    changes = {"points": nothing, "lhps": [], "bins": [], "redundancy": None, "num_measured": 0}
    return curve.model_copy(update=changes)


def single_point(curve: CurveDetail) -> CurveDetail:
    points = curve.points
    first = {name: column[:1] for name, column in points.model_dump().items()}
    return curve.model_copy(
        update={
            "axes": [AxisRange(first=a.first, last=a.first) for a in curve.axes],
            "points": CurvePoints.model_validate(first),
            "failures": [],
            "bins": curve.bins[:1],
        }
    )


def test_a_staircase_marks_every_status_where_it_is() -> None:
    figure = draw_png(CURVE, platform=PLATFORM)
    assert positions(figure, "lhp") == [[256, 20], [259, 25]]
    assert positions(figure, "dominated") == [[257, 30], [258, 30]]
    assert positions(figure, "undecided") == [[260, 28]]
    assert [x for x, _ in positions(figure, "failed")] == [261]
    assert outline(figure, "undecided") < outline(figure, "lhp")


def test_bins_are_shaded_in_turns_up_to_their_lhps() -> None:
    first, second = drawn(draw_png(CURVE), "bins")
    # Half a step of room: the first bin holds 256 alone, the second 257 to 259.
    edges = [
        sorted({float(x) for path in bins.get_paths() for x in np.asarray(path.vertices)[:, 0]})
        for bins in (first, second)
    ]
    assert edges == [[255.5, 256.5], [256.5, 259.5]]
    assert np.any(np.asarray(first.get_facecolor()) != np.asarray(second.get_facecolor()))


def test_a_heat_map_colours_measured_points_only() -> None:
    figure = draw_png(PLANE)
    [image] = figure.axes[0].get_images()
    pixels = np.ma.MaskedArray(image.get_array()).filled(np.nan)
    np.testing.assert_allclose(pixels, PLANE_LATENCY)
    # Offsets are (in_features, out_features): the second axis runs to the right.
    assert positions(figure, "lhp") == [[6, 11], [5, 12]]
    assert positions(figure, "failed") == [[6, 12]]
    assert positions(figure, "asked") == []


def test_a_heat_map_of_multiples_has_cells_of_their_own_size() -> None:
    # out_features 9, 16 and 24 (multiples of 8 above 9), in_features 5 and 6.
    points = PLANE.points.model_copy(
        update={"dims": [[9, 5], [16, 5], [16, 6], [24, 5], [24, 6]], "latency_s": [50e-6] * 5}
    )
    rows = AxisRange(first=9, second=16, last=24, step=8)
    curve = PLANE.model_copy(
        update={"axes": [rows, PLANE.axes[1]], "points": points, "lhps": [], "failures": []}
    )
    [cells] = [c for c in draw_png(curve).axes[0].collections if isinstance(c, QuadMesh)]
    corners = np.asarray(cells.get_coordinates())
    # Half way between two dims, and half a step beyond the last; below 9, half the way up to 16.
    assert corners[:, 0, 1].tolist() == [5.5, 12.5, 20, 28]
    assert corners[0, :, 0].tolist() == [4.5, 5.5, 6.5]
    colours = np.ma.MaskedArray(cells.get_array()).filled(np.nan)
    np.testing.assert_allclose(colours, np.array([[50, np.nan], [50, 50], [50, 50]]))
    [drawn_map] = [
        trace
        for trace in heat_map_traces(curve, build_columns(curve))
        if trace["type"] == "heatmap"
    ]
    assert drawn_map["y"].tolist() == [9, 16, 24]


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_a_race_marks_what_was_asked_instead_of_what_it_left_undecided(mode: str) -> None:
    statuses = ["undecided"] * 5
    points = PLANE.points.model_copy(update={"status": statuses})
    figure = draw_png(PLANE.model_copy(update={"mode": mode, "points": points}))
    assert positions(figure, "asked") == [[5, 10]]
    assert positions(figure, "undecided") == []


def test_the_title_names_workload_platform_and_redundancy() -> None:
    title, subtitle = plot_title(CURVE, PLATFORM)
    assert title == CURVE.workload
    # 2 of 5, and one undecided: 40 to 60 %.
    assert subtitle == (
        "Example 9000, 1 thread · 2 of 5 points are LHPs, 20.0 % undecided,"
        " redundancy 40.0 to 60.0 % · 2026-01-02"
    )
    featured = PLATFORM.model_copy(update={"device_model": "Example 9000 (AVX512, AMX, L2 2 MiB)"})
    assert plot_title(CURVE, featured)[1] == subtitle
    assert "platform f00d" in plot_title(CURVE)[1]


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_the_title_of_a_race_promises_no_redundancy(mode: str) -> None:
    curve = CURVE.model_copy(update={"mode": mode, "redundancy": None})
    assert "· 5 of 6 points looked at for one at 256 ·" in plot_title(curve)[1]


def test_the_title_of_compared_kernels_names_no_asked_point() -> None:
    curve = CURVE.model_copy(update={"mode": "kernels", "redundancy": None})
    assert "· 5 of 6 kernels compared ·" in plot_title(curve)[1]
    assert positions(draw_png(curve), "asked") == []


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_a_race_along_one_axis_marks_what_was_asked(mode: str) -> None:
    curve = CURVE.model_copy(update={"mode": mode})
    assert positions(draw_png(curve), "asked") == [[256, 20]]
    [asked] = [trace for trace in build_plotly(curve).data if trace.name == "asked"]
    assert list(asked.x) == [256]
    assert list(asked.y) == pytest.approx([20])
    assert positions(draw_png(CURVE), "asked") == []
    # What it leaves undecided was never to be decided, and its bins mean nothing.
    names = {trace.name for trace in build_plotly(curve).data}
    assert "looked at" in names and not names & {"undecided", "hysteresis bins"}
    [legend] = draw_png(curve).legends
    labels = {text.get_text() for text in legend.get_texts()}
    assert "looked at" in labels and not labels & {"undecided", "hysteresis bins"}
    # If it failed, there is nothing to mark.
    assert positions(draw_png(without_points(curve)), "asked") == []


def test_what_was_asked_lies_in_the_corner_and_isnt_cut() -> None:
    plane = PLANE.model_copy(update={"mode": "race"})
    [mark] = drawn(draw_png(plane), "asked")
    assert not mark.get_clip_on()
    [asked] = [trace for trace in build_plotly(plane).data if trace.name == "asked"]
    assert asked.cliponaxis is False


def test_the_legend_says_what_the_shades_are() -> None:
    [legend] = draw_png(CURVE).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels.count("hysteresis bins") == 1
    assert [t.name for t in build_plotly(CURVE).data].count("hysteresis bins") == 1
    # A heat map has none.
    [legend] = draw_png(PLANE).legends
    assert "hysteresis bins" not in [text.get_text() for text in legend.get_texts()]


def test_latency_is_in_milliseconds_from_ten_of_them_on() -> None:
    slow = [10e-3, 11e-3, 12e-3, 13e-3, 14e-3]
    points = CURVE.points.model_copy(update={"latency_s": slow, "low_s": slow, "high_s": slow})
    axes = draw_png(CURVE.model_copy(update={"points": points})).axes[0]
    assert axes.get_ylabel() == "latency, ms per call"
    assert draw_png(CURVE).axes[0].get_ylabel() == "latency, µs per call"


@pytest.mark.parametrize("unbounded", [float("inf"), None])
def test_an_unbounded_interval_is_left_out_and_doesnt_stretch_the_picture(
    unbounded: float | None,
) -> None:
    # A point with one sample has no interval.
    high = [unbounded, 31e-6, 31e-6, 26e-6, 29e-6]
    points = CURVE.points.model_copy(update={"high_s": high})
    curve = CURVE.model_copy(update={"points": points})
    axes = draw_png(curve).axes[0]
    # Latencies from 20 to 30, with their other intervals from 19 to 31: 8 % of that is 0.96.
    assert axes.get_ylim() == pytest.approx((18.04, 31.96))
    lhps = next(trace for trace in build_plotly(curve).data if trace.name == "LHP")
    # The other LHP: 26 - 25 µs.
    np.testing.assert_allclose(lhps.error_y.array, [0, 1])


@pytest.mark.parametrize("curve", [CURVE, PLANE], ids=["one axis", "two axes"])
@pytest.mark.parametrize("change", [None, single_point, without_points])
@pytest.mark.parametrize("ending", ["png", "html"])
def test_every_kind_of_curve_can_be_saved(
    curve: CurveDetail, change: object, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"curve.{ending}"
    save_plot(change(curve) if callable(change) else curve, path, platform=PLATFORM)
    content = path.read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        # Width and height, big-endian, are the first fields of the first chunk.
        assert struct.unpack(">II", content[16:24]) == (1500, 900)
    else:
        assert content.rstrip().endswith(b"</html>")


def plotly_values(column: dict[str, str] | list[float]) -> list[float]:
    """The numbers of a column as plotly writes it into a page."""
    if isinstance(column, list):
        return column
    raw = base64.b64decode(column["bdata"])
    values: list[float] = np.frombuffer(raw, dtype=column["dtype"]).tolist()
    return values


def test_a_page_holds_the_library_and_the_data() -> None:
    page = render_html(CURVE)
    assert "plotly.js v" in page
    # A whole bundle, and no script from elsewhere.
    assert len(page) > 1_000_000
    assert re.findall(r"<script[^>]*\bsrc=", page) == []
    call = page[page.index("Plotly.newPlot(") :]
    data, _ = json.JSONDecoder().raw_decode(call[call.index("[") :])
    [lhps] = [trace for trace in data if trace["name"] == "LHP"]
    assert plotly_values(lhps["x"]) == [256, 259]
    assert plotly_values(lhps["y"]) == pytest.approx([20, 25])


def test_a_page_shades_bins_and_maps_planes() -> None:
    shapes = build_plotly(CURVE).layout.shapes
    assert [(shape.x0, shape.x1) for shape in shapes] == [(255.5, 256.5), (256.5, 259.5)]
    assert shapes[0].fillcolor != shapes[1].fillcolor
    traces = {trace.name: trace for trace in build_plotly(PLANE).data}
    assert list(traces["LHP"].x) == [6, 5]
    assert list(traces["LHP"].y) == [11, 12]
    assert list(traces["failed"].text) == ["out of memory"]
    heat = next(trace for trace in build_plotly(PLANE).data if trace.type == "heatmap")
    np.testing.assert_allclose(heat.z, PLANE_LATENCY)


def test_a_page_tells_which_points_rival_may_dominate_it() -> None:
    points = CURVE.points.model_copy(
        update={"status": ["lhp", "undecided", "dominated", "lhp", "undecided"]}
    )
    figure = build_plotly(CURVE.model_copy(update={"points": points}))
    [undecided] = [trace for trace in figure.data if trace.name == "undecided"]
    # 257 has 259 for a rival; 260 has none that is known.
    assert list(undecided.text) == [
        "95 % interval 29.00 to 31.00 µs<br>best larger: 259"
        "<br>its latency / this: 0.8330 [0.8000, 0.8600]",
        "95 % interval 27.00 to 29.00 µs",
    ]
    assert "%{text}" in undecided.hovertemplate
    status = ["undecided", *PLANE.points.status[1:]]
    plane = PLANE.model_copy(update={"points": PLANE.points.model_copy(update={"status": status})})
    [undecided] = [trace for trace in build_plotly(plane).data if trace.name == "undecided"]
    assert list(undecided.text) == [
        "95 % interval 49.00 to 51.00 µs<br>best larger: 12,5"
        "<br>its latency / this: 0.6000 [0.5900, 0.6100]"
    ]


def test_more_than_two_axes_are_refused() -> None:
    axes = [AxisRange(first=1, last=2)] * 3
    cube = CURVE.model_copy(update={"axes": axes, "axis_names": ["a", "b", "c"]})
    for draw in (draw_png, render_html):
        with pytest.raises(InvalidRequestError, match="3 axes"):
            draw(cube)


def test_what_cant_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="gif"):
        save_plot(CURVE, tmp_path / "curve.gif")
    with pytest.raises(LhpError, match="No such file or directory") as caught:
        save_plot(CURVE, tmp_path / "missing" / "curve.html")
    assert caught.value.hint
