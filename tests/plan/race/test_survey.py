"""Surveys: a look at every point finds what no structure betrays."""

from __future__ import annotations

import numpy as np

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
