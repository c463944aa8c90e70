"""The referee's statistics: a ratio's interval over processes, and exact shares. numpy only.

The unit is the process: what differs from one process to the next (pages, layout) is in the
interval, because each process gives one value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
NORMAL_95 = 1.959964
"""The normal distribution's quantile of 97.5 %."""
NORMAL_90 = 1.281552
"""Its quantile of 90 %, for a power of 90 %."""
MEDIAN_COST = math.pi / 2
"""How much larger the variance of a median is than that of a mean, for normal noise."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of latencies by the referee, on a log scale, with its standard error."""

    log: float
    se: float
    """Standard error of `log`, from the spread between processes."""
    processes: int

    @property
    def estimate(self) -> float:
        """The ratio itself: above 1 is slower."""
        return math.exp(self.log)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return math.exp(self.log - student_95(self.processes - 1) * self.se)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return math.exp(self.log + student_95(self.processes - 1) * self.se)


def ratio_of(values: Sequence[float] | F64) -> Ratio:
    """The mean of one log ratio a process, and its standard error.

    The latency of a point over itself is exactly 1: all values are zero, and so is the error.
    """
    values = np.asarray(values, dtype=np.float64)
    return Ratio(
        log=float(values.mean()),
        se=float(values.std(ddof=1)) / math.sqrt(len(values)),
        processes=len(values),
    )


def noise_of_median(blocks: Sequence[float] | F64) -> float:
    """Variance of the median of independent blocks, from their median absolute deviation."""
    blocks = np.asarray(blocks, dtype=np.float64)
    spread = 1.4826 * float(np.median(np.abs(blocks - np.median(blocks))))
    return MEDIAN_COST * spread**2 / len(blocks)


def between_processes(values: Sequence[F64], noise: Sequence[float]) -> float:
    """τ: by how much log ratios differ from process to process, beyond the noise within them.

    `values` are one array [processes] for each pair of points; `noise` is the variance within a
    process of each. Zero if they differ by no more than the noise.
    """
    excess = [each.var(ddof=1) - within for each, within in zip(values, noise, strict=True)]
    return math.sqrt(max(0.0, float(np.mean(excess))))


def resolvable_margin(*, spread: float, pairs: float, tau: float, children: int) -> float:
    """The smallest margin (a share) that `pairs` pairs can state with 95 %.

    `spread` is the standard deviation of one pair's log ratio. `tau` is that between processes, of
    which `children` took the pairs: time shrinks only the first.
    """
    variance = MEDIAN_COST * spread**2 / pairs + tau**2 / children
    return math.expm1(NORMAL_95 * math.sqrt(variance))


def processes_needed(*, margin: float, tau: float) -> int:
    """How many processes show with 90 % power that two equal points differ by less than `margin`,
    at 95 %, even if noise is averaged out completely."""
    return max(1, math.ceil(((NORMAL_95 + NORMAL_90) * tau / math.log1p(margin)) ** 2))


# --- Distributions --------------------------------------------------------------------------


@functools.cache
def student_95(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, for any positive degrees of freedom."""
    if degrees > 1e4:
        return NORMAL_95
    # With t = √ν·tan θ, the density is proportional to cos(θ)^(ν-1) on (-π/2, π/2).
    theta = np.linspace(0, math.pi / 2, 10_001)
    density = np.cos(theta) ** (degrees - 1) if degrees >= 1 else np.ones_like(theta)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(float(np.interp(0.95 * area[-1], area, theta)))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The exact 95 % interval on a share (Clopper and Pearson), from `count` of `total`."""
    low = 0.0 if count == 0 else _solve(lambda p: 1 - _binomial(count - 1, total, p), 0.025)
    high = 1.0 if count == total else _solve(lambda p: 1 - _binomial(count, total, p), 0.975)
    return low, high


def highest_share(count: int, total: int) -> float:
    """The largest share that seeing only `count` of `total` leaves possible, at 95 %."""
    return 1.0 if count == total else _solve(lambda p: 1 - _binomial(count, total, p), 0.95)


def _binomial(count: int, total: int, share: float) -> float:
    """Probability of at most `count` of `total`, each with probability `share`."""
    k = np.arange(count + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    ways = factorial[total] - factorial[k] - factorial[total - k]
    return float(np.exp(ways + k * math.log(share) + (total - k) * math.log1p(-share)).sum())


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Where a function that rises from 0 to 1 between 0 and 1 has this value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
