"""Compares kernels: the dense ones with each other, and the sparse one with the dense ones.

numpy only. It gets rounds in which several kernels were measured, and knows neither how they
were measured nor who asks. Kernels are the points of a curve of `linear_kernels`: see
`kinds.kernels`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import F64, Comparison, column_medians, compare
from profiler_service.analysis.samples import Samples
from profiler_service.kinds.kernels import MAX_PERCENT, Kernel, dense_points

CHOOSE_EVERY = 3
"""Every third round chooses the best dense kernel; the others judge it."""


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """The share of zeros, in whole percent, from which on the sparse kernel is faster."""

    percent: int | None
    """From here on, the sparse kernel has the smaller median at every measured sparsity. None if it
    hasn't even at MAX_PERCENT."""
    low: int
    """Below this, the sparse kernel is confidently slower; 0 if it never is."""
    high: int | None
    """From this on, the sparse kernel is confidently faster; None if it isn't even at
    MAX_PERCENT."""


class KernelRounds:
    """Latencies of kernels in rounds. Only latencies of the same round are compared."""

    def __init__(self, batches: Sequence[Samples], num_kernels: int) -> None:
        """Takes one visit of each kernel in a round. If there are several, the last one counts."""
        num_rounds = 1 + max((int(b.round.max()) for b in batches if len(b)), default=-1)
        self.log: F64 = np.full((num_rounds, num_kernels), np.nan)
        """Log latency, [rounds, kernels]; NaN if the kernel was not measured in the round."""
        for batch in batches:
            self.log[batch.round, batch.point] = np.log(batch.latency_s)

    def forget(self, kernels: Collection[int]) -> None:
        """Removes all latencies of these points, because the points failed later."""
        self.log[:, list(kernels)] = np.nan

    def compare(self, rival: int, reference: int) -> Comparison | None:
        """The comparison of `rival` with `reference`; None if they were in no common round."""
        return _compare(self.log, rival, reference)

    def dense_points(self) -> list[int]:
        """The dense kernels that were measured, the one with the smallest median first."""
        return _rank_dense(self.log)

    def find_best_dense(self) -> tuple[int, Mapping[int, Comparison]] | None:
        """The best dense kernel, and the comparison of each other kernel with it; None without any.

        Some rounds choose, the others compare: in the rounds that choose it, the smallest of
        several medians is too small on average.
        """
        chooses = np.arange(len(self.log)) % CHOOSE_EVERY == 0
        ranked = _rank_dense(self.log[chooses])
        if not ranked:
            return None
        best, judging = ranked[0], self.log[~chooses]
        compared = {
            point: _compare(judging, point, best)
            for point in range(self.log.shape[1])
            if point != best
        }
        return best, {point: each for point, each in compared.items() if each is not None}

    def compare_sparse(self, dense: int) -> dict[int, Comparison]:
        """Percent of zeros, ascending → comparison of the sparse kernel with a dense one."""
        points = {percent: Kernel("csr", percent).point for percent in range(MAX_PERCENT + 1)}
        compared = {
            percent: _compare(self.log, point, dense)
            for percent, point in points.items()
            if point < self.log.shape[1]
        }
        return {percent: each for percent, each in compared.items() if each is not None}


def _rank_dense(log: F64) -> list[int]:
    medians = column_medians(log).center
    seen = [point for point in dense_points(len(medians)) if not np.isnan(medians[point])]
    return sorted(seen, key=lambda point: float(medians[point]))


def _compare(log: F64, rival: int, reference: int) -> Comparison | None:
    pairs = log[:, rival] - log[:, reference]
    pairs = pairs[~np.isnan(pairs)]
    return compare(pairs) if len(pairs) else None


def find_crossover(compared: Mapping[int, Comparison]) -> Crossover | None:
    """The crossover that these comparisons show. `compared`: percent of zeros → sparse to dense.

    None if nothing was compared. Latency doesn't have to fall at every step, so the last sparsity
    at which the sparse kernel isn't faster decides.
    """
    if not compared:
        return None

    def after(percents: list[int]) -> int:
        return 1 + max(percents, default=-1)

    percent = after([p for p, each in compared.items() if each.ratio >= 1])
    high = after([p for p, each in compared.items() if each.verdict != "faster"])
    return Crossover(
        percent=percent if percent <= MAX_PERCENT else None,
        low=after([p for p, each in compared.items() if each.verdict == "slower"]),
        high=high if high <= MAX_PERCENT else None,
    )
