"""How a race went, drawn: stages, contest, confirmation."""

from __future__ import annotations

import json

import pytest

from profiler_service.plots.curve import curve_figure, race_figure
from profiler_service.plots.race import (
    LABELLED_POINTS,
    find_asked,
    find_confirmation,
    find_racers,
    stage_names,
)
from profiler_service.wire import AxisRange, CurveDetail, CurvePoints, RaceInfo
from tests.cli.stub import LINEAR, RACE, RACED
from tests.plots.reading import notes, numbers, points, traces

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


def unconfirmed(curve: CurveDetail, *, verdict_s: bool) -> CurveDetail:
    """A race whose best rival couldn't be told from the asked point; or one without a rival."""
    column: list[float | None] = [None] * 5
    changes = {
        "ratio": [0.8 if verdict_s else None, *column[1:]],
        "ratio_low": [0.5 if verdict_s else None, *column[1:]],
        "ratio_high": [1.25 if verdict_s else None, *column[1:]],
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


def test_the_figure_shows_stages_contest_and_confirmation() -> None:
    figure = race_figure(RACED, RACE)
    found = traces(figure)
    assert found["took part"]["y"] == stage_names(RACE)
    assert numbers(found["took part"]["x"]) == [6, 3, 2, 1]
    assert numbers(found["kept"]["x"]) == [3, 2, 1, 1]
    assert found["took part"]["text"][0] == "6 → 3 · 40 visits, 4 ms · slower by the fit"
    assert found["took part"]["hovertext"][1] == "larger median<br>257"
    # Fastest first; in µs, with their intervals.
    assert figure["layout"]["xaxis2"]["categoryarray"] == ["259", "258", "257"]
    assert (found["confirmed"]["x"], numbers(found["confirmed"]["y"])) == (["259"], [25.2])
    assert numbers(found["dropped in contest 2"]["y"]) == [29]
    assert numbers(found["dropped in contest 1"]["error_y"]["array"]) == [1]
    assert numbers(found["asked, 256"]["y"]) == [28, 28, 28]
    # 1 / 0.9, from 1 / 0.91 to 1 / 0.89. 1 must be seen, or the interval stands against nothing.
    assert numbers(found["confirmation"]["y"]) == pytest.approx([1.111111])
    low, high = figure["layout"]["yaxis3"]["range"]
    assert low < 1 and high > 1.1236
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [1]
    assert "11.1 % faster (9.9 to 12.4 %) →" in notes(figure)


def test_shapes_tell_fates_apart() -> None:
    found = traces(race_figure(RACED, RACE))
    fates = ("confirmed", "dropped in contest 1", "dropped in contest 2")
    looks = {(found[f]["marker"]["color"], found[f]["marker"]["symbol"]) for f in fates}
    assert len(looks) == len(fates)


def test_the_curve_marks_who_raced_and_who_won() -> None:
    found = traces(curve_figure(RACED, race=RACE))
    assert sorted(points(found["raced"])) == [(257, 30), (258, 29), (259, 25.2)]
    assert points(found["answer"]) == [(259, 25.2)]
    assert {found["raced"]["xaxis"], found["confirmed"]["xaxis"]} == {"x", "x3"}
    # A heat map's second axis runs to the right.
    assert points(traces(curve_figure(PLANE, race=PLANE_RACE))["answer"]) == [(5, 259)]
    assert "raced" not in traces(curve_figure(RACED))


def test_panels_lie_below_each_other() -> None:
    layout = curve_figure(RACED, race=RACE)["layout"]
    curve, stages, contest, confirmation = (
        layout[name]["domain"] for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")
    )
    assert curve[0] > stages[1] > stages[0] > contest[1] > contest[0]
    assert confirmation == contest
    assert layout["xaxis4"]["domain"][0] > layout["xaxis3"]["domain"][1]


def test_a_rival_that_isnt_confirmed_is_shown_against_one() -> None:
    curve = unconfirmed(RACED, verdict_s=True)
    found = find_confirmation(curve)
    assert found is not None
    assert (found.rival, found.gain, found.low, found.high) == ("best rival", 1.25, 0.8, 2.0)
    assert traces(race_figure(curve, RACE))["confirmation"]["marker"]["color"] == "role:undecided"
    nothing = unconfirmed(RACED, verdict_s=False)
    assert find_confirmation(nothing) is None
    assert "confirmation" not in traces(race_figure(nothing, RACE))
    assert "answer" not in traces(curve_figure(curve))


def test_many_racers_arent_named_on_top_of_each_other() -> None:
    count = LABELLED_POINTS + 1
    columns = {name: column[1:2] * count for name, column in RACED.points.model_dump().items()}
    many = CurvePoints.model_validate(columns | {"dims": [[256 + n] for n in range(count)]})
    stage = RACE.stages[1].model_copy(update={"kept": many.dims, "dropped": []})
    race = RACE.model_copy(update={"stages": [stage]})
    figure = race_figure(RACED.model_copy(update={"points": many}), race)
    assert figure["layout"]["xaxis2"]["showticklabels"] is False
    assert len(traces(figure)["kept in contest"]["x"]) == count
    assert race_figure(RACED, RACE)["layout"]["xaxis2"]["showticklabels"] is True


def test_wide_intervals_dont_squash_the_contest() -> None:
    high_s = [28.5e-6, 1.0, *RACED.points.high_s[2:]]
    curve = RACED.model_copy(update={"points": RACED.points.model_copy(update={"high_s": high_s})})
    # From 25.2 to 30 µs, and a half of those 4.8 on both sides.
    assert race_figure(curve, RACE)["layout"]["yaxis2"]["range"] == pytest.approx([22.8, 32.4])


@pytest.mark.parametrize(
    ("curve", "race"), [(RACED, RACE), (PLANE, PLANE_RACE)], ids=["one axis", "two axes"]
)
@pytest.mark.parametrize("is_confirmed", [True, False])
def test_races_have_figures_of_plain_json(
    curve: CurveDetail, race: RaceInfo, is_confirmed: bool
) -> None:
    shown = curve if is_confirmed else unconfirmed(curve, verdict_s=False)
    for figure in (curve_figure(shown, race=race), race_figure(shown, race)):
        assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_a_race_without_stages_is_drawn_as_its_curve() -> None:
    nothing = RACE.model_copy(update={"stages": []})
    assert curve_figure(RACED, race=nothing) == curve_figure(RACED)
