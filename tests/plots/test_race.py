"""How a race went, drawn: stages, contest, confirmation."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from profiler_service.plots.curve import build_plotly, draw_png, save_plot
from profiler_service.plots.race import (
    LABELLED_POINTS,
    draw_contest,
    find_asked,
    find_confirmation,
    find_racers,
    stage_names,
)
from profiler_service.wire import AxisRange, CurveDetail, CurvePoints, RaceInfo
from tests.cli.stub import LINEAR, RACE, RACED

# The same along two axes: sizes become (size, 5); (259, 5) is the confirmed one.
PLANE = RACED.model_copy(
    update={
        "workload": LINEAR,
        "axis_names": ["out_features", "in_features"],
        "axes": [AxisRange(first=256, last=261), AxisRange(first=5, last=6)],
        "points": RACED.points.model_copy(
            update={"dims": [[*dims, 5] for dims in RACED.points.dims], "rival": [[259, 5]] * 5}
        ),
        "failures": [],
    }
)
PLANE_RACE = RaceInfo.model_validate(
    RACE.model_dump()
    | {
        "stages": [
            stage.model_dump()
            | {name: [[*dims, 5] for dims in getattr(stage, name)] for name in ("kept", "dropped")}
            for stage in RACE.stages
        ]
    }
)


def panels(figure: Figure) -> dict[str, Axes]:
    """The race's panels by the heading that stands on their left."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def marks(axes: Axes, gid: str) -> list[list[float]]:
    return [
        point
        for each in axes.collections
        if isinstance(each, PathCollection) and each.get_gid() == gid
        for point in np.asarray(each.get_offsets()).round(6).tolist()
    ]


def unconfirmed(curve: CurveDetail, *, verdict_s: bool) -> CurveDetail:
    """A race whose best rival couldn't be told from the asked point; or one without a rival."""
    column: list[float | None] = [None] * 5
    changes = {
        "ratio": [0.995 if verdict_s else None, *column[1:]],
        "ratio_low": [0.985 if verdict_s else None, *column[1:]],
        "ratio_high": [1.005 if verdict_s else None, *column[1:]],
        "rival": column,
    }
    return curve.model_copy(update={"points": curve.points.model_copy(update=changes)})


def test_stages_of_one_kind_are_numbered() -> None:
    assert stage_names(RACE) == ["narrow", "contest 1", "contest 2", "confirm"]


def test_every_racer_has_a_fate_and_a_latency() -> None:
    racers = find_racers(RACED, RACE)
    assert [(racer.name, racer.fate) for racer in racers] == [
        ("259", "confirmed"),
        ("258", "dropped in contest 2"),
        ("257", "dropped in contest 1"),
    ]
    assert (racers[0].low_s, racers[0].latency_s, racers[0].high_s) == (25e-6, 25.2e-6, 25.4e-6)
    # 260 was looked at while narrowing only, and 256 is the one to beat.
    asked = find_asked(RACED)
    assert asked is not None and asked.name == "256"


def test_a_racer_that_failed_later_has_no_latency_to_draw() -> None:
    columns = {name: column[:3] for name, column in RACED.points.model_dump().items()}
    without = RACED.model_copy(update={"points": CurvePoints.model_validate(columns)})
    assert [racer.name for racer in find_racers(without, RACE)] == ["258", "257"]


def test_a_survivor_that_nobody_confirmed_was_kept() -> None:
    cut = RACE.model_copy(update={"stages": RACE.stages[:2]})
    fates = {racer.name: racer.fate for racer in find_racers(RACED, cut)}
    assert fates == {
        "259": "kept in contest",
        "258": "kept in contest",
        "257": "dropped in contest",
    }


def test_the_picture_shows_stages_contest_and_confirmation() -> None:
    figure = draw_png(RACED, race=RACE)
    found = panels(figure)
    stages = found["who took part, and (darker) who was kept"]
    assert [label.get_text() for label in stages.get_yticklabels()] == stage_names(RACE)
    bars = [bar for bar in stages.patches if isinstance(bar, Rectangle)]
    ends = {
        gid: [round(bar.get_x() + bar.get_width()) for bar in bars if bar.get_gid() == gid]
        for gid in ("field", "kept")
    }
    assert ends == {"field": [6, 3, 2, 1], "kept": [3, 2, 1, 1]}
    assert stages.texts[0].get_text() == "6 → 3 · 40 visits, 4 ms · slower by the fit"

    contest = found["the points raced: medians, 95 % intervals"]
    # Fastest first: 259, 258, 257; in µs.
    assert marks(contest, "confirmed") == [[0, 25.2]]
    assert marks(contest, "dropped in contest 2") == [[1, 29]]
    assert marks(contest, "dropped in contest 1") == [[2, 30]]
    assert [label.get_text() for label in contest.get_xticklabels()] == ["259", "258", "257"]
    assert contest.lines[0].get_ydata() == pytest.approx([28, 28])

    confirmation = found["confirmation"]
    assert marks(confirmation, "confirmation") == [[0, 0.9]]
    assert confirmation.get_xlabel() == "0.9000\n[0.8900, 0.9100]"
    assert confirmation.get_ylabel() == "latency of 259 / asked"
    # 1 must be seen, or the interval stands against nothing.
    low, high = confirmation.get_ylim()
    assert low < 0.89 and high > 1


