"""How much confirmations of one pair differ between processes, from simulated facts of known τ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.facts import Z95, ConfirmedPair
from profiler_service.analysis.repeatability import (
    Repeat,
    RepeatabilitySettings,
    average_between_arenas,
    estimate_tau,
)

PRIOR = RepeatabilitySettings()


def confirm(log_ratio: float, noise: float, tau: float, units: int = 1) -> ConfirmedPair:
    """A confirmation whose interval includes the noise and τ² / units."""
    half = Z95 * math.sqrt(noise**2 + tau**2 / units)
    return ConfirmedPair(
        dims=(5,),
        rival=(8,),
        verdict="faster",
        ratio=math.exp(log_ratio),
        low=math.exp(log_ratio - half),
        high=math.exp(log_ratio + half),
        num_pairs=100,
        num_children=units,
    )


def simulate(
    count: int, *, tau: float, noise: float, assumed: float, units: int = 1, seed: int = 1
) -> list[Repeat]:
    """Repeats of different pairs. Their races assumed another τ than the true one."""
    rng = np.random.default_rng(seed)

    def measure(truth: float) -> ConfirmedPair:
        sd = math.sqrt(noise**2 + tau**2 / units)
        return confirm(truth + rng.normal(0, sd), noise, assumed, units)

    repeats = []
    for _ in range(count):
        truth = rng.normal(-0.02, 0.01)
        earlier, later = measure(truth), measure(truth)
        repeats.append(Repeat(earlier=earlier, later=later, earlier_tau=assumed, later_tau=assumed))
    return repeats


def test_without_repeats_the_prior_holds() -> None:
    assert estimate_tau([]) == pytest.approx(0.004)


@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("tau", [0.002, 0.004, 0.01])
def test_many_repeats_show_the_true_tau(tau: float, units: int) -> None:
    repeats = simulate(2000, tau=tau, noise=0.002, assumed=0.004, units=units)
    # The standard error of a variance of one degree of freedom is √2 of it, here of n + cτ² for
    # cτ²: at most (2 · 0.002² + 0.5 · 0.002²) / (0.5 · 0.002²) = 5 times, so 7 τ² / √2000 = 16 % of
    # τ², 8 % of τ. Three times that.
    assert estimate_tau(repeats) == pytest.approx(tau, rel=0.25)


def test_few_and_noisy_repeats_say_little() -> None:
    # n = 2 · 2 %², cτ² = 2 · 0.4 %²: a weight of (1 / 26)² each, 20 of them 0.03 against 4.
    repeats = simulate(20, tau=0.012, noise=0.02, assumed=0.004)
    assert estimate_tau(repeats) == pytest.approx(0.004, rel=0.1)


def test_one_pair_of_a_host_that_changed_is_bounded() -> None:
    changed = Repeat(
        earlier=confirm(-0.1, 0.0, 0.004),
        later=confirm(0.1, 0.0, 0.004),
        earlier_tau=0.004,
        later_tau=0.004,
    )
    # (4 · 0.004² + 0.02²) / 5
    assert estimate_tau([changed]) == pytest.approx(math.sqrt((4 * 0.004**2 + 0.02**2) / 5))


def test_processes_are_never_taken_to_be_all_alike() -> None:
    same = confirm(-0.02, 0.004, 0.0)
    repeat = Repeat(earlier=same, later=same, earlier_tau=0.0, later_tau=0.0)
    assert estimate_tau([repeat] * 500) == PRIOR.least_tau


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
