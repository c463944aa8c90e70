"""How much confirmations of one pair differ between processes, from simulated facts of known τ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from profiler_service.analysis.facts import Z95, Confirmation, ConfirmedPair
from profiler_service.analysis.repeatability import (
    REPEATABILITY,
    ChildLevels,
    Repeat,
    average_between_arenas,
    estimate_tau,
    estimate_tau_within,
)


def confirm(
    log_ratio: float, noise: float, tau: float, units: int = 1, *, keeps_noise: bool = True
) -> Confirmation:
    """A confirmation whose interval includes the noise and τ² / units."""
    half = Z95 * math.sqrt(noise**2 + tau**2 / units)
    pair = ConfirmedPair(
        dims=(5,),
        rival=(8,),
        verdict="faster",
        ratio=math.exp(log_ratio),
        low=math.exp(log_ratio - half),
        high=math.exp(log_ratio + half),
        num_pairs=100,
        num_children=units,
        num_arenas=8,
        noise=noise if keeps_noise else None,
    )
    return Confirmation(pair=pair, tau=tau, worker="w")


def simulate(
    count: int, *, tau: float, noise: float, units: int = 1, keeps_noise: bool = True
) -> list[Repeat]:
    """Repeats of different pairs. Their races assumed a τ of 0.4 %; arenas don't differ."""
    rng = np.random.default_rng(1)

    def measure(truth: float) -> Confirmation:
        sd = math.sqrt(noise**2 + tau**2 / units)
        measured = truth + rng.normal(0, sd)
        return confirm(measured, noise, 0.004, units, keeps_noise=keeps_noise)

    truths = rng.normal(-0.02, 0.01, count)
    return [(measure(truth), measure(truth)) for truth in truths.tolist()]


def test_without_repeats_the_prior_holds() -> None:
    assert estimate_tau([]) == pytest.approx(0.0025)


@pytest.mark.parametrize("keeps_noise", [True, False])
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("tau", [0.002, 0.004, 0.01])
def test_many_repeats_show_the_true_tau(tau: float, units: int, keeps_noise: bool) -> None:
    repeats = simulate(2000, tau=tau, noise=0.002, units=units, keeps_noise=keeps_noise)
    # The standard error of a variance of one degree of freedom is √2 of it, here of n + cτ² for
    # cτ²: at most (2 · 0.002² + 0.5 · 0.002²) / (0.5 · 0.002²) = 5 times, so 7 τ² / √2000 = 16 % of
    # τ², 8 % of τ. Three times that.
    assert estimate_tau(repeats, between_arenas=0.0) == pytest.approx(tau, rel=0.25)


def test_what_differs_between_arenas_is_taken_off() -> None:
    # d² = 0.02², of which arenas explain 2 · 0.024² / 8 = 1.44e-4: (4e-4 - 1.44e-4) / 2 = 1.28e-4.
    repeat = (confirm(-0.03, 0.0, 0.004), confirm(-0.01, 0.0, 0.004))
    weight = (2 * 0.0025**2 / (1.44e-4 + 2 * 0.0025**2)) ** 2
    expected = math.sqrt((4 * 0.0025**2 + weight * 1.28e-4) / (4 + weight))
    assert estimate_tau([repeat], between_arenas=0.024) == pytest.approx(expected)


def test_few_and_noisy_repeats_say_little() -> None:
    # n = 2 · 2 %², cτ² = 2 · 0.25 %²: a weight of (1 / 65)² each, 20 of them 0.005 against 4.
    repeats = simulate(20, tau=0.012, noise=0.02)
    assert estimate_tau(repeats) == pytest.approx(0.0025, rel=0.1)


def test_one_pair_of_a_host_that_changed_is_bounded() -> None:
    changed = (confirm(-0.1, 0.0, 0.004), confirm(0.1, 0.0, 0.004))
    # (4 · 0.0025² + 0.02²) / 5
    expected = math.sqrt((4 * 0.0025**2 + 0.02**2) / 5)
    assert estimate_tau([changed], between_arenas=0.0) == pytest.approx(expected)


def test_processes_are_never_taken_to_be_all_alike() -> None:
    same = confirm(-0.02, 0.004, 0.0)
    assert estimate_tau([(same, same)] * 500) == REPEATABILITY.least_tau


def test_variances_between_arenas_are_averaged_by_their_freedom() -> None:
    def arenas(count: int, variance: float | None) -> ConfirmedPair:
        return ConfirmedPair(
            dims=(5,),
            rival=(8,),
            verdict="faster",
            ratio=0.9,
            low=0.8,
            high=0.95,
            num_pairs=9,
            num_arenas=count,
            between_arenas=variance,
        )

    # (2 · 4e-5 - 1 · 2e-5) / 3 = 2e-5
    pairs = [arenas(3, 4e-5), arenas(2, -2e-5), arenas(1, None)]
    assert average_between_arenas(pairs) == pytest.approx(math.sqrt(2e-5))
    assert average_between_arenas([arenas(3, -1e-5)]) == 0
    assert average_between_arenas([arenas(1, None)]) is None


def told(
    rng: np.random.Generator, *, tau: float, noise: float, processes: int = 2, points: int = 24
) -> ChildLevels:
    """What so many processes say of points, if pairs differ by `tau` and are measured with `noise`.

    A pair has the effects of two points, and their noise, so each point has 1/√2 of both.
    """
    one = np.hypot(tau, noise) / np.sqrt(2)
    return ChildLevels(
        level=rng.standard_normal(points) + one * rng.standard_normal((processes, points)),
        covariance=np.tile(noise**2 / 2 * np.eye(points), (processes, 1, 1)),
    )


def estimate_within(groups: Sequence[ChildLevels]) -> float:
    return estimate_tau_within(groups, expected=0.0025, weight=4.0)


def test_without_a_second_process_tau_is_what_is_expected() -> None:
    assert estimate_within([]) == pytest.approx(0.0025)


@pytest.mark.parametrize("tau", [0.001, 0.006])
@pytest.mark.parametrize("processes", [2, 4])
def test_one_race_of_little_noise_tells_tau(tau: float, processes: int) -> None:
    """Two processes have 23 differences, which count 23 beside the 4 of what is expected.

    So τ² is expected at (4 · 0.0025² + 23 τ²) / 27: √1.78e-6 = 0.00133 for 0.001, and √3.16e-5 =
    0.00562 for 0.006. Four processes have three times as many: 0.00116 and 0.00587.
    """
    rng = np.random.default_rng(0)
    weight = 23 * (processes - 1)
    expected = np.sqrt((4 * 0.0025**2 + weight * tau**2) / (4 + weight))
    found = [
        estimate_within([told(rng, tau=tau, noise=1e-6, processes=processes)]) for _ in range(100)
    ]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(expected, rel=0.05)


def test_noise_is_not_taken_for_tau_and_leaves_it_as_expected() -> None:
    """With noise of 3 %, 24 points tell next to nothing of a τ of 0.25 %."""
    rng = np.random.default_rng(0)
    found = [estimate_within([told(rng, tau=0.0, noise=0.03)]) for _ in range(50)]
    assert min(found) > 0.0024 and max(found) < 0.0026


def test_several_groups_of_points_tell_more_than_one() -> None:
    rng = np.random.default_rng(0)
    groups = [told(rng, tau=0.006, noise=1e-6, points=5) for _ in range(40)]
    assert estimate_within(groups[:1]) < 0.0055 < estimate_within(groups) < 0.0065
