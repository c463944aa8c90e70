"""What a picture says by its marks: edges, intervals, undecided points, kernels; and its title."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from profiler_service.kinds.kernels import Kernel
from profiler_service.plots.curve import build_plotly, draw_png
from profiler_service.plots.kernels import choose_ticks
from profiler_service.plots.text import plot_title
from profiler_service.wire import AxisRange, CurvePoints, EvidenceInfo
from tests.cli.stub import CURVE, MATMUL
from tests.plots.test_curve import PLANE, drawn, outline, positions


def test_a_long_interval_is_cut_with_a_mark_and_stays_within_the_axes() -> None:
    # Latencies from 20 to 30 µs: a quarter of the range is 2.5. Of 257 (30 µs) the interval goes
    # from 5 to 90.
    points = CURVE.points.model_copy(
        update={
            "low_s": [19e-6, 5e-6, 29e-6, 24e-6, 27e-6],
            "high_s": [21e-6, 90e-6, 31e-6, 26e-6, 29e-6],
        }
    )
    curve = CURVE.model_copy(update={"points": points})
    figure = draw_png(curve)
    assert sorted(positions(figure, "cut")) == [[257, 27.5], [257, 32.5]]
    floor, ceiling = figure.axes[0].get_ylim()
    [intervals] = drawn(figure, "interval")
    ends = np.concatenate([np.asarray(path.vertices)[:, 1] for path in intervals.get_paths()])
    assert floor < ends.min() and ends.max() < ceiling
    assert positions(draw_png(CURVE), "cut") == []
    page = {trace.name: trace for trace in build_plotly(curve).data}
    assert list(page["interval goes on"].y) == pytest.approx([27.5, 32.5])
    # Its value is told under the pointer.
    assert "95 % interval 5.00 to 90.00 µs" in page["measured"].text[0]
    low, high = build_plotly(curve).layout.yaxis.range
    assert (low, high) == (floor, ceiling)


def test_an_edge_is_drawn_apart_from_lhps_and_said_to_be_one() -> None:
    statuses = ["lhp", "dominated", "dominated", "lhp", "edge"]
    points = CURVE.points.model_copy(update={"status": statuses})
    curve = CURVE.model_copy(update={"points": points})
    figure = draw_png(curve)
    assert positions(figure, "lhp") == [[256, 20], [259, 25]]
    assert positions(figure, "edge") == [[260, 28]]
    [edge] = drawn(figure, "edge")
    assert not len(np.asarray(edge.get_facecolor()))  # hollow
    assert outline(figure, "edge") != outline(figure, "lhp")
    [legend] = figure.legends
    assert "edge: nothing larger measured" in {text.get_text() for text in legend.get_texts()}
    names = {trace.name for trace in build_plotly(curve).data}
    assert "edge: nothing larger measured" in names
    plane = PLANE.points.model_copy(update={"status": [*PLANE.points.status[:3], "edge", "edge"]})
    plane_curve = PLANE.model_copy(update={"points": plane})
    assert positions(draw_png(plane_curve), "edge") == [[6, 11], [5, 12]]
    assert positions(draw_png(plane_curve), "lhp") == []


def test_undecided_points_of_a_heat_map_leave_most_of_their_cells_free() -> None:
    # 41 × 41 points, every one undecided.
    side = 41
    dims = [[10 + n // side, 5 + n % side] for n in range(side * side)]
    latency_s = [1e-5] * len(dims)
    nothing = [None] * len(dims)
    points = CurvePoints.model_validate(
        {
            "dims": dims,
            **dict.fromkeys(("latency_s", "low_s", "high_s"), latency_s),
            "num_samples": [6] * len(dims),
            "status": ["undecided"] * len(dims),
            **dict.fromkeys(("rival", "ratio", "ratio_low", "ratio_high"), nothing),
        }
    )
    axes = [AxisRange(first=10, last=50), AxisRange(first=5, last=45)]
    figure = draw_png(PLANE.model_copy(update={"points": points, "axes": axes, "failures": []}))
    [marks] = drawn(figure, "undecided")
    assert isinstance(marks, PathCollection)
    diameter = float(np.asarray(marks.get_sizes())[0]) ** 0.5 / 72 * figure.dpi
    figure.canvas.draw()
    cell = figure.axes[0].get_window_extent().height / side
    assert diameter < cell / 4
    assert np.asarray(marks.get_facecolor())[0, 3] < 0.7  # the field shows through


@pytest.mark.parametrize("kind", ["linear_kernels", "hlstm_kernels"])
def test_kernels_are_called_by_their_names(kind: str) -> None:
    # By their numbers: 1 is dense, 2 packed, 4 csr at 99 % zeros.
    points = CURVE.points.model_copy(update={"dims": [[1], [2], [4], [14], [24]]})
    curve = CURVE.model_copy(
        update={
            "mode": "kernels",
            "redundancy": None,
            "undecided": None,
            "workload": f"{kind}[batch=16,dtype=float32]",
            "axis_names": ["kernel"],
            "axes": [AxisRange(first=1, last=24)],
            "points": points,
            "failures": [],
        }
    )
    names = ["dense", "packed", "csr at 0.99", "csr at 0.89", "csr at 0.79"]
    axes = draw_png(curve).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    # Side by side, whatever their numbers are.
    assert axes.get_xticks().tolist() == [1, 2, 3, 4, 5]
    page = build_plotly(curve)
    assert (list(page.layout.xaxis.tickvals), list(page.layout.xaxis.ticktext)) == (
        [1, 2, 3, 4, 5],
        names,
    )
    told = {name: trace for trace in page.data for name in trace.customdata}
    assert told.keys() == set(names)
    assert all("kernel %{customdata}" in trace.hovertemplate for trace in told.values())


def test_of_many_kernels_a_few_are_named() -> None:
    names = {n: str(Kernel.from_dims((n,))) for n in range(1, 104)}
    ticks = choose_ticks(names)
    assert len(ticks) <= 12
    assert list(ticks.values())[:4] == ["dense", "packed", "compiled", "csr at 0.99"]


def test_a_curve_measured_too_little_says_so_in_its_title() -> None:
    little = CURVE.model_copy(update={"undecided": 0.8, "num_undecided": 4})
    assert plot_title(little)[0] == f"{MATMUL} – measured too little: 80.0 % undecided"
    # In a race, undecided points are no sign of that, but a budget that ended too early is.
    race = CURVE.model_copy(update={"mode": "race", "undecided": None})
    assert plot_title(race)[0] == MATMUL
    cut = race.model_copy(update={"evidence": EvidenceInfo(cut_short=True)})
    assert "measured too little: its budget ended" in plot_title(cut)[0]
    assert draw_png(little).get_suptitle() == plot_title(little)[0]
