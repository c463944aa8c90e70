"""Hosts of one platform, compared by their canaries: who deviates, and how often by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from profiler_service.analysis.canaries import (
    CANARY,
    CanaryLatency,
    HostComparison,
    Series,
    compare_hosts,
)
from profiler_service.workload import Dims

P: Dims = (1197, 317)
Q: Dims = (512, 512)
R: Dims = (64, 64)


def latency(ratio: float, *, error: float = 0.0) -> CanaryLatency:
    return CanaryLatency(log_latency=math.log(ratio), standard_error=error)


def steady(ratio: float, *, count: int = 3, error: float = 0.0) -> list[CanaryLatency]:
    """The same latency, again and again."""
    return [latency(ratio, error=error)] * count


def compare(**hosts: Series) -> dict[str, HostComparison]:
    return compare_hosts(hosts, tolerance=0.05)


def find_odd(hosts: Mapping[str, HostComparison]) -> dict[str, str]:
    return {name: each.deviates for name, each in hosts.items() if each.deviates is not None}


def test_a_latency_has_the_standard_error_of_its_interval() -> None:
    # The interval is e^0.0196 times as wide as it would be without error, on each side: that is
    # 1.96 standard errors of 0.01.
    found = CanaryLatency.from_interval(1e-3, 1e-3 * math.exp(-0.0196), 1e-3 * math.exp(0.0196))
    assert found is not None
    assert found.log_latency == pytest.approx(math.log(1e-3))
    assert found.standard_error == pytest.approx(0.01, rel=1e-4)
    assert CanaryLatency.from_interval(1e-3, math.nan, math.nan) is None


def test_hosts_differ_beyond_the_tolerance_and_three_standard_errors() -> None:
    # Both repeat exactly, so the least spread of 1 % counts. A median of three has the variance
    # π/2 · 0.01² / 3 = 5.236e-5, and the difference of two the standard error √(2 · 5.236e-5) =
    # 1.0233 %. Three of these and log 1.05 = 4.879 % are 7.949 %: e^0.07949 = 1.0827.
    alike = compare(east={P: steady(1.0)}, west={P: steady(1.082)})
    assert find_odd(alike) == {}
    assert alike["west"].ratio == pytest.approx(1.082)
    assert alike["east"].ratio == pytest.approx(1 / 1.082)
    odd = compare(east={P: steady(1.0)}, west={P: steady(1.084)})
    assert find_odd(odd) == {"east": "faster", "west": "slower"}


def test_the_noise_of_the_samples_counts() -> None:
    # One latency has the variance 0.02² + 0.01² = 5e-4, the median of three π/2 · 5e-4 / 3 =
    # 2.618e-4, the difference the standard error 2.288 %: 4.879 % + 3 · 2.288 % = 11.74 %.
    for ratio, is_odd in ((math.exp(0.117), False), (math.exp(0.118), True)):
        found = compare(east={P: steady(1.0, error=0.02)}, west={P: steady(ratio, error=0.02)})
        assert bool(find_odd(found)) == is_odd


def test_what_a_host_changes_by_from_one_measurement_to_the_next_counts() -> None:
    # East changes by 4 % each time, a standard deviation of 0.04 / 0.9539 = 4.193 %. Its median has
    # the variance π/2 · 0.04193² / 3 = 9.207e-4, west's 5.236e-5, and the difference the standard
    # error √9.731e-4 = 3.119 %: 4.879 % + 3 · 3.119 % = 14.24 %.
    restless = [latency(math.exp(0.04 * (n % 2))) for n in range(12)]  # the newest is the first
    for ratio, is_odd in ((math.exp(0.142), False), (math.exp(0.143), True)):
        found = compare(east={P: restless}, west={P: steady(ratio)})
        assert bool(find_odd(found)) == is_odd


def test_one_real_step_does_not_pass_for_restlessness() -> None:
    # Since three measurements, west takes 1.2 times as long. Of its 11 changes, only one is not 0.
    stepped = steady(1.2) + steady(1.0, count=9)
    found = compare(east={P: steady(1.0, count=12)}, west={P: stepped})
    assert find_odd(found) == {"east": "faster", "west": "slower"}


def test_one_disturbed_measurement_changes_nothing() -> None:
    disturbed = [latency(2.0), latency(1.0), latency(1.0)]
    found = compare(east={P: steady(1.0)}, west={P: disturbed})
    assert found["west"].ratio == pytest.approx(1.0)
    # Two of three do: 2.0 is the median then. Its changes are log 2, 0: their median is 0.3466, a
    # standard deviation of 36 %. So they aren't certain either.
    twice = [latency(1.0), latency(2.0), latency(2.0)]
    found = compare(east={P: steady(1.0)}, west={P: twice})
    assert found["west"].ratio == pytest.approx(2.0)
    assert find_odd(found) == {}


def test_one_odd_canary_among_three_changes_nothing() -> None:
    here: dict[Dims, list[CanaryLatency]] = {point: steady(1.0) for point in (P, Q, R)}
    found = compare(east=here, west=here | {Q: steady(3.0)})
    assert found["west"].ratio == pytest.approx(1.0)
    assert find_odd(found) == {}


def test_of_three_hosts_the_odd_one_is_named() -> None:
    found = compare(east={P: steady(1.0)}, north={P: steady(1.01)}, west={P: steady(1.2)})
    assert find_odd(found) == {"west": "slower"}
    # West beside east and north: the median of log 1.2 and log (1.2 / 1.01).
    assert found["west"].ratio == pytest.approx(1.2 / math.sqrt(1.01))
    assert (found["west"].num_others, found["west"].num_slower) == (2, 2)
    assert (found["east"].num_others, found["east"].num_faster) == (2, 1)


def test_only_what_both_measured_often_enough_is_compared() -> None:
    found = compare(
        east={P: steady(1.0), Q: steady(1.0)},
        west={Q: steady(1.2), R: steady(1.0)},
        north={P: steady(1.0, count=CANARY.newest - 1)},
        south={(8, 8): steady(9.0)},
    )
    # North has too few, and south measured something else.
    assert found.keys() == {"east", "west"}
    assert found["west"].ratio == pytest.approx(1.2)
    assert compare() == {}


def simulate(
    rng: np.random.Generator, *, spread: float, ratio: float = 1.0, num_points: int = 5
) -> Series:
    """Twelve measurements of a host that changes by `spread`, all canaries alike, and by 0.3 %."""
    common = rng.normal(math.log(ratio), spread, 12)
    own = rng.normal(0, 0.003, (num_points, 12))
    return {
        (number, number): [
            CanaryLatency(log_latency=float(each), standard_error=0.003) for each in common + own[n]
        ]
        for n, number in enumerate(range(1, num_points + 1))
    }


@pytest.mark.parametrize(
    ("spread", "ratio", "least", "most"),
    [
        # docs/explanation/canaries.md: none of 100,000, 0.03 %, and all.
        (0.03, 1.0, 0, 0),
        (0.05, 1.0, 0, 1),
        (0.01, 1.2, 200, 200),
    ],
)
def test_hosts_are_named_as_often_as_the_documentation_says(
    spread: float, ratio: float, least: int, most: int
) -> None:
    rng = np.random.default_rng(1)
    num_named = 0
    for _ in range(200):
        east, west = (simulate(rng, spread=spread, ratio=each) for each in (1.0, ratio))
        num_named += "west" in find_odd(compare(east=east, west=west))
    assert least <= num_named <= most
