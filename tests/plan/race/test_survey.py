"""Surveys: a look at every point finds what no structure betrays."""

from __future__ import annotations

import numpy as np

from profiler_service.plan.base import Points
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.survey import Survey
from tests.plan.asking import ask, spec_above
from tests.synthetic import SyntheticDevice, smooth


def test_a_survey_finds_one_lone_fast_point() -> None:
    """A point 10 % below its row's and column's level, anywhere: the model can't expect it."""
    found = 0
    for seed in range(20):
        spec = spec_above((400, 400), "survey", seed=seed)
        truth = smooth(spec.grid)
        lone = int(np.random.default_rng(seed).integers(1, spec.grid.size))
        truth[lone] = 0.9 * truth[0]
        answer = ask(spec, SyntheticDevice(truth, seed=seed))
        found += spec.grid.find_index(answer.lhp) == lone
    # docs/explanation/races.md: both looks spoiled, (2 % spikes + 2 % tails)² = 0.2 %, 20 times.
    assert found == 20


def test_a_survey_finds_one_of_two_equal_minima() -> None:
    spec = spec_above((400, 400), "survey")
    truth = smooth(spec.grid)
    truth[[500, 1700]] = 0.9 * truth[0]
    answer = ask(spec, SyntheticDevice(truth))
    assert spec.grid.find_index(answer.lhp) in (500, 1700)


class Ranked:
    """Ranks points by number, the largest first; by visit, the smallest."""

    def fastest(self, field: Points, *, lenient: bool = False) -> Points:
        return np.sort(field) if lenient else np.sort(field)[::-1]


def test_a_survey_looks_again_at_ever_fewer() -> None:
    survey = Survey(RACE.survey, 1000)
    assert (survey.looks, survey.field.tolist()) == (2, [*range(1, 1000)])
    # A quarter of 1,000, by each point's fastest look: the smallest numbers.
    assert survey.update(Ranked()) == "slower in both looks"
    assert (survey.looks, survey.field.tolist()) == (2, [*range(1, 251)])
    # A fiftieth of 1,000, by medians.
    assert survey.update(Ranked()) == "larger median"
    assert (survey.looks, survey.field.tolist()) == (4, [*range(250, 230, -1)])
    survey.update(Ranked())
    assert (survey.looks, survey.field.tolist()) == (0, [*range(250, 234, -1)])


def test_a_small_survey_keeps_sixteen() -> None:
    survey = Survey(RACE.survey, 40)
    survey.update(Ranked())  # a quarter of 40 is 10
    assert len(survey.field) == 16
