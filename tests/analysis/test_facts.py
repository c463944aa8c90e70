"""Facts: what several confirmations of a pair say together, and which pair is chosen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.facts import (
    Z95,
    Confirmation,
    ConfirmedPair,
    PairEstimate,
    choose_fastest,
)
from profiler_service.analysis.facts import combine as combine_confirmations


def confirm(
    log_ratio: float, sd: float, *, rival: int = 8, verdict: Verdict | None = None
) -> ConfirmedPair:
    """A confirmation with that log ratio and standard deviation."""
    low, high = (math.exp(log_ratio + sign * Z95 * sd) for sign in (-1, 1))
    found: Verdict = "faster" if high < 1 else "slower" if low > 1 else "ambiguous"
    return ConfirmedPair(
        dims=(5,),
        rival=(rival,),
        verdict=verdict or found,
        ratio=math.exp(log_ratio),
        low=low,
        high=high,
        num_pairs=100,
    )


def combine(pairs: list[ConfirmedPair], tau: float = 0.0, workers: str = "") -> PairEstimate:
    """The estimate from confirmations by workers of these names, by one each if there are none."""
    names = workers or [f"{number}" for number in range(len(pairs))]
    return combine_confirmations(
        [
            Confirmation(pair=pair, tau=tau, worker=worker)
            for pair, worker in zip(pairs, names, strict=True)
        ]
    )


def test_one_confirmation_stands_for_itself() -> None:
    # Also one that isn't called faster, though its interval lies below 1: its host was disturbed.
    given = confirm(-0.02, 0.004, verdict="ambiguous")
    found = combine([given])
    assert (found.rival, found.verdict) == ((8,), "ambiguous")
    assert (found.ratio, found.low, found.high) == (given.ratio, given.low, given.high)
    with pytest.raises(ValueError, match="no confirmation"):
        combine([])


def test_confirmations_have_the_weight_of_their_variance() -> None:
    found = combine([confirm(-0.03, 0.01), confirm(-0.02, 0.005)])
    # Weights 1 : 4, so -0.022, with variance 1 / (1e4 + 4e4) = 2e-5. They differ by less than that
    # explains: misfit 1e4 · 0.008² + 4e4 · 0.002² = 0.8 < 1.
    assert math.log(found.ratio) == pytest.approx(-0.022)
    assert math.log(found.high / found.low) == pytest.approx(2 * Z95 * math.sqrt(2e-5))
    assert found.verdict == "faster"


def test_confirmations_that_differ_too_much_widen_the_interval() -> None:
    found = combine([confirm(-0.03, 0.001), confirm(-0.01, 0.001)])
    # Each is 0.01 from their mean, 10 standard deviations: misfit 200, with one degree of freedom.
    assert math.log(found.high / found.low) == pytest.approx(2 * Z95 * math.sqrt(200 / 2e6))
    assert combine([confirm(-0.03, 0.001)]).verdict == "faster"


def test_what_the_processes_of_one_worker_have_in_common_is_not_averaged_away() -> None:
    # Each has variance 0.003² of its own and 0.004² of its processes: 0.005² together.
    pairs = [confirm(-0.02, 0.005)] * 2

    def variance(workers: str) -> float:
        found = combine(pairs, tau=0.004, workers=workers)
        return (math.log(found.high / found.low) / (2 * Z95)) ** 2

    assert variance("ab") == pytest.approx(0.005**2 / 2)
    assert variance("aa") == pytest.approx(0.003**2 / 2 + 0.004**2)


def test_an_undecided_confirmation_takes_a_lucky_verdict_back() -> None:
    lucky, close = confirm(-0.01, 0.004), confirm(0.0, 0.001)
    assert lucky.verdict == "faster"
    assert combine([lucky, close]).verdict == "ambiguous"


def test_a_verdict_that_no_confirmation_gave_is_not_given() -> None:
    found = combine([confirm(-0.01, 0.006)] * 4)
    assert found.high < 1
    assert found.verdict == "ambiguous"


@pytest.mark.parametrize(
    ("later", "overrules"),
    [(confirm(0.02, 0.004), True), (confirm(0.0, 0.001), True), (confirm(-0.06, 0.004), False)],
)
def test_what_has_nothing_in_common_and_another_verdict_overrules(
    later: ConfirmedPair, overrules: bool
) -> None:
    assert later.overrules(confirm(-0.03, 0.004)) == overrules


def test_the_pair_that_is_surely_faster_by_most_is_chosen() -> None:
    sure = combine([confirm(-0.02, 0.001, rival=8)])
    unsure = combine([confirm(-0.03, 0.01, rival=9)])
    slower = combine([confirm(0.03, 0.001, rival=10)])
    chosen = choose_fastest([unsure, sure, slower])
    assert chosen is not None and chosen.rival == (8,)
    assert choose_fastest([slower]) is None
    assert choose_fastest([]) is None


def test_an_interval_that_allows_for_the_choice_never_takes_the_verdict_back() -> None:
    barely = [combine([confirm(-0.00788, 0.004, rival=rival)]) for rival in (8, 9)]
    assert barely[0].high == pytest.approx(math.exp(-0.00004), abs=1e-6)
    chosen = choose_fastest(barely)
    # 2.24 · 0.4 % = 0.9 % would reach beyond 1.
    assert chosen is not None and chosen.high == 1.0


def test_intervals_of_the_best_of_many_hold() -> None:
    """Six pairs, all 2 % faster, with 0.4 % noise: the fastest of them flatters itself."""
    rng = np.random.default_rng(2026)
    held, flattered, true = 0, 0, -0.02
    trials = 2000
    for _ in range(trials):
        estimates = [
            combine([confirm(true + rng.normal(0, 0.004), 0.004, rival=rival)])
            for rival in range(8, 14)
        ]
        chosen = choose_fastest(estimates)
        assert chosen is not None
        held += chosen.low <= math.exp(true) <= chosen.high
        [its] = [each for each in estimates if each.rival == chosen.rival]
        flattered += its.low <= math.exp(true) <= its.high
    # The lowest of six lies below -1.96 with probability 1 - 0.975^6 = 14 %, so the interval of one
    # pair holds in 86 %. At 0.05 / 6 for each, it holds in 1 - 0.025 = 97.5 %. (± 2 %: 4 σ.)
    assert flattered / trials == pytest.approx(0.86, abs=0.03)
    assert held / trials >= 0.95
