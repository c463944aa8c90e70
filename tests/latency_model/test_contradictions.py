"""What is learned from sweeps that contradict each other, and of a host that has changed."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.latency_model.first_visits import find_first_visits
from profiler_service.latency_model.fit import Fit, fit
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.settings import LearningSettings
from profiler_service.latency_model.statistics import Statistics
from tests.latency_model.hosts import Host, learn_from
from tests.latency_model.test_learn import ONE, WINDOW, predict, truth_in_seconds


def multiples_are_faster(step: float) -> Host:
    """A host on which multiples of 16 differ by `step` in log latency, and nothing else does."""
    return Host(truth=truth_in_seconds(lambda points: step * (points[:, 0] % 16 == 0)))


def test_of_contradicting_sweeps_both_count() -> None:
    """Multiples of 16 are 6 % faster in half of the sweeps, and 6 % slower in the others.

    Differences that are far off what is expected count little. So the sweeps that came first say
    more. But those that say otherwise are heard.
    """

    known = Statistics.empty(ONE.size, 1)
    for seed in range(20):
        sweep = multiples_are_faster(0.06 if seed % 2 else -0.06).visit(WINDOW, 250, seed)
        known = known.followed_by(learn(find_first_visits(sweep, WINDOW), fit(ONE, known)))
    agreed = learn_from(multiples_are_faster(-0.06), [WINDOW] * 20)
    is_multiple = np.array([dim % 16 == 0 for (dim,) in WINDOW])

    def gain(of: Fit) -> float:
        predicted = predict(of, WINDOW)
        return float(predicted[is_multiple].mean() - predicted[~is_multiple].mean())

    assert gain(agreed) == pytest.approx(-0.06, abs=0.01)
    assert -0.045 < gain(fit(ONE, known)) < 0.045


def test_a_host_that_changed_is_learned_anew() -> None:
    """Multiples of 16 lose what they had. With a half life of four sweeps, that is forgotten.

    After twelve further sweeps, 1/8 of the weight says -6 %. It is more than that, because what
    contradicts counts less. After 24 it is 1/64.
    """
    settings = LearningSettings(half_life=4.0)
    is_multiple = np.array([dim % 16 == 0 for (dim,) in WINDOW])
    known = Statistics.empty(ONE.size, 1)
    gains = []
    for seed in range(36):
        step = -0.06 if seed < 12 else 0.0
        host = multiples_are_faster(step)
        found = learn(find_first_visits(host.visit(WINDOW, 250, seed), WINDOW), fit(ONE, known))
        known = known.followed_by(found, settings)
        predicted = predict(fit(ONE, known), WINDOW)
        gains.append(predicted[is_multiple].mean() - predicted[~is_multiple].mean())
    assert gains[11] < -0.05
    assert abs(gains[23]) < 0.03
    assert abs(gains[35]) < 0.015
