"""Chooses one set of dims for several platforms from what is known of pairs on each. Pure.

Derivation: docs/explanation/facts.md, "One answer for several platforms".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from profiler_service.analysis.facts import PairEstimate
from profiler_service.analysis.lhp import Prefer, find_costs
from profiler_service.workload import Dims

MAX_CANDIDATES: Final = 4
"""So many dims are compared on every platform, or one for each platform if these are more. Every
interval allows for the choice among so many."""

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

    @property
    def max_candidates(self) -> int:
        """How many dims may be compared on every platform."""
        return max(MAX_CANDIDATES, self.num_platforms)

    def count_choices(self, estimates: Estimates) -> int:
        """Among how many pairs the answer is chosen on that platform."""
        num_faster = sum(each.verdict == "faster" for each in estimates.values())
        return max(self.max_candidates, num_faster)

    def widen(self, estimate: PairEstimate, estimates: Estimates) -> PairEstimate:
        """The estimate with an interval that allows for the choice, also of its verdict."""
        undecided = replace(estimate, verdict="ambiguous")
        wide = undecided.widened(self.count_choices(estimates))
        return replace(wide, verdict=estimate.verdict)

    def is_no_slower(self, rival: Dims, estimates: Estimates) -> bool:
        """Whether the larger dims are confidently no slower on that platform."""
        estimate = estimates.get(rival)
        return estimate is not None and self.widen(estimate, estimates).high < 1 + self.slack

    def is_decided(self, rival: Dims, estimates: Estimates) -> bool:
        """Whether it is known if they are: more samples would hardly change that."""
        estimate = estimates.get(rival)
        if estimate is None:
            return False
        return self.is_no_slower(rival, estimates) or estimate.low > 1 + self.slack

    def find_worst(self, rival: Dims, known: Sequence[Estimates]) -> float:
        """The upper end of the ratio on the platform where that is largest."""
        return max(self.widen(each[rival], each).high for each in known)

    def choose(self, candidates: Sequence[Dims], known: Sequence[Estimates]) -> Dims | None:
        """The preferred candidate that is no slower on any platform and faster on one; or None.

        Among equally preferred ones, that with the smallest `find_worst`.
        """
        holding = [
            rival
            for rival in candidates
            if all(self.is_no_slower(rival, each) for each in known)
            and any(each[rival].verdict == "faster" for each in known)
        ]
        if not holding:
            return None
        costs = find_costs(self.prefer, self.dims, np.array(holding)).tolist()
        worst = [self.find_worst(rival, known) for rival in holding]
        return min(zip(costs, worst, holding, strict=True))[2]

    def suggest(self, tried: Sequence[Dims], known: Sequence[Estimates]) -> list[Dims]:
        """Further dims to compare on every platform, the most hopeful first.

        They are faster on one platform at least, and on none surely slower. There are no more than
        may still be tried.
        """
        faster = {
            rival
            for estimates in known
            for rival, each in estimates.items()
            if each.verdict == "faster" and rival not in tried
        }
        hopeful = [rival for rival in faster if not self._is_hopeless(rival, known)]

        def expect(rival: Dims) -> tuple[int, float, Dims]:
            ratios = [each[rival].ratio for each in known if rival in each]
            return len(known) - len(ratios), max(ratios), rival

        return sorted(hopeful, key=expect)[: max(0, self.max_candidates - len(tried))]

    def _is_hopeless(self, rival: Dims, known: Sequence[Estimates]) -> bool:
        return any(rival in each and each[rival].low > 1 + self.slack for each in known)
