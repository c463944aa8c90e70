"""Reads how well a host's facts repeat: for its next races, and for lists of facts.

Knows neither HTTP nor how a race uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.repeatability import Repeat, average_between_arenas, estimate_tau
from profiler_service.storage.store import FactFilter, Store

MAX_REPEATS: Final = 500
"""Number of the newest repeated pairs that count, and of the newest facts for their arenas."""


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """How much ratios of one pair differ between processes: standard deviations of logarithms."""

    tau: float
    """From repeated pairs and the prior."""
    num_repeats: int
    tau_between_arenas: float | None
    """Within confirmations; None if none had several arenas."""


def read_tau(store: Store, kind: str, platform_key: str, protocol_key: str) -> float | None:
    """τ for races of that kind; None if no pair was confirmed twice."""
    repeats = _read_repeats(store, kind, platform_key, protocol_key)
    return estimate_tau(repeats) if repeats else None


def read_repeatability(
    store: Store, kind: str, platform_key: str, protocol_key: str
) -> Repeatability:
    """What the facts of that kind show."""
    repeats = _read_repeats(store, kind, platform_key, protocol_key)
    newest = store.list_facts(
        FactFilter(kind=kind, platform_key=platform_key), limit=MAX_REPEATS
    ).items
    return Repeatability(
        tau=estimate_tau(repeats),
        num_repeats=len(repeats),
        tau_between_arenas=average_between_arenas(
            [fact.pair for fact in newest if fact.protocol_key == protocol_key]
        ),
    )


def _read_repeats(store: Store, kind: str, platform_key: str, protocol_key: str) -> list[Repeat]:
    found = store.find_repeats(kind, platform_key, protocol_key, limit=MAX_REPEATS)
    return [
        Repeat(
            earlier=earlier.pair,
            later=later.pair,
            earlier_tau=earlier.tau,
            later_tau=later.tau,
        )
        for earlier, later in found
    ]
