from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.plan.base import FIRST_VISITS
from profiler_service.plan.create import PLANNERS
from profiler_service.plan.grid import GridPlanner
from profiler_service.plan.modes import MODES, Mode, get_mode
from profiler_service.wire import CurveInfo, SweepInfo, SweepRequest


def test_the_table_has_every_mode_under_its_own_name() -> None:
    assert set(MODES) == set(get_args(Mode))
    assert all(name == mode.name for name, mode in MODES.items())


def test_what_travels_names_the_same_modes() -> None:
    assert set(get_args(CurveInfo.model_fields["mode"].annotation)) == set(MODES)
    assert set(get_args(SweepInfo.model_fields["mode"].annotation)) == set(MODES)
    requested = set(get_args(SweepRequest.model_fields["mode"].annotation))
    assert requested == set(MODES) - {"kernels"}  # only queries ask for those


def test_every_mode_has_a_planner_and_every_planner_a_mode() -> None:
    assert {mode.planner for mode in MODES.values()} == set(PLANNERS)


def test_every_mode_answers_its_own_question() -> None:
    assert all(name in mode.answers for name, mode in MODES.items())


def test_closer_looks_answer_what_quicker_ones_would() -> None:
    assert MODES["race"].answers == {"race"}
    assert MODES["survey"].answers == {"race", "survey"}
    assert MODES["nearest"].answers == {"nearest"}
    assert MODES["largest"].answers == {"largest"}
    assert MODES["grid"].answers == {"race", "survey", "nearest", "largest", "grid"}
    assert MODES["kernels"].answers == {"kernels"}


def test_a_mode_overrules_only_what_looked_no_closer() -> None:
    for mode in MODES.values():
        assert mode.overrules <= mode.answers
    assert MODES["survey"].overrules == {"race", "survey"}
    assert MODES["race"].overrules == {"race"}
    assert not MODES["grid"].overrules  # nothing looks closer, and each point may come late


def test_races_answer_for_one_point_and_grids_decide_all() -> None:
    assert [name for name, mode in MODES.items() if mode.is_race] == [
        *("race", "survey", "nearest", "largest"),
    ]
    assert [name for name, mode in MODES.items() if mode.decides_every_point] == ["grid"]
    assert [name for name, mode in MODES.items() if not mode.visits_every_point] == [
        *("race", "nearest", "largest"),
    ]
    assert {name: mode.prefer for name, mode in MODES.items() if mode.prefer != "fastest"} == {
        "nearest": "nearest",
        "largest": "largest",
    }


@pytest.mark.parametrize(
    ("mode", "num_points", "calls"),
    [
        ("race", 10, 8),  # a few calls, however few points there are ...
        ("race", 4000, 8),  # ... and however many
        ("survey", 10, 10),
        ("nearest", 4000, 0),  # it may have no time for any trial
        ("grid", 10, 180),  # 18 rounds
        ("kernels", 2, 2),
    ],
)
def test_least_calls(mode: Mode, num_points: int, calls: float) -> None:
    assert MODES[mode].count_least_calls(num_points) == calls


def test_least_calls_are_those_of_the_planners() -> None:
    # Visits of two calls each: those that calibrate, and two that narrow.
    assert MODES["race"].least_calls == 2 * (FIRST_VISITS + 2)
    assert MODES["grid"].least_calls_per_point == GridPlanner.MIN_ROUNDS


def test_the_table_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        MODES["grid"].planner = "race"  # type: ignore[misc]
    with pytest.raises(TypeError):
        MODES["grid"] = MODES["race"]  # type: ignore[index]
    with pytest.raises(KeyError):
        MODES["marathon"]  # type: ignore[index]


def test_a_mode_by_its_name() -> None:
    assert get_mode("survey") is MODES["survey"]
    with pytest.raises(InvalidRequestError, match="no mode 'marathon'"):
        get_mode("marathon")


def test_importing_the_table_loads_no_planner_and_no_numpy() -> None:
    program = (
        "import sys, profiler_service.plan.modes;"
        " sys.exit('numpy' in sys.modules or 'profiler_service.plan.base' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
