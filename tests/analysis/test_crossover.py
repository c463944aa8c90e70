"""Crossovers from comparisons made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.comparison import Comparison, Verdict
from profiler_service.analysis.crossover import Crossover, KernelRounds, find_crossover
from profiler_service.analysis.samples import Samples
from profiler_service.kinds.kernels import NUM_KERNELS, Kernel


def against(ratio: float, verdict: Verdict) -> Comparison:
    return Comparison(verdict=verdict, ratio=ratio, low=ratio, high=ratio, num_pairs=20)


def test_the_crossover_is_after_the_last_sparsity_that_is_not_faster() -> None:
    compared = {
        0: against(9.0, "slower"),
        79: against(1.1, "slower"),
        80: against(1.01, "ambiguous"),
        81: against(0.99, "ambiguous"),
        82: against(0.9, "faster"),
        99: against(0.1, "faster"),
    }
    # Below 80 it is surely slower, from 82 on surely faster; the medians change sign at 81.
    assert find_crossover(compared) == Crossover(percent=81, low=80, high=82)


def test_a_lone_faster_sparsity_below_slower_ones_is_no_crossover() -> None:
    compared = {
        50: against(0.9, "faster"),
        60: against(1.2, "slower"),
        61: against(0.8, "faster"),
    }
    assert find_crossover(compared) == Crossover(percent=61, low=61, high=61)


def test_a_sparse_kernel_that_always_or_never_wins() -> None:
    always = {0: against(0.5, "faster"), 99: against(0.1, "faster")}
    assert find_crossover(always) == Crossover(percent=0, low=0, high=0)
    never = {0: against(9, "slower"), 99: against(1.5, "slower")}
    assert find_crossover(never) == Crossover(percent=None, low=100, high=None)
    unsure = {98: against(9, "slower"), 99: against(0.99, "ambiguous")}
    assert find_crossover(unsure) == Crossover(percent=99, low=99, high=None)
    assert find_crossover({}) is None


def test_nothing_beyond_an_ambiguous_sparsity_moves_a_bound() -> None:
    # Where the kernels are equal, one of many sparsities looks slower by chance. Nothing says that
    # 40 isn't such a one, because 20 may already be on the faster side.
    compared = {
        0: against(1.1, "slower"),
        20: against(1.0, "ambiguous"),
        40: against(1.01, "slower"),
        60: against(0.99, "ambiguous"),
        99: against(0.9, "faster"),
    }
    assert find_crossover(compared) == Crossover(percent=41, low=1, high=61)


def rounds_of(latency_s: dict[int, float], num_rounds: int = 12) -> KernelRounds:
    """Rounds in which these points met; all of them slower and slower from round to round."""
    point = np.tile(np.array(list(latency_s), dtype=np.int32), num_rounds)
    number = np.repeat(np.arange(num_rounds, dtype=np.int32), len(latency_s))
    samples = Samples(
        point=point,
        round=number,
        time_s=np.zeros(len(point), dtype=np.float32),
        latency_s=np.array([latency_s[p] for p in point.tolist()]) * (1 + number),
        calls=1,
        unstable=np.zeros(len(point), dtype=np.bool_),
    )
    return KernelRounds([samples], NUM_KERNELS)


def test_kernels_are_compared_within_rounds() -> None:
    sparse = Kernel("csr", 90).point
    rounds = rounds_of({0: 4e-3, 1: 2e-3, sparse: 1e-3})
    # However much the host slows down meanwhile, each round says 1 : 2.
    compared = rounds.compare(sparse, 1)
    assert compared is not None
    assert (compared.verdict, compared.num_pairs) == ("faster", 12)
    assert compared.ratio == pytest.approx(0.5)
    assert rounds.compare(sparse, 2) is None
    assert rounds.dense_points() == [1, 0]
    assert list(rounds.compare_sparse(0)) == [90]
    found = rounds.find_best_dense()
    assert found is not None
    best, others = found
    assert best == 1
    # 4 of 12 rounds choose, 8 judge.
    assert {point: each.num_pairs for point, each in others.items()} == {0: 8, sparse: 8}
    assert others[0].ratio == pytest.approx(2)
    assert others[sparse].ratio == pytest.approx(0.5)


def noisy_rounds(num_rounds: int, num_kernels: int) -> KernelRounds:
    """Rounds of the first dense kernel and the last kernel, whose log ratio in round r is r."""
    number = np.repeat(np.arange(num_rounds, dtype=np.int32), 2)
    point = np.tile(np.array([0, num_kernels - 1], dtype=np.int32), num_rounds)
    samples = Samples(
        point=point,
        round=number,
        time_s=np.zeros(len(point), dtype=np.float32),
        latency_s=1e-3 * np.exp(np.where(point > 0, number, 0.0)),
        calls=1,
        unstable=np.zeros(len(point), dtype=np.bool_),
    )
    return KernelRounds([samples], num_kernels)


@pytest.mark.parametrize(("num_rounds", "judged"), [(12, 12), (23, 12), (24, 24), (400, 288)])
def test_a_search_judges_after_planned_numbers_of_pairs_only(num_rounds: int, judged: int) -> None:
    compared = noisy_rounds(num_rounds, NUM_KERNELS).compare(NUM_KERNELS - 1, 0)
    assert compared is not None
    assert compared.num_pairs == judged
    # The median of 0, 1, … n - 1.
    assert np.log(compared.ratio) == pytest.approx((judged - 1) / 2)


def test_the_looks_of_a_search_share_the_error_of_one_interval() -> None:
    # 6 looks at 3 dense kernels: 0.05 / 18 / 2 = 0.00139 at each end. Of 12 pairs, the smallest
    # is above the median with probability 2 ** -12 = 0.00024, the second smallest with 13 times
    # that, 0.0032: only the first may be the end. The logs of the ratios are 0 to 11.
    compared = noisy_rounds(12, NUM_KERNELS).compare(NUM_KERNELS - 1, 0)
    assert compared is not None
    assert np.log([compared.low, compared.high]) == pytest.approx([0, 11])
    # Two dense kernels alone are judged once: the third smallest, with 79 / 4096 = 0.019 < 0.025.
    once = noisy_rounds(12, 2).compare(1, 0)
    assert once is not None
    assert np.log([once.low, once.high]) == pytest.approx([2, 9])


def test_a_search_says_nothing_before_its_first_look() -> None:
    compared = noisy_rounds(11, NUM_KERNELS).compare(NUM_KERNELS - 1, 0)
    assert compared is not None
    assert (compared.verdict, compared.low, compared.high) == ("ambiguous", 0.0, np.inf)


def test_the_next_look_is_the_nearest_one_of_any_sparsity() -> None:
    # 99 has met 15 times: 24 - 15 = 9 to go; 0 not once: 12.
    rounds = rounds_of({0: 1e-3, Kernel("csr", 99).point: 1e-3}, num_rounds=15)
    assert rounds.count_to_look([0]) == 12
    assert rounds.count_to_look([99]) == 9
    assert rounds.count_to_look([0, 99]) == 9
    # The last look is after 288.
    assert noisy_rounds(288, NUM_KERNELS).count_to_look([0]) == 0


def test_what_failed_is_forgotten() -> None:
    rounds = rounds_of({0: 4e-3, 1: 2e-3})
    rounds.forget([1])
    assert rounds.dense_points() == [0]
    rounds.forget([0])
    assert rounds.find_best_dense() is None
