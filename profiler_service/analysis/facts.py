"""Facts: pairs of points that were compared on samples which chose neither of them.

Pure. Knows neither how pairs are measured nor where facts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

from profiler_service.analysis.comparison import Verdict
from profiler_service.workload import Dims

Z95: Final = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard deviations."""
LEAST_LOG_SD: Final = 1e-5
"""No confirmation is taken to be closer than that: a simulated one may have no noise at all."""


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

    @property
    def log_sd(self) -> float:
        """Standard deviation of log `ratio`, from the width of the interval; above 0."""
        return max(math.log(self.high / self.low) / (2 * Z95), LEAST_LOG_SD)

    @property
    def num_units(self) -> int:
        """How often what differs between processes was drawn: k of τ² / k."""
        return max(self.num_children, self.num_arenas)

    def overrules(self, earlier: ConfirmedPair) -> bool:
        """Whether an earlier confirmation of the same pair can't be true any more.

        The intervals have nothing in common, and the verdicts differ. (With the same verdict, or
        with intervals that overlap, both count: see `combine`.)
        """
        apart = self.low > earlier.high or self.high < earlier.low
        return apart and self.verdict != earlier.verdict


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


def combine(pairs: Sequence[ConfirmedPair]) -> PairEstimate:
    """The estimate from one or several confirmations of the same pair.

    One confirmation stands for itself. Several have the weights 1 / variance, in the logarithm. If
    they differ by more than their intervals explain, the combined interval grows by as much (Birge
    ratio; Source: R. T. Birge, Phys. Rev. 40 (1932) 207). A verdict that no confirmation gave isn't
    given: each confirmation also looked at the state of its host. Raises ValueError for none.
    """
    if not pairs:
        raise ValueError("no confirmation to combine")
    newest = pairs[-1]
    if len(pairs) == 1:
        return PairEstimate(
            rival=newest.rival,
            verdict=newest.verdict,
            ratio=newest.ratio,
            low=newest.low,
            high=newest.high,
        )
    logs = [math.log(pair.ratio) for pair in pairs]
    weights = [pair.log_sd**-2 for pair in pairs]
    center = math.fsum(w * x for w, x in zip(weights, logs, strict=True)) / math.fsum(weights)
    misfit = math.fsum(w * (x - center) ** 2 for w, x in zip(weights, logs, strict=True))
    sd = math.sqrt(max(1.0, misfit / (len(pairs) - 1)) / math.fsum(weights))
    low, high = (math.exp(center + sign * Z95 * sd) for sign in (-1, 1))
    given = {pair.verdict for pair in pairs}
    verdict: Verdict = "ambiguous"
    if high < 1 and "faster" in given:
        verdict = "faster"
    elif low > 1 and "slower" in given:
        verdict = "slower"
    return PairEstimate(
        rival=newest.rival, verdict=verdict, ratio=math.exp(center), low=low, high=high
    )


def choose_fastest(estimates: Sequence[PairEstimate]) -> PairEstimate | None:
    """Of the pairs that are faster, the one that is surely faster by most; None if none is.

    Its interval allows for the choice: see `PairEstimate.widened`.
    """
    faster = [each for each in estimates if each.verdict == "faster"]
    widened = [each.widened(len(faster)) for each in faster]
    return min(widened, key=lambda each: (each.high, each.ratio), default=None)
