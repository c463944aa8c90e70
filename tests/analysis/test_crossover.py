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


def test_what_failed_is_forgotten() -> None:
    rounds = rounds_of({0: 4e-3, 1: 2e-3})
    rounds.forget([1])
    assert rounds.dense_points() == [0]
    rounds.forget([0])
    assert rounds.find_best_dense() is None