def test_the_curve_marks_who_raced_and_who_won() -> None:
    axes = draw_png(RACED, race=RACE).axes[0]
    assert sorted(marks(axes, "raced")) == [[257, 30], [258, 29], [259, 25.2]]
    assert marks(axes, "confirmed") == [[259, 25.2]]
    # A heat map's second axis runs to the right.
    axes = draw_png(PLANE, race=PLANE_RACE).axes[0]
    assert marks(axes, "confirmed") == [[5, 259]]
    assert marks(draw_png(RACED).axes[0], "raced") == []


def test_a_rival_that_isnt_confirmed_is_shown_against_one() -> None:
    curve = unconfirmed(RACED, verdict_s=True)
    found = find_confirmation(curve)
    assert found is not None
    assert (found.rival, found.ratio, found.low, found.high) == ("best rival", 0.995, 0.985, 1.005)
    assert find_confirmation(unconfirmed(RACED, verdict_s=False)) is None
    figure = draw_png(unconfirmed(RACED, verdict_s=False), race=RACE)
    assert panels(figure)["confirmation"].get_xlabel() == "none"


def test_many_racers_arent_named_on_top_of_each_other() -> None:
    count = LABELLED_POINTS + 1
    columns = {name: column[1:2] * count for name, column in RACED.points.model_dump().items()}
    points = CurvePoints.model_validate(columns | {"dims": [[256 + n] for n in range(count)]})
    stage = RACE.stages[1].model_copy(update={"kept": points.dims, "dropped": []})
    axes = Figure().add_subplot()
    race = RACE.model_copy(update={"stages": [stage]})
    draw_contest(axes, RACED.model_copy(update={"points": points}), race)
    assert axes.get_xticklabels() == []
    assert len(marks(axes, "kept in contest")) == count


def test_wide_intervals_dont_squash_the_contest() -> None:
    high_s = [28.5e-6, 1.0, *RACED.points.high_s[2:]]
    points = RACED.points.model_copy(update={"high_s": high_s})
    curve = RACED.model_copy(update={"points": points})
    # From 25.2 to 30 µs, and a half of those 4.8 on both sides.
    axes = panels(draw_png(curve, race=RACE))["the points raced: medians, 95 % intervals"]
    assert axes.get_ylim() == pytest.approx((22.8, 32.4))
    figure = build_plotly(curve, race=RACE)
    assert figure.layout.yaxis3.range == pytest.approx((22.8, 32.4))


def test_a_page_has_the_same_panels() -> None:
    figure = build_plotly(RACED, race=RACE)
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["took part"].x) == [6, 3, 2, 1]
    assert list(traces["kept"].x) == [3, 2, 1, 1]
    assert traces["took part"].hovertext[1] == "larger median<br>257"
    assert list(traces["dropped in contest 1"].y) == pytest.approx([30])
    assert list(traces["dropped in contest 1"].error_y.array) == pytest.approx([1])
    assert list(traces["confirmation"].y) == [0.9]
    assert list(traces["confirmation"].error_y.array) == pytest.approx([0.01])
    # The line that the ratio is compared with.
    assert [shape.y0 for shape in figure.layout.shapes] == [1]
    # The curve keeps the first axes.
    assert figure.layout.xaxis.title.text == "size"
    assert traces["raced"].xaxis in (None, "x")


@pytest.mark.parametrize(
    ("curve", "race"), [(RACED, RACE), (PLANE, PLANE_RACE)], ids=["one axis", "two axes"]
)
@pytest.mark.parametrize("is_confirmed", [True, False])
@pytest.mark.parametrize("ending", ["png", "html"])
def test_races_can_be_saved(
    curve: CurveDetail, race: RaceInfo, is_confirmed: bool, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"race.{ending}"
    save_plot(curve if is_confirmed else unconfirmed(curve, verdict_s=False), path, race=race)
    content = path.read_bytes()
    if ending == "png":
        # 5.4 + (0.5 + 4 · 0.25) + 4.1 = 11 inches of 150 dots.
        assert struct.unpack(">II", content[16:24]) == (1500, 1650)
    else:
        assert content.rstrip().endswith(b"</html>")


def test_a_race_without_stages_is_drawn_as_its_curve(tmp_path: Path) -> None:
    nothing = RACE.model_copy(update={"stages": []})
    assert panels(draw_png(RACED, race=nothing)) == {}
    assert len(build_plotly(RACED, race=nothing).data) == len(build_plotly(RACED).data)
