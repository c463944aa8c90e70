"""Comparing noisy latencies: medians, their intervals, verdicts, and the removal of drift.

numpy only. It gets logarithms of latencies, and knows neither grids nor workloads. Logarithms
turn ratios into differences, so that "3 % slower" means the same everywhere.

Intervals are order statistics of the sample (from the sign test). They hold for every continuous
distribution of noise, however heavy its tails, as long as rounds are independent. Derivation:
docs/explanation/hysteresis.md, "Comparing two points". Races compare few points with many visits
more sharply: see `neighbours`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Verdict = Literal["faster", "slower", "ambiguous"]

CONFIDENCE = 0.95
DRIFT_BLOCK = 32


@functools.cache
def interval_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """Rank k such that the k-th smallest and k-th largest of n samples enclose the median.

    The interval [x_(k), x_(n-k+1)] covers the true median with at least `confidence`; the largest
    such k is returned, or 0 if there are too few samples (n < 6 at 95 %).
    Source: sign test, P(x_(k) > median) = P(Binomial(n, 1/2) < k).
    """
    tail = (1 - confidence) / 2
    cumulative, k = 0.0, 0
    while k < (n + 1) // 2:
        # log binomial probability: 2**-n underflows beyond n of about 1,000.
        log_p = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        cumulative += math.exp(log_p)
        if cumulative > tail:
            break
        k += 1
    return k


@dataclass(frozen=True, kw_only=True, eq=False)
class Medians:
    """Medians of columns and their intervals; arrays of length n (number of columns)."""

    center: F64
    """NaN for a column without samples."""
    low: F64
    """NaN for a column with too few samples for an interval."""
    high: F64
    count: npt.NDArray[np.int32]


def column_medians(values: npt.NDArray[np.floating], confidence: float = CONFIDENCE) -> Medians:
    """Medians of the columns of `values` [rounds, n]; NaN marks missing samples."""
    rounds, n = values.shape
    count = np.count_nonzero(~np.isnan(values), axis=0).astype(np.int32)
    if rounds == 0:
        nothing = np.full(n, np.nan)
        return Medians(center=nothing, low=nothing, high=nothing, count=count)
    ordered = np.sort(values, axis=0).astype(np.float64)  # NaN sorts last
    columns = np.arange(n)
    last = np.maximum(count - 1, 0)
    center = (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2
    # A rank takes time in proportion to its count: for all counts up to thousands, seconds.
    counts, place = np.unique(count, return_inverse=True)
    ranks = np.array([interval_rank(m, confidence) for m in counts.tolist()])[place]
    low = ordered[np.maximum(ranks - 1, 0), columns]
    high = ordered[np.maximum(count - ranks, 0) % max(rounds, 1), columns]
    enough = ranks > 0
    return Medians(
        center=np.where(count > 0, center, np.nan),
        low=np.where(enough, low, np.nan),
        high=np.where(enough, high, np.nan),
        count=count,
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of one point's latency with another's."""

    verdict: Verdict
    ratio: float
    """Median of the paired latency ratios."""
    low: float
    """Lower end of the interval on the ratio; 0 if there are too few pairs."""
    high: float
    """Upper end of the interval; infinity if there are too few pairs."""
    num_pairs: int

    @property
    def is_bounded(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low > 0 and self.high < math.inf

    def turned(self) -> Comparison:
        """The comparison of the other point with this one."""
        verdicts: dict[Verdict, Verdict] = {"faster": "slower", "slower": "faster"}
        return Comparison(
            verdict=verdicts.get(self.verdict, "ambiguous"),
            ratio=1 / self.ratio,
            low=1 / self.high,
            high=1 / self.low if self.low > 0 else math.inf,
            num_pairs=self.num_pairs,
        )


def compare(log_ratios: F64, confidence: float = CONFIDENCE) -> Comparison:
    """The comparison of a rival with a reference, from their paired log ratios [pairs].

    `log_ratios` are log(latency of the rival / latency of the reference), each pair taken
    within one round. The verdict is about the rival: `faster` if the whole interval lies below 1,
    `slower` if it lies above 1, otherwise `ambiguous`. Raises ValueError for no pairs.
    """
    n = len(log_ratios)
    if n == 0:
        raise ValueError("no pairs to compare")
    ordered = np.sort(log_ratios)
    rank = interval_rank(n, confidence)
    return judge(
        float(np.median(log_ratios)),
        float(ordered[rank - 1]) if rank else -math.inf,
        float(ordered[n - rank]) if rank else math.inf,
        num_pairs=n,
    )


def judge(center: float, low: float, high: float, *, num_pairs: int) -> Comparison:
    """The comparison of this log ratio with its interval; an infinite end leaves it open.

    Few pairs may rule out that the rival is slower, and not tell by how much it is faster. That is
    no verdict yet: an answer says both.
    """
    ends = math.exp(low), math.exp(high) if high < math.inf else math.inf
    verdict: Verdict = "ambiguous"
    if ends[0] > 0 and ends[1] < 1:
        verdict = "faster"
    elif ends[0] > 1 and ends[1] < math.inf:
        verdict = "slower"
    return Comparison(
        verdict=verdict,
        ratio=math.exp(center),
        low=ends[0],
        high=ends[1],
        num_pairs=num_pairs,
    )


def smooth_drift(
    time: F64, residual: F64, *, at: F64 | None = None, block: int = DRIFT_BLOCK
) -> F64:
    """The slow part of `residual` [n] taken at `time` [n] (ascending), at the times `at`.

    `at` defaults to `time`. Medians of consecutive blocks of `block` residuals, joined by
    straight lines: slow compared with a visit, robust against outliers, linear in n. Clocks,
    heat and neighbours change the latency of every point alike, so this part belongs to the
    host and not to a point. Zero if there are no residuals.
    """
    at = time if at is None else at
    n = len(residual)
    if n == 0:
        return np.zeros_like(at)
    # The last block is longer than the others if what is left would make a short, noisy one.
    num_full = max((n - block // 2) // block, 0)
    full = num_full * block
    centers = np.append(time[:full].reshape(-1, block).mean(axis=1), time[full:].mean())
    levels = np.append(
        np.median(residual[:full].reshape(-1, block), axis=1), np.median(residual[full:])
    )
    drift: F64 = np.interp(at, centers, levels)
    return drift


def grouped_medians(
    group: npt.NDArray[np.integer], value: F64
) -> tuple[npt.NDArray[np.int64], F64, npt.NDArray[np.int64]]:
    """The groups that occur (ascending), and for each the median of its values and their number."""
    order = np.lexsort((value, group))
    ordered: npt.NDArray[np.int64] = group[order].astype(np.int64)
    value = value[order]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    count = np.diff(np.r_[first, len(ordered)])
    median: F64 = (value[first + (count - 1) // 2] + value[first + count // 2]) / 2
    return ordered[first], median, count
