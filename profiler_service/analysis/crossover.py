"""Compares kernels: the dense ones with each other, and the sparse one with the dense ones.

numpy only. It gets rounds in which several kernels were measured, and knows neither how they
were measured nor who asks. Kernels are the points of a curve of `linear_kernels`: see
`kinds.kernels`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiler_service.analysis.comparison import (
    CONFIDENCE,
    F64,
    Comparison,
    column_medians,
    compare,
)
from profiler_service.analysis.samples import Samples
from profiler_service.kinds.kernels import DENSE_BACKENDS, MAX_PERCENT, Kernel, dense_points

CHOOSE_EVERY = 3
"""Every third round chooses the best dense kernel; the others judge it."""
LOOKS = (12, 24, 48, 96, 192, 288)
"""A search for crossovers judges two kernels once they have met in this many rounds, and at no
other time. The looks at all dense kernels share the error that one interval may have."""


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """The share of zeros, in whole percent, from which on the sparse kernel is faster."""

    percent: int | None
    """From here on, the sparse kernel has the smaller median at every measured sparsity. None if it
    hasn't even at MAX_PERCENT."""
    low: int
    """The crossover is confidently not below this: the sparse kernel is slower just below. 0 if
    nothing is known."""
    high: int | None
    """From this on, the sparse kernel is confidently faster; None if it isn't even at
    MAX_PERCENT."""


class KernelRounds:
    """Latencies of kernels in rounds. Only latencies of the same round are compared.

    Dense kernels alone meet in a number of rounds that doesn't depend on how they compare. They are
    judged once, on all of these rounds. A search for crossovers looks at its comparisons repeatedly
    and ends when it likes them. It judges at LOOKS only, each time from the first so many pairs.
    The looks and the dense kernels share the error (Bonferroni). So all intervals with every dense
    kernel hold together, at every look, with CONFIDENCE.
    """

    def __init__(self, batches: Sequence[Samples], num_kernels: int) -> None:
        """Takes one visit of each kernel in a round. If there are several, the last one counts."""
        num_rounds = 1 + max((int(b.round.max()) for b in batches if len(b)), default=-1)
        self.log: F64 = np.full((num_rounds, num_kernels), np.nan)
        """Log latency, [rounds, kernels]; NaN if the kernel was not measured in the round."""
        for batch in batches:
            self.log[batch.round, batch.point] = np.log(batch.latency_s)
        is_search = num_kernels > len(DENSE_BACKENDS)
        self._looks = LOOKS if is_search else ()
        shares = len(LOOKS) * len(DENSE_BACKENDS) if is_search else 1
        self._confidence = 1 - (1 - CONFIDENCE) / shares

    def forget(self, kernels: Collection[int]) -> None:
        """Removes all latencies of these points, because the points failed later."""
        self.log[:, list(kernels)] = np.nan

    def compare(self, rival: int, reference: int) -> Comparison | None:
        """The comparison of `rival` with `reference`; None if they were in no common round."""
        return self._compare(self.log, rival, reference)

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
            point: self._compare(judging, point, best)
            for point in range(self.log.shape[1])
            if point != best
        }
        return best, {point: each for point, each in compared.items() if each is not None}

    def compare_sparse(self, dense: int) -> dict[int, Comparison]:
        """Percent of zeros, ascending → comparison of the sparse kernel with a dense one."""
        points = {percent: Kernel("csr", percent).point for percent in range(MAX_PERCENT + 1)}
        compared = {
            percent: self._compare(self.log, point, dense)
            for percent, point in points.items()
            if point < self.log.shape[1]
        }
        return {percent: each for percent, each in compared.items() if each is not None}

    def count_to_look(self, percents: Collection[int]) -> int:
        """Rounds until the next look at the sparse kernel at one of these percentages; at least 1.

        0 if each of them has had its last look.
        """
        points = [Kernel("csr", percent).point for percent in percents]
        met = np.count_nonzero(~np.isnan(self.log[:, points]), axis=0).tolist()
        return min((look - n for n in met for look in self._looks if look > n), default=0)

    def _compare(self, log: F64, rival: int, reference: int) -> Comparison | None:
        """Before the first look, the comparison is ambiguous, and its interval is unbounded."""
        pairs = log[:, rival] - log[:, reference]
        pairs = pairs[~np.isnan(pairs)]
        if not len(pairs):
            return None
        judged = max((n for n in self._looks if n <= len(pairs)), default=len(pairs))
        is_early = judged < min(self._looks, default=0)
        return compare(pairs[:judged], 1.0 if is_early else self._confidence)


def _rank_dense(log: F64) -> list[int]:
    medians = column_medians(log).center
    seen = [point for point in dense_points(len(medians)) if not np.isnan(medians[point])]
    return sorted(seen, key=lambda point: float(medians[point]))


def find_crossover(compared: Mapping[int, Comparison]) -> Crossover | None:
    """The crossover that these comparisons show. `compared`: percent of zeros → sparse to dense.

    None if nothing was compared. Latency doesn't have to fall at every step, so the last sparsity
    at which the sparse kernel isn't faster decides.

    Both bounds are found in sequence, from either end up to the first sparsity without the verdict.
    Then only the comparison at which a sequence should have stopped can make its bound wrong, and
    the bounds need no correction for the number of sparsities. (Without the sequence, one of many
    sparsities at which the kernels are equal would look slower by chance.)
    """
    if not compared:
        return None

    def after(percents: list[int]) -> int:
        return 1 + max(percents, default=-1)

    unclear = min(
        (p for p, each in compared.items() if each.verdict == "ambiguous"), default=MAX_PERCENT + 1
    )
    percent = after([p for p, each in compared.items() if each.ratio >= 1])
    high = after([p for p, each in compared.items() if each.verdict != "faster"])
    return Crossover(
        percent=percent if percent <= MAX_PERCENT else None,
        low=after([p for p, each in compared.items() if p < unclear and each.verdict == "slower"]),
        high=high if high <= MAX_PERCENT else None,
    )
