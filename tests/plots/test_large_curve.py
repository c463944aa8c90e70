"""Figures of large curves, which show some of the points or blocks of them."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.blocks import Blocks
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.figure import unpack
from profiler_service.plots.text import describe_finding
from profiler_service.wire import AxisRange, BinInfo
from tests.cli.stub import CURVE
from tests.plots.reading import PLANE, numbers, traces
from tests.plots.test_curve import with_points


def test_the_cells_of_a_large_curve_are_blocks_with_their_ratio() -> None:
    # Two blocks of 2 × 1 points: sizes 10 and 11, and 12 alone. As a curve that lost the rest.
    blocks = Blocks(
        shape=(2, 1),
        first=(np.array([10, 12]), np.array([5])),
        last=(np.array([11, 12]), np.array([5])),
        latency_s=np.array([[40e-6], [20e-6]]),
    )
    cells = traces(curve_figure(PLANE, blocks=blocks))["latency"]
    assert (numbers(cells["y"]), numbers(cells["x"])) == ([10.5, 12], [5])
    # Compared with the median of both, 30 µs: 30 / 40 and 30 / 20.
    assert numbers(cells["customdata"]) == [[0.75], [1.5]]
    np.testing.assert_allclose(unpack(cells["z"]), np.log2([[0.75], [1.5]]))
    assert "median of 2 × 1 points" in cells["hovertemplate"]
    assert cells["colorbar"]["title"]["text"] == "× as fast<br>as the median cell"
    # With the asked point, 50 µs: 50 / 40 and 50 / 20.
    asked = traces(curve_figure(PLANE, blocks=blocks, asked=(10, 5)))["latency"]
    assert numbers(asked["customdata"]) == [[1.25], [2.5]]
    assert "as fast as asked" in asked["hovertemplate"]


def test_lhps_that_are_left_out_are_counted_in_the_legend() -> None:
    line = CURVE.model_copy(update={"num_lhps": 1200})
    assert "LHP, 2 of 1,200" in traces(curve_figure(line))
    plane = PLANE.model_copy(update={"num_lhps": 1200})
    assert traces(curve_figure(plane))["LHP, 2 of 1,200"]["visible"] == "legendonly"
    assert "visible" not in traces(curve_figure(PLANE))["LHP"]


def test_the_title_counts_points_that_are_left_out_too() -> None:
    # Of the 5 points in the curve 2 are dominated; of all 1,000, 800.
    curve = CURVE.model_copy(
        update={"num_measured": 1000, "num_dominated": 800, "num_left_out": 995}
    )
    assert describe_finding(curve) == "Four of five sizes are slower than a larger one"


def test_gains_along_a_long_axis_are_marks_because_bars_would_be_too_thin() -> None:
    assert traces(curve_figure(CURVE))["largest gain"]["type"] == "bar"
    dims = [[256], [257], [258], [259], [260 + 10_000]]
    far = with_points(CURVE, dims=dims).model_copy(
        update={"axes": [AxisRange(first=256, last=10_260)]}
    )
    assert traces(curve_figure(far))["largest gain"]["type"] == "scatter"


@pytest.mark.parametrize(("count", "is_shaded"), [(400, True), (401, False)])
def test_bins_are_shaded_under_the_pointer_unless_they_are_too_narrow(
    count: int, is_shaded: bool
) -> None:
    bins = [BinInfo(first=size, last=size) for size in range(256, 256 + count)]
    figure = curve_figure(CURVE.model_copy(update={"bins": bins}))
    assert ("bins" in figure["layout"]["meta"]) == is_shaded
    assert "hysteresis bins" in traces(figure)
