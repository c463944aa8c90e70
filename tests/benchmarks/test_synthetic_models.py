"""Simulated races from right and wrong models: the windows, the models, and the verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.synthetic_models import (
    MODELS,
    NO_MODEL,
    SIDE,
    STEP,
    TRUTHS,
    ModelTrial,
    draw_truth,
    judge,
    model_of,
    table,
    try_race,
)

TRIAL = ModelTrial(
    truth="classes",
    model=NO_MODEL,
    seed=0,
    settled=True,
    margin=0.01,
    regret=0.005,
    over_queried=0.97,
    seconds=0.4,
    seconds_by_stage={"narrow": 0.1, "contest": 0.2, "confirm": 0.1},
)


@pytest.mark.parametrize("truth", TRUTHS)
def test_multiples_are_faster_on_both_axes(truth: str) -> None:
    for seed in range(10):
        dims, log = draw_truth(truth, np.random.default_rng(seed))
        assert log.shape == (SIDE, SIDE) and log[0, 0] == 0
        for axis, dim in enumerate(dims):
            is_fast = (dim + np.arange(SIDE)) % STEP == 0
            assert not is_fast[0]
            mean = log.mean(axis=1 - axis)
            mean = mean - np.polyval(np.polyfit(np.arange(SIDE), mean, 1), np.arange(SIDE))
            assert mean[is_fast].mean() < mean[~is_fast].mean() - 0.01


def test_no_sum_of_effects_is_a_switch() -> None:
    def interact(truth: str) -> float:
        _, log = draw_truth(truth, np.random.default_rng(0))
        rows, columns = log.mean(axis=1, keepdims=True), log.mean(axis=0, keepdims=True)
        return float(np.std(log - rows - columns + log.mean()))

    # Single points differ by 0.3 %.
    assert interact("classes") == pytest.approx(0.003, rel=0.1)
    assert interact("switch") > 0.005


def test_models_are_as_right_as_they_are_said_to_be() -> None:
    found: dict[str, list[float]] = {model: [] for model in MODELS[1:]}
    for seed in range(20):
        dims, log = draw_truth("classes", np.random.default_rng(seed))
        for model, correlations in found.items():
            said = model_of(model, dims, log, np.random.default_rng(seed))
            for axis in range(2):
                exact = log.mean(axis=1 - axis)
                sizes = np.log(dims[axis] + np.arange(SIDE))
                beyond = [
                    each - np.polyval(np.polyfit(sizes, each, 1), sizes)
                    for each in (exact, said[axis])
                ]
                if model == "smooth":
                    assert beyond[1] == pytest.approx(0, abs=1e-9)
                else:
                    correlations.append(float(np.corrcoef(np.stack(beyond))[0, 1]))
    assert np.mean(found["right"]) > 0.9
    assert 0.3 < np.mean(found["partly"]) < 0.95
    assert abs(np.mean(found["permuted"])) < 0.1
    assert found["opposite"] == pytest.approx([-1.0] * 40)


def test_false_is_what_misses_by_more_than_it_says() -> None:
    assert not TRIAL.is_false
    assert replace(TRIAL, regret=0.011).is_false
    assert not replace(TRIAL, regret=0.011, settled=False).is_false
    assert not replace(TRIAL, regret=0.011, margin=0.02).is_false


def test_goals_are_missed_by_false_answers_and_by_slow_races() -> None:
    right = replace(TRIAL, model="right", seconds=0.2)
    good = judge([TRIAL, right])
    assert [goal.met for goal in good] == [True, True, True]
    bad = judge([TRIAL, replace(right, regret=0.02, seconds=0.3)])
    assert [goal.met for goal in bad] == [True, False, False]
    wrong = judge([TRIAL, replace(TRIAL, model="permuted", seconds=0.43)])
    assert [goal.met for goal in wrong] == [True, True, True]
    assert "0.50" in table([TRIAL, right])[-1]


def test_a_race_with_a_model_meets_the_window_of_the_race_without_one() -> None:
    none, right = try_race("classes", NO_MODEL, 3), try_race("classes", "right", 3)
    # Answer over best, divided by answer over queried: the queried point over the best one.
    best = [(1 + trial.regret) / trial.over_queried for trial in (none, right)]
    assert best[0] == pytest.approx(best[1])
    assert none.seconds != right.seconds
    assert try_race("classes", "right", 3) == right
