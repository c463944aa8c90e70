"""What is told of a race: its stages, and why each ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.stages import End, StageLog
from tests.plan.asking import spec_above
from tests.synthetic import SyntheticDevice, stairs


def test_a_stage_has_the_visits_and_seconds_since_the_one_before() -> None:
    log = StageLog()
    for num_samples, seconds in ((10, 1.0), (25, 1.5), (25, 1.5)):
        log.end(
            "narrow",
            num_samples=num_samples,
            seconds=seconds,
            field_size=(4,),
            kept_size=(2,),
            why="slower",
        )
    assert [stage.num_visits for stage in log.stages] == [10, 15, 0]
    assert [stage.seconds for stage in log.stages] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("budget_s", "confirm"),
    # 112 takes 5 % less than 100 as a multiple of 16, and 3.5 % more for its size.
    [(None, End.SETTLED), (0.001, End.OUT_OF_TIME)],
)
def test_a_race_says_why_its_confirmation_ended(budget_s: float | None, confirm: End) -> None:
    spec = replace(spec_above((100,), "race"), budget_s=budget_s)
    planner = RacePlanner(spec)
    SyntheticDevice(stairs(spec.grid, 16, 0.05), noise=0.002, spikes=0).run(planner)
    assert planner.ends["confirm"] is confirm
    assert set(planner.ends) == {"narrow", "contest", "confirm"}


def test_a_survey_without_time_for_it_says_so() -> None:
    spec = replace(spec_above((100, 100), "survey"), budget_s=0.05)
    planner = RacePlanner(spec)
    SyntheticDevice(stairs(spec.grid, 16), noise=0.002, spikes=0).run(planner)
    assert planner.ends["survey"] is End.OUT_OF_TIME
