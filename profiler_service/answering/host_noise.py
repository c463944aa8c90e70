"""How noisy a host was in each of its races: what `lhp doctor` measures, from facts. Pure.

The doctor looks at one product for some seconds, when somebody runs it, and keeps nothing. Each
fact says what noise its pairs had, so that nothing more need be measured or kept.
"""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from profiler_service.analysis.resolution import QUIET_EFFECT, find_resolvable_effect
from profiler_service.storage.store import Fact


@dataclass(frozen=True, kw_only=True)
class NoiseLevel:
    """The noise that one race met."""

    curve_id: str
    """Of the race."""
    measured_at: dt.datetime
    platform_key: str
    protocol_key: str
    effect: float
    """Smallest relative difference that 400 pairs resolve: the median over the race's facts."""

    @property
    def is_quiet(self) -> bool:
        """Whether differences of half a percent could be told from noise."""
        return self.effect <= QUIET_EFFECT


def list_levels(facts: Iterable[Fact]) -> list[NoiseLevel]:
    """The level of each race that these facts are of, the oldest first.

    Left out are facts of versions that didn't note their noise.
    """
    by_race: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.pair.noise is not None:
            by_race.setdefault(fact.curve_id, []).append(fact)
    levels = [
        NoiseLevel(
            curve_id=curve_id,
            measured_at=its[0].measured_at,
            platform_key=its[0].platform_key,
            protocol_key=its[0].protocol_key,
            effect=statistics.median(map(_find_effect, its)),
        )
        for curve_id, its in by_race.items()
    ]
    return sorted(levels, key=lambda level: (level.measured_at, level.curve_id))


def find_newest(facts: Iterable[Fact]) -> dict[tuple[str, str, str], NoiseLevel]:
    """The newest level of each host: by its name, platform's key and protocol's key then."""
    found: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in facts:
        found.setdefault((fact.host, fact.platform_key, fact.protocol_key), []).append(fact)
    levels = {key: list_levels(its) for key, its in found.items()}
    return {key: its[-1] for key, its in levels.items() if its}


def _find_effect(fact: Fact) -> float:
    assert fact.pair.noise is not None
    return find_resolvable_effect(fact.pair.noise, num_pairs=fact.pair.num_pairs)
