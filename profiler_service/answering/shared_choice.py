"""Chooses one set of dims for several platforms from what is known of pairs on each. Pure.

Derivation: docs/explanation/facts.md, "One answer for several platforms".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.facts import PairEstimate
from profiler_service.analysis.lhp import Prefer, find_costs
from profiler_service.workload import Dims

MAX_CANDIDATES: Final = 4
"""So many dims are compared on every platform, or one for each platform if these are more."""
NUM_LOOKS: Final = 2
"""So often is a pair judged on a platform: by the facts that are known, and after its own race."""

Estimates = Mapping[Dims, PairEstimate]
"""What is known on one platform: a pair for each larger point that was compared there."""


@dataclass(frozen=True, kw_only=True)
class SharedRule:
    """When dims are no slower on every platform, and which of those are chosen."""

    dims: Dims
    """The queried point."""
    prefer: Prefer
    slack: float
    """Dims that are slower by at most this share count as no slower."""
    num_platforms: int
    num_rivals: int
    """How many larger points could be chosen: those that are known on any platform, and those that
    a platform prefers. Facts that choose among them judge them, too, so intervals allow for all."""

    @property
    def max_candidates(self) -> int:
        """How many dims may be compared on every platform."""
        return max(MAX_CANDIDATES, self.num_platforms)

    @property
    def needs_gain(self) -> bool:
        """Whether the dims must be faster on one platform, and not only no slower on each."""
        return self.prefer == "fastest"

    def widen(self, estimate: PairEstimate, *, num_platforms: int = 1) -> PairEstimate:
        """The estimate with an interval that holds whichever rival is chosen, and its verdict.

        With `num_platforms`, it holds on any of so many platforms.
        """
        undecided = replace(estimate, verdict="ambiguous")
        wide = undecided.widened(NUM_LOOKS * self.num_rivals * num_platforms)
        verdict: Verdict = "faster" if wide.high < 1 else "slower" if wide.low > 1 else "ambiguous"
        return replace(wide, verdict=verdict)

    def is_no_slower(self, estimate: PairEstimate | None) -> bool:
        """Whether the larger dims are confidently no slower on that platform. None: unknown."""
        return estimate is not None and self.widen(estimate).high < 1 + self.slack

    def is_faster(self, estimate: PairEstimate | None) -> bool:
        """Whether they are so surely faster that it holds on whichever platform they are."""
        if estimate is None:
            return False
        return self.widen(estimate, num_platforms=self.num_platforms).verdict == "faster"

    def is_decided(self, estimate: PairEstimate | None, *, needs_gain: bool) -> bool:
        """Whether it is known how they compare: more samples would hardly change that.

        `needs_gain`: they aren't surely faster on any platform yet. So what seems to be faster is
        measured once more.
        """
        if estimate is None:
            return False
        if estimate.low > 1 + self.slack:
            return True
        may_gain = needs_gain and estimate.verdict == "faster" and not self.is_faster(estimate)
        return self.is_no_slower(estimate) and not may_gain

    def find_worst(self, rival: Dims, known: Sequence[Estimates]) -> float:
        """The upper end of the ratio on the platform where that is largest."""
        return max(self.widen(each[rival]).high for each in known)

    def find_least_gain(self, rival: Dims, known: Sequence[Estimates]) -> tuple[float, float]:
        """95 % interval on the speed-up of the platform that gains least, whichever that is.

        The lower end is that of one platform, the one that truly gains least, so it needs no
        allowance for their number. The upper end is the least of all: that of any platform.
        """
        low = max(self.widen(each[rival], num_platforms=self.num_platforms).low for each in known)
        return 1 / self.find_worst(rival, known), 1 / low

    def choose(self, candidates: Sequence[Dims], known: Sequence[Estimates]) -> Dims | None:
        """The preferred candidate that is no slower on any platform; None if there is none.

        With `needs_gain`, it is faster on one. Among equally preferred ones, that with the smallest
        `find_worst`.
        """
        holding = [
            rival
            for rival in candidates
            if all(self.is_no_slower(each.get(rival)) for each in known)
            and (not self.needs_gain or any(self.is_faster(each.get(rival)) for each in known))
        ]
        if not holding:
            return None
        costs = find_costs(self.prefer, self.dims, np.array(holding)).tolist()
        worst = [self.find_worst(rival, known) for rival in holding]
        return min(zip(costs, worst, holding, strict=True))[2]

    def suggest(self, tried: Sequence[Dims], known: Sequence[Estimates]) -> list[Dims]:
        """Further dims to compare on every platform, the most hopeful first.

        They are faster on one platform at least (no slower, if no gain is needed), and on none
        surely slower. There are no more than may still be tried.
        """
        good = {
            rival
            for estimates in known
            for rival, each in estimates.items()
            if self._is_good(each) and rival not in tried
        }
        hopeful = [rival for rival in good if not self._is_hopeless(rival, known)]

        def expect(rival: Dims) -> tuple[int, float, Dims]:
            ratios = [each[rival].ratio for each in known if rival in each]
            return len(known) - len(ratios), max(ratios), rival

        return sorted(hopeful, key=expect)[: max(0, self.max_candidates - len(tried))]

    def _is_good(self, estimate: PairEstimate) -> bool:
        if self.needs_gain:
            return estimate.verdict == "faster"
        return estimate.high < 1 + self.slack

    def _is_hopeless(self, rival: Dims, known: Sequence[Estimates]) -> bool:
        return any(rival in each and each[rival].low > 1 + self.slack for each in known)
