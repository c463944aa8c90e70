"""The final: compares a few points on fresh samples, and says how sure the answer is.

numpy only: gets samples. The caller keeps the time limits. Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import CONFIDENCE, Comparison
from profiler_service.analysis.neighbours import NearPair, Neighbours, number_rounds
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.repeatability import Repeatability
from profiler_service.plan.race.settings import SettleSettings

Pair = tuple[int, int]
"""Two points: the first one is compared with the second one."""
_Z = 1.96


def plan_looks(settings: SettleSettings, affordable: int) -> Mapping[int, float]:
    """Rounds after which to look → the share of the error that may be spent by each look.

    The last look comes when the `affordable` rounds are done, each one before after half as many.
    It may spend half as much: an early look needs less, because only large differences show by
    then. Empty if there is no time for a look.
    """
    looks = [affordable >> i for i in reversed(range(settings.looks))]
    looks = [rounds for rounds in looks if rounds >= settings.first_look]
    total = 2.0 ** len(looks) - 1
    return MappingProxyType({n: 2.0**i / total for i, n in enumerate(looks)})


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a look says. All its statements hold together, with the confidence of the race."""

    answer: int
    """The point that is surely faster than the queried one, or the queried one itself."""
    best: int
    """The larger point that is fastest; if it isn't the answer, it isn't surely faster."""
    comparisons: Mapping[int, Comparison]
    """Larger point → its comparison with the queried one."""
    margin: float
    """No finalist is faster than the answer by more than this share."""
    is_decided: bool
    """Whether that is as little as was wanted."""


@dataclass(frozen=True, kw_only=True)
class PairOrigin:
    """What compared two points."""

    tau: float
    """The standard deviation between processes for which the interval allows; larger if they chose
    the points, too."""

    num_children: int
    num_arenas: int
    between_arenas: float | None
    """Variance of the log ratio between arenas, beyond noise and differences between children."""
    noise: float | None
    """Standard deviation of the log ratio, from the noise of its pairs alone."""


