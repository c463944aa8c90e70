"""Facts: pairs of points that were compared on samples which chose neither of them.

Pure. Knows neither how pairs are measured nor where facts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

from profiler_service.analysis.comparison import Verdict
from profiler_service.workload import Dims

Z95: Final = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard deviations."""
LEAST_LOG_SD: Final = 1e-5
"""No confirmation is taken to be closer than that: a simulated one may have no noise at all."""
MOST_SHARED: Final = 0.99
"""Most of a confirmation's variance that its processes may explain."""


@dataclass(frozen=True, kw_only=True)
class ConfirmedPair:
    """The comparison of a larger point with a queried one, on fresh samples."""

    dims: Dims
    """The queried point."""
    rival: Dims
    """The larger point."""
    verdict: Verdict
    """About the rival."""
    ratio: float
    """Latency of the rival divided by that of the queried point."""
    low: float
    """Lower end of the 95 % interval on `ratio`. The interval includes what differs from process to
    process."""
    high: float
    num_pairs: int
    num_children: int = 1
    """How many measuring processes took the pairs."""
    num_arenas: int = 1
    """In how many separately mapped arenas the operands lay."""
    between_arenas: float | None = None
    """Variance of the log ratio between arenas, beyond the noise; may be negative. None if there
    was only one arena."""
    noise: float | None = None
    """Standard deviation of the log ratio, from the noise of its pairs alone. None if it isn't
    known."""
    tau: float | None = None
    """Standard deviation between processes that the interval allows for. None: not known."""

    @property
    def log_sd(self) -> float:
        """Standard deviation of log `ratio`, from the width of the interval; above 0."""
        return max(math.log(self.high / self.low) / (2 * Z95), LEAST_LOG_SD)

    def overrules(self, earlier: ConfirmedPair) -> bool:
        """Whether an earlier confirmation of the same pair can't be true any more.

        The intervals have nothing in common, and the verdicts differ. (With the same verdict, or
        with intervals that overlap, both count: see `combine`.)
        """
        apart = self.low > earlier.high or self.high < earlier.low
        return apart and self.verdict != earlier.verdict


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A confirmed pair, and what several confirmations may have in common."""

    pair: ConfirmedPair
    tau: float
    """How much log ratios were taken to differ between processes: in the interval of the pair."""
    worker: str
    """Whose measuring processes took the pairs: they live as long as their worker."""

    @property
    def shared_variance(self) -> float:
        """The part of the variance that is the same in every confirmation by these processes."""
        return min(self.tau**2 / self.pair.num_children, MOST_SHARED * self.pair.log_sd**2)


@dataclass(frozen=True, kw_only=True)
class PairEstimate:
    """What all confirmations of one pair say together."""

    rival: Dims
    verdict: Verdict
    ratio: float
    low: float
    """Lower end of the 95 % interval on `ratio`."""
    high: float

    def widened(self, num_chosen_among: int) -> PairEstimate:
        """The estimate with an interval that holds although the pair is the best of so many.

        Bonferroni: with probability 95 %, *all* intervals of that confidence hold, and so does the
        one of whichever pair is chosen. That the pair is faster, or slower, was confirmed by
        itself: the interval ends at 1 at most.
        """
        if num_chosen_among < 2:
            return self
        wider = NormalDist().inv_cdf(1 - 0.025 / num_chosen_among) / Z95
        low, high = (self.ratio * (end / self.ratio) ** wider for end in (self.low, self.high))
        return replace(
            self,
            low=max(low, 1.0) if self.verdict == "slower" else low,
            high=min(high, 1.0) if self.verdict == "faster" else high,
        )


def combine(confirmations: Sequence[Confirmation]) -> PairEstimate:
    """The estimate from one or several confirmations of the same pair, the oldest first.

    One confirmation stands for itself. Several have the weights 1 / variance, in the logarithm.
    Those by the same worker are averaged first: what its processes have of their own stays, however
    often they measure. If they differ by more than their intervals explain, the combined interval
    grows by as much (Birge ratio; Source: R. T. Birge, Phys. Rev. 40 (1932) 207). A verdict that no
    confirmation gave isn't given: its error is controlled in the race. Raises ValueError for none.
    """
    if not confirmations:
        raise ValueError("no confirmation to combine")
    newest = confirmations[-1].pair
    if len(confirmations) == 1:
        return PairEstimate(
            rival=newest.rival,
            verdict=newest.verdict,
            ratio=newest.ratio,
            low=newest.low,
            high=newest.high,
        )
    by_worker: dict[str, list[Confirmation]] = {}
    for each in confirmations:
        by_worker.setdefault(each.worker, []).append(each)
    means = [_average_worker(group) for group in by_worker.values()]
    center, variance = _weigh(means)
    logs = [(math.log(each.pair.ratio), each.pair.log_sd**2) for each in confirmations]
    misfit = math.fsum((x - center) ** 2 / v for x, v in logs) / (len(logs) - 1)
    sd = math.sqrt(max(1.0, misfit) * variance)
    low, high = (math.exp(center + sign * Z95 * sd) for sign in (-1, 1))
    given = {each.pair.verdict for each in confirmations}
    verdict: Verdict = "ambiguous"
    if high < 1 and "faster" in given:
        verdict = "faster"
    elif low > 1 and "slower" in given:
        verdict = "slower"
    return PairEstimate(
        rival=newest.rival, verdict=verdict, ratio=math.exp(center), low=low, high=high
    )


def _average_worker(confirmations: Sequence[Confirmation]) -> tuple[float, float]:
    """Mean and variance of the log ratio, from confirmations by the same processes."""
    shared = min(each.shared_variance for each in confirmations)
    center, variance = _weigh(
        [(math.log(each.pair.ratio), each.pair.log_sd**2 - shared) for each in confirmations]
    )
    return center, variance + shared


def _weigh(estimates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of independent estimates (value, variance), with weights 1 / variance."""
    weight = math.fsum(1 / variance for _, variance in estimates)
    return math.fsum(value / variance for value, variance in estimates) / weight, 1 / weight


def choose_fastest(
    estimates: Sequence[PairEstimate], *, left: Collection[Dims] = ()
) -> PairEstimate | None:
    """Of the pairs that are faster, the one that is surely faster by most; None if none is.

    Its interval allows for the choice: see `PairEstimate.widened`. Rivals in `left` are not chosen,
    as something else is known to be no slower; the interval allows for them, too.
    """
    faster = [each for each in estimates if each.verdict == "faster"]
    widened = [each.widened(len(faster)) for each in faster if each.rival not in left]
    return min(widened, key=lambda each: (each.high, each.ratio), default=None)
