"""Curves of one axis and of two: which marks stand where, and what is said of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.plots.curve import curve_figure
from profiler_service.plots.figure import TEXT_POINTS, Figure, View
from profiler_service.plots.heat_map import cell_edges, color_scale
from profiler_service.plots.staircase import find_pattern
from profiler_service.plots.text import describe_counts, describe_curve_keys, describe_finding
from profiler_service.wire import AxisRange, CurveDetail, CurvePoints, EvidenceInfo
from tests.cli.stub import CURVE, LINEAR, MATMUL, PLATFORM, RACED
from tests.plots.reading import PLANE, notes, numbers, points, traces


def with_points(curve: CurveDetail, **columns: object) -> CurveDetail:
    return curve.model_copy(update={"points": curve.points.model_copy(update=columns)})


def without_points(curve: CurveDetail) -> CurveDetail:
    """A sweep in which every point failed."""
    nothing = CurvePoints.model_validate({name: [] for name in CurvePoints.model_fields})
    changes = {"points": nothing, "lhps": [], "bins": [], "redundancy": None, "num_measured": 0}
    return curve.model_copy(update=changes)


def single_point(curve: CurveDetail) -> CurveDetail:
    columns = {name: column[:1] for name, column in curve.points.model_dump().items()}
    return curve.model_copy(
        update={
            "axes": [AxisRange(first=a.first, last=a.first) for a in curve.axes],
            "points": CurvePoints.model_validate(columns),
            "num_measured": 1,
            "failures": [],
            "bins": curve.bins[:1],
        }
    )


def y_axis(figure: Figure) -> dict[str, object]:
    axis: dict[str, object] = figure["layout"]["yaxis"]
    return axis


def test_a_staircase_marks_every_status_where_it_is() -> None:
    found = traces(curve_figure(CURVE, platform=PLATFORM))
    assert points(found["LHP"]) == [(256, 20), (259, 25)]
    assert points(found["measured, 95 % interval"]) == [(257, 30), (258, 30)]
    assert points(found["failed"])[0][0] == 261
    assert found["failed"]["hovertext"] == ["<b>261</b>  failed<br>out of memory"]
    # Hollow, and of another shape: colour is never alone.
    symbols = {name: trace.get("marker", {}).get("symbol") for name, trace in found.items()}
    assert symbols["LHP"] == "circle"
    assert found["LHP"]["marker"]["color"] == "role:lhp"
    undecided = curve_figure(CURVE)["data"]
    [first] = [t for t in undecided if t["name"] == "undecided" and t["yaxis"] == "y"]
    assert (points(first), first["marker"]["symbol"]) == ([(260, 28)], "diamond-open")


def test_the_staircase_is_the_least_latency_at_or_above() -> None:
    # 20, 30, 30, 25, 28: the least of 256 on is 20, of 257 to 259 it is 25, of 260 it is 28.
    # Steps run up at once and then to the right, so each corner is where a level ends.
    stairs = traces(curve_figure(CURVE))["least latency at or above"]
    assert points(stairs) == [(256, 20), (259, 25), (260, 28)]
    assert stairs["line"]["shape"] == "vh"


def test_bins_are_a_ribbon_up_to_their_lhps() -> None:
    # Half a step of room: the first bin holds 256 alone, the second 257 to 259.
    ribbon = traces(curve_figure(CURVE))["hysteresis bins"]
    assert numbers(ribbon["x"]) == [255.5, 256.5, 259.5]
    assert ribbon["z"] == [[0, 1]]
    assert ribbon["hovertext"][0][1] == "bin 257 to 259<br>ends with LHP 259"
    assert curve_figure(CURVE)["layout"]["meta"]["bins"] == [255.5, 256.5, 259.5]


def test_gains_are_bars_and_the_largest_is_named() -> None:
    figure = curve_figure(CURVE)
    bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
    # 257 and 258 gain 1 / 0.833 = 1.2005; both are dominated with intervals below 1.
    assert sorted(x for bar in bars for x in numbers(bar["x"])) == [257, 258]
    assert [numbers(bar["y"])[0] for bar in bars] == pytest.approx([20.048, 20.048], abs=1e-3)
    assert "257 → 259: 1.20 × as fast" in notes(figure)
    ambiguous = with_points(CURVE, ratio_high=[1.3, 1.01, 1.01, 1.14, None])
    assert not [t for t in curve_figure(ambiguous)["data"] if t["type"] == "bar"]


def test_a_pattern_is_found_among_the_largest_gains() -> None:
    dims = np.arange(256, 513)
    gains = np.where((dims + 1) % 16 == 0, 1.1, 1.02)
    assert find_pattern(dims, gains) == 16
    assert find_pattern(dims, np.where(dims % 7 == 0, 1.1, 1.0)) == 0
    assert find_pattern(dims[:3], np.full(3, 1.1)) == 0  # too few to be a pattern


def test_hover_says_what_to_use_instead_and_how_sure_that_is() -> None:
    found = traces(curve_figure(CURVE))
    # 30 / 25 = 1.2: from 1 / 0.86 = 1.163 to 1 / 0.8 = 1.25.
    assert found["measured, 95 % interval"]["hovertext"][0] == (
        "<b>257 → use 259</b>  dominated<br><b>1.20 × as fast</b> (1.16 to 1.25 ×)"
        "<br>257: 30.0 µs (29.0 to 31.0)<br>259: 25.0 µs (24.0 to 26.0)<br>9 samples"
    )
    # An LHP's best rival is slower by 12 %, from 10 to 14 %.
    assert found["LHP"]["hovertext"][1] == (
        "<b>259</b>  LHP<br>best larger: 260, <b>12.0 % slower</b> (10.0 to 14.0 %)"
        "<br>259: 25.0 µs (24.0 to 26.0)<br>260: 28.0 µs (27.0 to 29.0)<br>9 samples"
    )


def test_an_edge_is_drawn_apart_from_lhps_and_said_to_be_one() -> None:
    curve = with_points(CURVE, status=["lhp", "dominated", "dominated", "lhp", "edge"])
    edge = traces(curve_figure(curve))["edge: nothing larger measured"]
    assert points(edge) == [(260, 28)]
    assert edge["marker"]["symbol"] == "triangle-right-open"


def test_a_long_interval_is_cut_and_told_under_the_pointer() -> None:
    # Latencies from 20 to 30 µs: a quarter of the range is 2.5. Of 257 (30 µs) the interval goes
    # from 5 to 90.
    curve = with_points(
        CURVE,
        low_s=[19e-6, 5e-6, 29e-6, 24e-6, 27e-6],
        high_s=[21e-6, 90e-6, 31e-6, 26e-6, 29e-6],
    )
    figure = curve_figure(curve)
    cut = [trace for trace in figure["data"] if trace["name"] == "interval goes on"]
    assert [points(trace) for trace in cut] == [[(257, 27.5)], [(257, 32.5)]]
    # 19 to 32.5 are drawn: 6 % of that is 0.81.
    assert y_axis(figure)["range"] == pytest.approx([18.19, 33.31])
    assert (
        "257: 30.0 µs (5.00 to 90.0)" in traces(figure)["measured, 95 % interval"]["hovertext"][0]
    )


@pytest.mark.parametrize("unbounded", [float("inf"), None])
def test_an_unbounded_interval_is_left_out_and_doesnt_stretch_the_picture(
    unbounded: float | None,
) -> None:
    # A point with one sample has no interval.
    curve = with_points(CURVE, high_s=[unbounded, 31e-6, 31e-6, 26e-6, 29e-6])
    figure = curve_figure(curve)
    # 19 to 31: 6 % of that is 0.72.
    assert y_axis(figure)["range"] == pytest.approx([18.28, 31.72])
    assert numbers(traces(figure)["LHP"]["error_y"]["array"]) == [0, 1]
    assert "256: 20.0 µs<br>" in traces(figure)["LHP"]["hovertext"][0]


@pytest.mark.parametrize(
    ("view", "name", "first"),
    [
        ("latency", "↑ latency of one call, µs", 20.0),
        # 2 · 16 · 256² operations in 20 µs: 9.537 ps each.
        ("per_flop", "↑ time per operation, ps", 9.536743),
        ("relative", "↑ × the least latency at or above", 1.0),
    ],
)
def test_views_divide_latencies(view: View, name: str, first: float) -> None:
    figure = curve_figure(CURVE, view=view)
    assert name in notes(figure)
    assert points(traces(figure)["LHP"])[0] == pytest.approx((256, first))
    # Its staircase would be that of something else.
    assert ("least latency at or above" in traces(figure)) == (view == "latency")


def test_operations_of_an_unknown_kind_cant_be_counted() -> None:
    curve = CURVE.model_copy(update={"workload": "teleport[batch=16]"})
    with pytest.raises(InvalidRequestError, match="teleport"):
        curve_figure(curve, view="per_flop")
    assert curve_figure(curve)["data"]


def test_a_logarithmic_scale_has_round_ticks() -> None:
    figure = curve_figure(CURVE, scale="log")
    axis = figure["layout"]["yaxis"]
    assert axis["type"] == "log"
    low, high = axis["range"]
    assert 10**low < 19 and 10**high > 31
    assert "20" in axis["ticktext"]


def test_a_heat_map_shows_ratios_of_measured_points_only() -> None:
    figure = curve_figure(PLANE)
    heat = traces(figure)["latency"]
    # The median latency is 45 µs. Powers of two times as fast: log2(45 / 50) = -0.152 …
    expected = np.log2(45 / np.array([[50, 55], [45, 40], [30, np.nan]]))
    np.testing.assert_allclose(np.array(numbers(heat["z"])), expected, atol=1e-6)
    assert points(traces(figure)["LHP"]) == [(6, 11), (5, 12)]
    assert points(traces(figure)["failed"]) == [(6, 12)]
    assert "asked" not in traces(figure)
    # Under the pointer: from (10,5) to (12,5), x first.
    assert heat["customdata"][0][0] == [5, 12]
    assert heat["hovertext"][0][0].startswith("<b>10 × 5 → use 12 × 5</b>  dominated")
    assert figure["layout"]["xaxis"]["ticktext"] == ["5", "6"]


def test_colours_are_neutral_at_one_and_equally_strong_on_both_sides() -> None:
    # Three steps of slower and four of faster from 0 in the middle.
    whole = color_scale(-1.0, 1.0)
    assert [color for _, color in whole] == [f"role:heat-{n}" for n in range(1, 9)]
    assert whole[3] == [0.5, "role:heat-4"]
    # A third as far to the slower side: only its palest colour.
    assert [color for _, color in color_scale(-0.3, 1.0)][:2] == ["role:heat-3", "role:heat-4"]
    assert color_scale(0.0, 2.0)[0] == [0.0, "role:heat-4"]
    assert color_scale(-2.0, 0.0)[-1] == [1.0, "role:heat-4"]


def test_cells_of_multiples_have_their_own_size() -> None:
    # Half way between two dims, and half a step beyond the last; below 9, half the way up to 16.
    axis = AxisRange(first=9, second=16, last=24, step=8)
    assert cell_edges(axis).tolist() == [5.5, 12.5, 20, 28]


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_a_race_marks_asked_and_answer_instead_of_what_it_left_undecided(mode: str) -> None:
    plane = with_points(PLANE, status=["undecided"] * 5).model_copy(update={"mode": mode})
    figure = curve_figure(plane)
    assert points(traces(figure)["asked"]) == [(5, 10)]
    # 50 / 30: (12,5) is surely faster.
    assert points(traces(figure)["answer"]) == [(5, 12)]
    assert "use 12 × 5" in notes(figure)
    assert traces(figure)["asked"]["cliponaxis"] is False  # it lies in the corner
    assert "undecided" not in traces(figure)
    # Colours then compare with the asked point: 50 / 30 times as fast.
    assert numbers(traces(figure)["latency"]["z"])[2][0] == pytest.approx(np.log2(5 / 3), abs=1e-6)
    figure = curve_figure(plane, answer=[11, 6])
    assert points(traces(figure)["answer"]) == [(6, 11)]


def test_a_grid_is_compared_with_the_point_that_was_asked_for() -> None:
    figure = curve_figure(PLANE, asked=[10, 5], answer=[11, 6])
    assert points(traces(figure)["asked"]) == [(5, 10)]
    assert points(traces(figure)["answer"]) == [(6, 11)]
    assert "asked" not in traces(curve_figure(PLANE))
    assert "asked" not in traces(curve_figure(PLANE, asked=[99, 99]))  # it wasn't measured


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_a_race_along_one_axis_marks_what_was_asked(mode: str) -> None:
    curve = RACED.model_copy(update={"mode": mode})
    found = traces(curve_figure(curve))
    assert points(found["asked"]) == [(256, 28)]
    assert points(found["answer"]) == [(259, 25.2)]
    # What it leaves undecided was never to be decided, and its bins mean nothing.
    assert "looked at" in found and not found.keys() & {"undecided", "hysteresis bins"}
    # If it failed, there is nothing to mark.
    assert "asked" not in traces(curve_figure(without_points(curve)))
    assert "asked" not in traces(curve_figure(CURVE))


@pytest.mark.parametrize("curve", [CURVE, PLANE], ids=["one axis", "two axes"])
@pytest.mark.parametrize("change", [lambda curve: curve, single_point, without_points])
def test_every_kind_of_curve_has_a_figure_of_plain_json(curve: CurveDetail, change: object) -> None:
    assert callable(change)
    figure = curve_figure(change(curve), platform=PLATFORM)
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_more_than_two_axes_are_refused() -> None:
    axes = [AxisRange(first=1, last=2)] * 3
    cube = CURVE.model_copy(update={"axes": axes, "axis_names": ["a", "b", "c"]})
    with pytest.raises(InvalidRequestError, match="3 axes"):
        curve_figure(cube)


def test_the_title_is_the_finding() -> None:
    # 2 of 5 are dominated.
    assert describe_finding(CURVE) == "Two of five sizes are slower than a larger one"
    assert describe_finding(PLANE) == "Three of five points are slower than a larger one"
    assert describe_finding(without_points(CURVE)) == "Nothing could be measured"
    # 1 / 0.9 = 1.111
    assert describe_finding(RACED) == "Use 259 instead of 256: 11.1 % faster"
    unsure = with_points(RACED, ratio_high=[1.01, None, None, None, None])
    assert describe_finding(unsure) == "Keep 256: nothing larger is clearly faster"
    title = curve_figure(CURVE, platform=PLATFORM)["layout"]["title"]
    assert title["text"] == describe_finding(CURVE)
    # 2 of 5, and one undecided: 40 to 60 %.
    assert title["subtitle"]["text"] == (
        f"{MATMUL} · Example 9000, 1 thread · 2026-01-02<br>2 of 5 points are LHPs,"
        " 20.0 % undecided, redundancy 40.0 to 60.0 %"
    )


def test_the_lines_below_the_title_say_what_was_measured() -> None:
    featured = PLATFORM.model_copy(update={"device_model": "Example 9000 (AVX512, AMX, L2 2 MiB)"})
    assert describe_curve_keys(CURVE, featured) == describe_curve_keys(CURVE, PLATFORM)
    assert "platform f00d" in describe_curve_keys(CURVE)
    race = CURVE.model_copy(update={"mode": "race", "redundancy": None})
    assert describe_counts(race) == "5 of 6 points looked at for one at 256"


def test_a_curve_measured_too_little_says_so_in_its_title() -> None:
    little = CURVE.model_copy(update={"undecided": 0.8, "num_undecided": 4})
    assert describe_finding(little) == "Too little was measured: 80.0 % undecided"
    # In a race, undecided points are no sign of that, but a budget that ended too early is.
    race = RACED.model_copy(update={"evidence": EvidenceInfo(cut_short=True)})
    assert describe_finding(race).startswith("Too little was measured: the budget ended")


def test_kernels_are_called_by_their_names() -> None:
    # By their numbers: 1 is dense, 2 packed, 4 csr at 99 % zeros.
    dims = [[1], [2], [4], [14], [24]]
    curve = CURVE.model_copy(
        update={
            "mode": "kernels",
            "redundancy": None,
            "undecided": None,
            "workload": LINEAR.replace("linear", "linear_kernels"),
            "axis_names": ["kernel"],
            "axes": [AxisRange(first=1, last=24)],
            "points": CURVE.points.model_copy(
                update={
                    "dims": dims,
                    "rival": [None] * 5,
                    "latency_s": [30e-6, 20e-6, 25e-6, 40e-6, 50e-6],
                }
            ),
            "failures": [],
        }
    )
    names = ["dense", "packed", "csr at 0.99", "csr at 0.89", "csr at 0.79"]
    figure = curve_figure(curve)
    axis = figure["layout"]["xaxis"]
    # Side by side, whatever their numbers are.
    assert (axis["tickvals"], axis["ticktext"]) == ([1, 2, 3, 4, 5], names)
    told = [text for trace in figure["data"] for text in trace.get("hovertext", [])]
    assert {text.split("<b>")[1].split("</b>")[0] for text in told} == set(names)
    # 30 / 20
    assert describe_finding(curve) == "packed is the fastest of 5 kernels: 1.50 × as fast as dense"
    assert describe_counts(curve) == "5 of 6 kernels compared"


@pytest.mark.parametrize("sides", [(TEXT_POINTS + 1,), (72, 72)], ids=["one axis", "two axes"])
def test_of_very_many_points_the_figure_has_no_texts(sides: tuple[int, ...]) -> None:
    dims = [[1 + place for place in index] for index in np.ndindex(sides)]  # 72 · 72 = 5184
    count = len(dims)
    columns = {name: column[1:2] * count for name, column in CURVE.points.model_dump().items()}
    columns |= {"dims": dims, "rival": [dims[-1]] * count}
    changes = {
        "points": CurvePoints.model_validate(columns),
        "axes": [AxisRange(first=1, last=side) for side in sides],
        "axis_names": ["a", "b"][: len(sides)],
        "failures": [],
        "bins": [],
    }
    figure = curve_figure(CURVE.model_copy(update=changes))
    assert not any("hovertext" in trace for trace in figure["data"])
    assert len(json.dumps(figure)) < 100 * count