class Final:
    """The rounds of a final, in which every round visits all of `field`, and what they say.

    `add` takes one batch, whose operands lay in one arena. `judge` may be called at the looks that
    were planned. Samples must be new: they had no part in the choice of the finalists.
    """

    def __init__(
        self,
        settings: SettleSettings,
        *,
        asked: int,
        finalists: Sequence[int],
        margin: float,
        repeatability: Repeatability,
        error: float,
    ) -> None:
        """`finalists` are larger than the point `asked`, the fastest first.

        `error` is that of all statements in all looks together. `margin` is what to aim at.
        """
        self._settings = settings
        self._asked = asked
        self._finalists = list(finalists)
        self._margin = margin
        self._expected = repeatability
        self.repeatability = repeatability
        """What the samples say of it. Set it anew only between `add` and `judge`."""
        self.chosen_from = len(finalists)
        """From so many points, samples of the same processes chose. As `repeatability`."""
        self._column = {point: number for number, point in enumerate([asked, *finalists])}
        # Bonferroni: over all pairs, so that any of them may be compared whatever the samples say.
        self._error = error / max(1, math.comb(len(self._column), 2))
        self.batches: list[Samples] = []
        # Two points, the smaller number first → what is known of them since the last batch.
        self._met: dict[Pair, _Meeting | None] = {}
        self._compared: dict[tuple[Pair, float], Comparison] = {}
        self.field: list[int] = [asked, *finalists]
        """The points that the next rounds visit."""
        self.num_rounds = 0

    def add(self, samples: Samples, count: int) -> None:
        """Takes one batch of `count` rounds. A visit without a sample is left out."""
        self.batches.append(samples)
        self._met, self._compared = {}, {}
        self.num_rounds += count

    def drop(self, point: int) -> None:
        """Leaves out a finalist that failed: nobody should grow there."""
        self._finalists.remove(point)
        self.field = [each for each in self.field if each != point]

    def judge(self, share: float) -> Judgement | None:
        """What all rounds say so far, at a look that may spend `share` of the error.

        Finalists that surely aren't faster than the leader by the margin leave the field. None if
        no finalist has a round in common with the queried point.
        """
        comparisons = {
            point: comparison
            for point in self._finalists
            if (comparison := self._compare(point, self._asked, share)) is not None
        }
        if not comparisons:
            return None
        best = self._find_leader([*comparisons], share)
        faster = [point for point, each in comparisons.items() if each.verdict == "faster"]
        answer = self._find_leader(faster, share) if faster else self._asked
        margin = max(
            self._find_lead(point, answer, share)
            for point in (self._asked, *comparisons)
            if point != answer
        )
        self.field = [self._asked, best] + [
            point
            for point in comparisons
            if point != best and self._find_lead(point, best, share) > self._margin
        ]
        return Judgement(
            answer=answer,
            best=best,
            comparisons=MappingProxyType(comparisons),
            margin=margin,
            is_decided=margin <= self._margin,
        )

    def find_origin(self, point: int) -> PairOrigin:
        """Where the pairs of a finalist and the queried point come from; there is at least one."""
        met = self._meet(point, self._asked)
        assert met is not None
        variance, free = met.arena_variance
        noise = met.pair.compare(CONFIDENCE)
        known = replace(self._find_repeatability(met, is_claim=True), arenas=0.0)
        return PairOrigin(
            tau=known.half_width(1, 1, chosen_from=self.chosen_from) / _Z,
            num_children=len(np.unique(met.child)),
            num_arenas=len(np.unique(met.arena)),
            between_arenas=variance if free else None,
            noise=math.log(noise.high / noise.low) / (2 * _Z)
            if noise.low > 0 and noise.high < math.inf
            else None,
        )

    def _find_leader(self, points: Sequence[int], share: float) -> int:
        """The first of the points, unless another one is surely faster."""
        leader = points[0]
        for point in points[1:]:
            comparison = self._compare(point, leader, share)
            if comparison is not None and comparison.verdict == "faster":
                leader = point
        return leader

    def _find_lead(self, point: int, over: int, share: float) -> float:
        """By how much `point` may be faster than `over`: a share, 0 if it surely isn't."""
        comparison = self._compare(point, over, share)
        return 1.0 if comparison is None else max(0.0, 1 - comparison.low)

    def _compare(self, point: int, over: int, share: float) -> Comparison | None:
        key = min(point, over), max(point, over)
        if key not in self._met:
            self._met[key] = self._meet(*key)
        met = self._met[key]
        if met is None:
            return None
        confidence = 1 - self._error * share
        if (key, confidence) not in self._compared:
            between = self._find_between(met, is_claim=self._asked in key)
            self._compared[key, confidence] = met.pair.compare(confidence, between=between)
        found = self._compared[key, confidence]
        return found if key == (point, over) else found.turned()

    def _find_repeatability(self, met: _Meeting, *, is_claim: bool) -> Repeatability:
        """What is known of it for two points.

        A claim about the queried point expects what was known before, at least: a process may treat
        all larger points alike, and differ only there. Larger points don't show that.
        """
        known, weight = self.repeatability, self._settings.tau_weight
        known = known.at_least(self._expected) if is_claim else known
        variance, free = met.arena_variance
        pooled = (weight * known.arenas**2 + free * variance) / (weight + free)
        return replace(known, arenas=math.sqrt(max(pooled, 0.0)))

    def _find_between(self, met: _Meeting, *, is_claim: bool) -> float:
        """Half of the interval, in log, for what differs between processes and arenas."""
        return self._find_repeatability(met, is_claim=is_claim).half_width(
            _count_effective(met.child),
            _count_effective(met.arena),
            chosen_from=self.chosen_from,
        )

    def _meet(self, point: int, over: int) -> _Meeting | None:
        """The rounds that have both points; None if there is none."""
        batches = [_select_pairs(batch, point, over) for batch in self.batches]
        arena = np.repeat(np.arange(len(batches)), [len(visit) for visit in batches])
        if not len(arena):
            return None
        visits = np.concatenate(batches)
        chosen = list(zip(self.batches, batches, strict=True))
        met_point = np.concatenate([batch.point[visit] for batch, visit in chosen])
        log = np.log(np.concatenate([batch.latency_s[visit] for batch, visit in chosen]))
        rounds = np.concatenate([batch.round[visit] for batch, visit in chosen])
        rounds = number_rounds(arena, rounds)
        pair = NearPair(log, met_point == point, rounds, Neighbours(arena, visits))
        _, first = np.unique(rounds, return_index=True)
        child = np.array([batch.child for batch in self.batches])
        return _Meeting(pair=pair, arena=arena[first], child=child[arena[first]])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Meeting:
    """The rounds of two points; arrays [rounds]."""

    pair: NearPair
    arena: npt.NDArray[np.int64]
    child: npt.NDArray[np.int64]

    @functools.cached_property
    def arena_variance(self) -> tuple[float, int]:
        """The variance between arenas beyond noise and children, and its degrees of freedom.

        By the method of moments, so it may be negative. (0, 0) if no child has two arenas.
        """
        labels, group = np.unique(self.arena, return_inverse=True)
        center, noise = self.pair.find_group_centers(group)
        child = np.zeros(len(labels), dtype=np.int64)
        child[group] = self.child
        squares, expected, free = 0.0, 0.0, 0
        for number in np.unique(child).tolist():
            mine = (child == number) & ~np.isnan(center)
            count = int(np.count_nonzero(mine))
            if count < 2:
                continue
            squares += float(np.sum((center[mine] - center[mine].mean()) ** 2))
            expected += float(noise[mine].mean()) * (count - 1)
            free += count - 1
        return ((squares - expected) / free, free) if free else (0.0, 0)


def _select_pairs(batch: Samples, point: int, over: int) -> npt.NDArray[np.intp]:
    """The visits of a batch to either point, in rounds that have both."""
    is_met = np.isin(batch.point, [point, over])
    rounds, count = np.unique(batch.round[is_met], return_counts=True)
    return np.flatnonzero(is_met & np.isin(batch.round, rounds[count == 2]))


def _count_effective(label: npt.NDArray[np.int64]) -> float:
    """How many groups of equal size would make as precise a mean as these groups of samples."""
    share = np.unique(label, return_counts=True)[1] / len(label)
    return float(1 / np.sum(share**2))
