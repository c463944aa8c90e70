"""The question how one given larger point compares with the queried one, on one platform.

Knows neither HTTP nor how the pair is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import PairEstimate
from profiler_service.answering.curves import Conditions
from profiler_service.answering.facts import FactsKey
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.settling import is_enough
from profiler_service.grid import Grid
from profiler_service.plan.spec import RaceTerms, SweepSpec
from profiler_service.storage.store import CurveHeader, Fact, Host
from profiler_service.workload import Dims


@dataclass(frozen=True, kw_only=True)
class KnownPair:
    """What facts say of one pair on one platform."""

    estimate: PairEstimate
    header: CurveHeader
    """The newest race that confirmed it: its curve has latencies of both points."""
    facts: tuple[Fact, ...]
    """Those that the estimate was combined from, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class KnownPairs:
    """The pairs of a question's window on one platform, and whether one was measured by itself."""

    pairs: dict[Dims, KnownPair]
    raced: Mapping[Dims, Sequence[Evidence]]
    """Larger points that had races against the queried point alone: how closely each looked."""

    @property
    def estimates(self) -> dict[Dims, PairEstimate]:
        """The estimate of each pair, by its larger point."""
        return {rival: pair.estimate for rival, pair in self.pairs.items()}

    def with_pair(self, rival: Dims, newer: KnownPairs) -> KnownPairs:
        """These pairs, and what `newer` says of that one alone.

        Of the others, it may have been read before they were measured.
        """
        its = {rival: newer.pairs[rival]} if rival in newer.pairs else {}
        return replace(self, pairs=self.pairs | its, raced={**self.raced, **newer.raced})


async def read_pairs(
    known: Known, asked: LhpQuestion, conditions: Conditions, *, measured: str | None = None
) -> KnownPairs:
    """What the facts say that count for the question. Raises StoreError."""
    protocol_key = await known.curves.find_protocol(asked.workload, conditions)
    if protocol_key is None:
        return KnownPairs(pairs={}, raced={})
    platform_key = conditions.platform_key
    races = {
        curve_id: header
        for curve_id, header in (
            await known.curves.find_races(asked.workload, asked.dims, platform_key, protocol_key)
        ).items()
        if asked.is_fresh(header, measured)
    }
    point = await known.facts.get(
        FactsKey(asked.workload.key, platform_key, protocol_key, asked.dims)
    )
    choice = point.choose(asked.window, lambda fact: fact.curve_id in races)
    raced: dict[Dims, list[Evidence]] = {}
    for header in races.values():
        if header.grid == Grid.pair(asked.dims, header.grid.last):
            raced.setdefault(header.grid.last, []).append(header.evidence)
    return KnownPairs(
        pairs={
            pair.estimate.rival: KnownPair(
                estimate=pair.estimate,
                header=races[pair.counted[-1].curve_id],
                facts=pair.counted,
            )
            for pair in choice.pairs
        },
        raced=raced,
    )


@dataclass(frozen=True, kw_only=True)
class PairQuestion:
    """How does `rival` compare with the dims of a question? Answered by facts, or by a small race.

    The race looks at these two points alone.
    """

    asked: LhpQuestion
    rival: Dims
    slack: float
    """By how much the rival may be slower and count as no slower."""
    is_decided: Callable[[KnownPairs], bool]
    """Whether what is known is enough."""

    @property
    def meaning(self) -> None:
        """None: answers to it are not sent to anybody."""
        return None

    @property
    def wanted(self) -> str:
        """The pair, for messages."""
        return " against ".join(",".join(map(str, d)) for d in (self.asked.dims, self.rival))

    @property
    def sweep(self) -> SweepSpec:
        """The race between the two points.

        Half the slack is its margin, so that the interval of an equally fast rival lies within the
        slack.
        """
        return SweepSpec(
            workload=self.asked.workload,
            mode="race",
            grid=Grid.pair(self.asked.dims, self.rival),
            budget_s=self.asked.budget_s,
            terms=RaceTerms(margin=self.slack / 2 or None, settle_s=self.asked.terms.settle_s),
        )

    def find_companion(self, host: Host) -> None:
        """None: nothing else is measured with it."""

    def check_host(self, host: Host) -> None:
        """Always returns: admission checks everything that such a sweep needs."""

    async def find(
        self, known: Known, conditions: Conditions, *, measured: str | None = None
    ) -> KnownPairs | None:
        """All pairs of the window; None if this one isn't decided and a race may tell more."""
        found = await read_pairs(known, self.asked, conditions, measured=measured)
        if measured is not None or self.is_decided(found):
            return found
        sweep = self.sweep
        was_raced = any(
            is_enough(evidence, sweep.terms, sweep.budget_s)
            for evidence in found.raced.get(self.rival, ())
        )
        return found if was_raced else None
