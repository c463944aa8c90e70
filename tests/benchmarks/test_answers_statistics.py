"""The referee's statistics: ratios over processes, shares, and what noise allows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.answers.statistics import (
    between_processes,
    highest_share,
    noise_of_median,
    processes_needed,
    ratio_of,
    resolvable_margin,
    share_interval,
    student_95,
)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (3, 3.1824), (5, 2.5706), (30, 2.0423), (1e9, 1.9600)]
)
def test_students_quantiles_are_those_of_the_tables(degrees: float, quantile: float) -> None:
    assert student_95(degrees) == pytest.approx(quantile, abs=1e-4)


def test_a_ratios_interval_follows_from_its_processes() -> None:
    # Logs 0, 0.01, 0.02: mean 0.01, standard deviation 0.01, error 0.01/√3, t(2) = 4.3027.
    found = ratio_of([0.0, 0.01, 0.02])
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert math.log(found.estimate) == pytest.approx(0.01)
    assert math.log(found.low) == pytest.approx(0.01 - half, abs=1e-6)
    assert math.log(found.high) == pytest.approx(0.01 + half, abs=1e-6)


def test_nineteen_of_twenty_intervals_hold_the_truth_though_processes_differ() -> None:
    rng = np.random.default_rng(1)
    holds = 0
    for _ in range(2000):
        found = ratio_of(0.003 + 0.004 * rng.standard_normal(6))
        holds += found.low <= math.exp(0.003) <= found.high
    # 95 % of 2000 are 1900, give or take 10 (standard error).
    assert 1870 <= holds <= 1930


def test_shares_have_exact_intervals() -> None:
    # 0 of 10: the upper end p has (1 - p)^10 = 2.5 %.
    assert share_interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    # 5 of 10: from the tables of Clopper and Pearson.
    assert share_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert share_interval(10, 10)[1] == 1.0


def test_none_of_two_hundred_leaves_one_and_a_half_percent() -> None:
    # (1 - p)^200 = 5 %.
    assert highest_share(0, 200) == pytest.approx(1 - 0.05**0.005)
    assert highest_share(200, 200) == 1.0


def test_the_noise_of_a_median_is_that_of_normal_blocks() -> None:
    blocks = 0.02 * np.random.default_rng(2).standard_normal(4000)
    # Variance of the median of n normal values: π/2 · σ²/n.
    expected = math.pi / 2 * 0.02**2 / 4000
    assert noise_of_median(blocks) == pytest.approx(expected, rel=0.1)


def test_what_differs_between_processes_is_told_from_the_noise_within() -> None:
    rng = np.random.default_rng(3)
    noise = 0.003**2
    within = [0.003 * rng.standard_normal(6) for _ in range(400)]
    both = [values + 0.004 * rng.standard_normal(6) for values in within]
    assert between_processes(both, [noise] * 400) == pytest.approx(0.004, rel=0.05)
    # 0.003 is all noise. Of its variance, 400 · 5 degrees of freedom leave ± 3 %.
    assert between_processes(within, [noise] * 400) < 0.001


def test_one_process_can_not_state_less_than_two_tau() -> None:
    # Without noise: 1.96 · 0.4 % = 0.784 %, and √2 times less with two processes.
    one = resolvable_margin(spread=0.0, pairs=1, tau=0.004, children=1)
    two = resolvable_margin(spread=0.0, pairs=1, tau=0.004, children=2)
    assert math.log1p(one) == pytest.approx(1.96 * 0.004, rel=1e-4)
    assert math.log1p(two) == pytest.approx(1.96 * 0.004 / math.sqrt(2), rel=1e-4)
    # Noise of 2 % over 400 pairs: 1.96 · √(π/2) · 0.1 %.
    noise = resolvable_margin(spread=0.02, pairs=400, tau=0.0, children=1)
    assert math.log1p(noise) == pytest.approx(1.96 * math.sqrt(math.pi / 2) * 0.001, rel=1e-4)


def test_equality_at_half_a_percent_takes_seven_processes_if_tau_is_0_4_percent() -> None:
    # ((1.96 + 1.28) · 0.4 / 0.4988)² = 6.76
    assert processes_needed(margin=0.005, tau=0.004) == 7
    assert processes_needed(margin=0.005, tau=0.0) == 1
