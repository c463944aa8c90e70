"""Compared curves, histories, interval bars and thumbnails."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.plots.compare import (
    ComparedLine,
    band,
    compare_figure,
    describe_comparison,
    read_comparison,
)
from profiler_service.plots.history import HistoryPoint, PlatformChange, history_figure
from profiler_service.plots.interval_bar import Gain, interval_bar
from profiler_service.plots.thumbnail import MOST_POINTS, thumbnail
from profiler_service.wire import CurveComparison
from tests.cli.stub import HEADER
from tests.plots.reading import notes, numbers, points, traces

DIMS = [256, 448, 1024, 2048]
DENSE = ComparedLine(label="dense", dims=DIMS, latency_s=[20e-6, 60e-6, 500e-6, 2e-3])


def compared(
    label: str, ratio: Sequence[float | None], *, error: float = 0.05, dims: Sequence[int] = DIMS
) -> ComparedLine:
    """A curve of so many times the latency of `dense`, each known within `error`."""
    return ComparedLine(
        label=label,
        dims=dims,
        latency_s=[None if each is None else each * 1e-4 for each in ratio],
        ratio=ratio,
        ratio_low=[None if each is None else each * (1 - error) for each in ratio],
        ratio_high=[None if each is None else each * (1 + error) for each in ratio],
    )


PACKED = compared("packed", [1.25, 0.8, 0.625, 0.5])
CSR = compared("csr", [0.9, 0.5, None, 0.25])


def test_curves_are_drawn_as_multiples_of_the_first() -> None:
    figure = compare_figure([DENSE, PACKED, CSR], axis="size", is_paired=False)
    lines = {t["name"]: t for t in figure["data"] if t["mode"] == "lines+markers"}
    assert points(lines["packed"]) == [(256, 0.8), (448, 1.25), (1024, 1.6), (2048, 2.0)]
    # A missing point breaks the line.
    assert math.isnan(numbers(lines["csr"]["y"])[2])
    assert lines["csr"]["connectgaps"] is False
    # Each has colour, shape and label.
    looks = {(t["marker"]["color"], t["marker"]["symbol"]) for t in lines.values()}
    assert looks == {("role:curve-2", "diamond"), ("role:curve-3", "triangle-up")}
    assert "<b>packed</b><br>2.00 × at 2048" in notes(figure)
    assert "<b>csr</b><br>4.00 × at 2048" in notes(figure)
    assert "<b>dense</b><br>= 1" in notes(figure)
    assert "↑ × as fast as dense" in notes(figure)
    assert "from independent measurements" in figure["layout"]["title"]["subtitle"]["text"]
    axis = figure["layout"]["xaxis"]
    assert (axis["type"], axis["ticktext"]) == ("log", ["256", "512", "1024", "2048"])
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_labels_at_the_lines_ends_dont_hide_each_other() -> None:
    near = [compared(name, [1, 1, 1, 0.5 + n / 1000]) for n, name in enumerate("abcde")]
    figure = compare_figure([DENSE, *near], axis="size", is_paired=True)
    low, high = figure["layout"]["yaxis"]["range"]
    places = sorted(
        380 * (note["y"] - low) / (high - low) + note["yshift"]
        for note in figure["layout"]["annotations"]
        if note["text"].startswith("<b>")
    )
    assert len(places) == 6
    assert np.diff(places).min() >= 33.9


def test_a_band_has_a_gap_where_an_interval_is_missing() -> None:
    nan = math.nan
    x, y = band(np.array([1, 2, 3, 4]), np.array([5, 6, nan, 8.0]), np.array([7, 8, nan, 9.0]))
    np.testing.assert_array_equal(x, [1, 2, 2, 1, nan, 4, 4, nan])
    np.testing.assert_array_equal(y, [7, 8, 6, 5, nan, 9, 8, nan])


def test_the_sentence_says_from_where_on_a_curve_is_ahead() -> None:
    # Of 0.8, 1.25, 1.6 and 2: intervals of 5 % leave no doubt.
    text = describe_comparison([DENSE, PACKED], axis="size")
    assert text == "From size 448 on, packed is faster than dense: 2.00 × as fast at 2048"
    assert describe_comparison([DENSE, PACKED, CSR], axis="size") == (
        "csr is faster than dense at every size: 1.11 to 4.00 × as fast"
    )
    slow = compared("slow", [2.0] * 4)
    assert describe_comparison([DENSE, slow], axis="size").startswith("slow is slower than dense")
    same = compared("same", [1.01] * 4)
    assert describe_comparison([DENSE, same], axis="size") == (
        "same and dense can't be told apart at any size"
    )
    mixed = compared("mixed", [0.5, 2.0, 0.5, 2.0])
    assert describe_comparison([DENSE, mixed], axis="size") == (
        "mixed is faster than dense at 2 of 4, and slower at 2"
    )
    apart = compared("apart", [None] * 4)
    assert "no common size" in describe_comparison([DENSE, apart], axis="size")


def test_latencies_are_compared_in_one_unit() -> None:
    figure = compare_figure([DENSE, PACKED], axis="size", is_paired=True, view="latency")
    assert numbers(traces(figure)["dense"]["y"]) == [0.02, 0.06, 0.5, 2.0]
    assert "↑ latency of one call, ms, log" in notes(figure)


@pytest.mark.parametrize("count", [1, 7])
def test_two_to_six_curves_are_compared(count: int) -> None:
    with pytest.raises(InvalidRequestError, match=str(count)):
        compare_figure([DENSE] * count, axis="size", is_paired=True)


NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def test_a_history_shows_values_gaps_noise_and_platform_changes() -> None:
    hours = [NOON + dt.timedelta(hours=n) for n in range(4)]
    figure = history_figure(
        [
            HistoryPoint(time=hours[0], value=20e-6, low=19e-6, high=22e-6),
            HistoryPoint(time=hours[1], value=None),
            HistoryPoint(time=hours[2], value=21e-6, is_noisy=True, note="a neighbour was busy"),
            HistoryPoint(time=hours[3], value=15e-6, low=14e-6, high=16e-6),
        ],
        title="The canary is 1.4 × as fast since torch 2.14",
        quantity="latency_s",
        changes=[PlatformChange(time=hours[3], what="torch 2.13 → 2.14")],
    )
    found = traces(figure)
    assert numbers(found["measured"]["y"]) == [20, 15]
    assert numbers(found["measured"]["error_y"]["array"]) == [2, 1]
    assert numbers(found["noisy"]["y"]) == [21]
    assert found["noisy"]["marker"]["symbol"] == "circle-open"
    assert found["noisy"]["hovertext"] == [
        "<b>21.0 µs</b><br>2026-03-01 14:00<br>noisy<br>a neighbour was busy"
    ]
    assert math.isnan(numbers(found[""]["y"])[1])  # the line has a gap
    [mark] = figure["layout"]["shapes"]
    assert mark["x0"] == mark["x1"] == hours[3].isoformat()
    assert "torch 2.13 → 2.14" in notes(figure)
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_a_history_of_gains_is_drawn_against_one_and_of_shares_against_a_limit() -> None:
    point = HistoryPoint(time=NOON, value=1.1)
    gains = history_figure([point], title="", quantity="gain")
    assert [shape["y0"] for shape in gains["layout"]["shapes"]] == [1]
    quiet = HistoryPoint(time=NOON, value=0.003)
    shares = history_figure([quiet], title="", quantity="share", limit=0.005)
    assert [shape["y0"] for shape in shares["layout"]["shapes"]] == [0.5]
    assert numbers(traces(shares)["measured"]["y"]) == [0.3]
    assert "limit: 0.500 %" in notes(shares)


ANSWER = Gain(label="1200 × 322", gain=2.95, low=2.91, high=3.0, is_answer=True)


def test_an_interval_far_from_one_says_where_that_lies() -> None:
    figure = interval_bar([ANSWER, Gain(label="1200 × 320", gain=2.93, low=2.83, high=3.03)])
    answer, other = figure["data"]
    assert (numbers(answer["x"]), answer["marker"]["color"]) == ([2.95], "role:faster")
    assert numbers(answer["error_x"]["array"]) == [0.05]
    assert numbers(other["error_x"]["arrayminus"]) == [0.1]
    assert "◂ asked is at 1" in notes(figure)
    assert "2.95 ×" in notes(figure)
    low, _ = figure["layout"]["xaxis"]["range"]
    assert 10**low > 2
    assert figure["layout"]["meta"]["title_height"] == 0
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_an_interval_near_one_is_drawn_against_it() -> None:
    figure = interval_bar([Gain(label="464", gain=1.1, low=1.05, high=1.15, is_answer=True)])
    low, high = figure["layout"]["xaxis"]["range"]
    assert 10**low < 1 and 10**high > 1.15
    lines = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "line"]
    assert [shape["x0"] for shape in lines] == [1]


def test_a_thumbnail_is_a_line_through_its_values() -> None:
    svg = thumbnail([1.0, 3.0, None, 2.0], marks=[3], width=106, height=26, label="a <b> c")
    # 100 × 20 pixels inside: three steps of 33.3; 1 lies at the bottom (23), 3 on top (3).
    lines = re.findall(r'<polyline points="([^"]*)"', svg)
    assert lines == ["3.0,23.0 36.3,3.0", "103.0,13.0"]
    assert 'cx="103.0" cy="13.0"' in svg
    assert "<title>a &lt;b&gt; c</title>" in svg
    assert thumbnail([]).startswith("<svg")


def test_a_thumbnail_of_many_values_keeps_their_extremes() -> None:
    values = [1.0] * 5000
    values[1234], values[4000] = 9.0, 0.5
    svg = thumbnail(values, width=106, height=26)
    [line] = re.findall(r'<polyline points="([^"]*)"', svg)
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert len(heights) <= MOST_POINTS
    assert (min(heights), max(heights)) == (3.0, 23.0)


def test_a_comparison_of_the_service_is_read_as_lines() -> None:
    columns = {"low_s": [None], "high_s": [None], "status": ["lhp"], "curve": HEADER}
    ratios = {"ratio": [0.5], "ratio_low": [0.4], "ratio_high": [0.6], "verdict": ["faster"]}
    curves = [
        {"label": "dense", "latency_s": [2e-5], "ratios": None, "summary": None, **columns},
        {"label": "packed", "latency_s": [1e-5], "ratios": ratios, "summary": None, **columns},
    ]
    comparison = CurveComparison.model_validate(
        {
            "finding": "",
            "workload": "matmul",
            "axis_names": ["size"],
            "differs": [],
            "same": [],
            "intervals": "paired",
            "num_points": 1,
            "num_left_out": 0,
            "dims": [[256]],
            "curves": curves,
        }
    )
    dense, packed = read_comparison(comparison)
    assert (dense.label, dense.dims, dense.ratio) == ("dense", [256], None)
    assert (packed.ratio, packed.ratio_low, packed.ratio_high) == ([0.5], [0.4], [0.6])
    figure = compare_figure([dense, packed], axis="size", is_paired=True)
    assert points(traces(figure)["packed"]) == [(256, 2.0)]
    plane = comparison.model_copy(update={"axis_names": ["a", "b"]})
    with pytest.raises(InvalidRequestError, match="2 axes"):
        read_comparison(plane)
