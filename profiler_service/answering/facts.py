"""The facts about the points that questions have asked for, in memory and combined.

Knows neither questions nor how pairs are confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Self

from profiler_service.analysis.facts import PairEstimate, choose_fastest, combine
from profiler_service.answering.cache import LoadingCache
from profiler_service.grid import Grid
from profiler_service.plan.modes import MODES
from profiler_service.storage.store import CurveHeader, Fact, Store
from profiler_service.workload import Dims

MAX_FACTS = 50_000
"""Number of facts kept in memory: about 2 KiB each."""
MAX_FACTS_PER_POINT = 1000
"""So many of the newest facts about one queried point count."""


class FactsKey(NamedTuple):
    """What the facts that are kept together have in common."""

    workload_key: str
    platform_key: str
    protocol_key: str
    dims: Dims
    """The queried point."""


@dataclass(frozen=True, kw_only=True)
class RaceAnswer:
    """What a race answered: a point that it found to be faster than the queried one."""

    curve_id: str
    rival: Dims


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """The facts about one pair, and what they say together."""

    estimate: PairEstimate
    counted: tuple[Fact, ...]
    """Those that the estimate was combined from, the oldest first."""
    contradicts: tuple[str, ...]
    """Ids of those that said otherwise: overruled ones, and those whose verdict the estimate isn't.
    (A fact that couldn't tell said nothing else.)"""

    @classmethod
    def of(cls, facts: Sequence[Fact]) -> Self:
        """From all facts about the pair that count, the oldest first."""
        overruled_by = {fact.overruled_by for fact in facts}
        present = {fact.id for fact in facts}
        counted = [fact for fact in facts if fact.overruled_by not in present & overruled_by]
        estimate = combine([fact.confirmation for fact in counted])
        agreeing = ("ambiguous", estimate.verdict)
        return cls(
            estimate=estimate,
            counted=tuple(counted),
            contradicts=tuple(
                fact.id
                for fact in facts
                if fact not in counted or fact.pair.verdict not in agreeing
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The pair that facts answer with, and what they say of all pairs of a window."""

    fastest: PairEstimate | None
    """With an interval that allows for the choice; None if no pair is surely faster."""
    counted: tuple[Fact, ...]
    """What `fastest` was combined from, the oldest first."""
    contradicts: tuple[str, ...]
    """Of `fastest`; without one, of all pairs of the window."""
    pairs: tuple[PairFacts, ...]
    """Every pair of the window."""

    @property
    def are_all_slower(self) -> bool:
        """Whether every rival that was confirmed is surely slower; not if there is none."""
        return bool(self.pairs) and all(p.estimate.verdict == "slower" for p in self.pairs)

    def knows(self, rival: Dims) -> bool:
        """Whether there are facts about the pair with this rival."""
        return any(pair.estimate.rival == rival for pair in self.pairs)


class PointFacts:
    """Everything that is known about one queried point. Facts are combined once."""

    def __init__(self, facts: Sequence[Fact], *, as_of: int) -> None:
        """`facts` come oldest first; `as_of` is the store's generation before they were read."""
        self.facts = tuple(facts)
        self.as_of = as_of

    @cached_property
    def _pairs(self) -> tuple[PairFacts, ...]:
        return _combine_pairs(self.facts)

    def choose(
        self,
        window: Grid,
        counts: Callable[[Fact], bool] | None = None,
        *,
        raced: RaceAnswer | None = None,
    ) -> Choice:
        """The fastest pair whose rival is a candidate of the window, from the facts that count.

        A race compared its finalists with each other, and knows more of them than their pairs with
        the queried point say. So of the points that `raced` confirmed, its answer is chosen, unless
        another one is surely faster by all facts.
        """
        pairs = self._pairs
        if counts is not None and not all(map(counts, self.facts)):
            pairs = _combine_pairs([fact for fact in self.facts if counts(fact)])
        inside = [pair for pair in pairs if window.is_candidate(pair.estimate.rival)]
        left = () if raced is None else _find_beaten(inside, raced)
        fastest = choose_fastest([pair.estimate for pair in inside], left=left)
        its = [p for p in inside if fastest is not None and p.estimate.rival == fastest.rival]
        return Choice(
            fastest=fastest,
            counted=its[0].counted if its else (),
            contradicts=tuple(each for pair in its or inside for each in pair.contradicts),
            pairs=tuple(inside),
        )


def _find_beaten(pairs: Sequence[PairFacts], raced: RaceAnswer) -> tuple[Dims, ...]:
    """The rivals that the race compared with its answer, and that aren't surely faster."""
    own = [pair.estimate for pair in pairs if pair.estimate.rival == raced.rival]
    if not own or own[0].verdict != "faster":
        return ()
    return tuple(
        pair.estimate.rival
        for pair in pairs
        if pair.estimate.rival != raced.rival
        and pair.estimate.high >= own[0].low
        and any(fact.curve_id == raced.curve_id for fact in pair.counted)
    )


def _combine_pairs(facts: Sequence[Fact]) -> tuple[PairFacts, ...]:
    by_rival: dict[Dims, list[Fact]] = {}
    for fact in facts:
        by_rival.setdefault(fact.pair.rival, []).append(fact)
    return tuple(map(PairFacts.of, by_rival.values()))


class KnownFacts:
    """The facts about points that questions have asked for.

    New facts come with new races: tell it of each. Belongs to one event loop, and calls the store
    only from threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at: LoadingCache[FactsKey, PointFacts] = LoadingCache(
            self._read, max_size=MAX_FACTS, size_of=lambda known: len(known.facts) + 1
        )

    def _read(self, key: FactsKey) -> PointFacts:
        # The generation is read first. What is read after it can only be newer.
        as_of = self._store.generation()
        return PointFacts(self._store.find_facts(*key, limit=MAX_FACTS_PER_POINT), as_of=as_of)

    async def get(self, key: FactsKey) -> PointFacts:
        """The facts about that point. Raises StoreError if they must be read and can't be."""
        return await self._at.get(key)

    async def renew(self, header: CurveHeader) -> None:
        """Reads the facts about the point of a new race again, if they are in memory."""
        key = _find_key(header)
        if key is not None and key in self._at:
            latest = await asyncio.to_thread(self._read, key)
            self._at.change(key, lambda _: latest)

    def forget_older(self, headers: Sequence[CurveHeader]) -> None:
        """Forgets the facts about the points of these new races, unless they were read since."""
        for header in headers:
            if (key := _find_key(header)) is not None:
                self._at.forget_if(key, partial(_is_older, generation=header.generation))

    def clear(self) -> None:
        """Forgets everything."""
        self._at.clear()


def _is_older(known: PointFacts, *, generation: int) -> bool:
    return known.as_of < generation


def _find_key(header: CurveHeader) -> FactsKey | None:
    """The point that a race's facts are about; None for a curve that isn't of a race."""
    if not MODES[header.mode].is_race:
        return None
    return FactsKey(
        header.workload.key, header.platform_key, header.protocol_key, header.grid.first
    )
