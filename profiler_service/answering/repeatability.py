"""Reads how well a host's facts repeat: for its next races, and for lists of facts.

Knows neither HTTP nor how a race uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.repeatability import average_between_arenas, estimate_tau
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
    """τ for races of that kind; None if no pair was confirmed by two workers."""
    found = read_repeatability(store, kind, platform_key, protocol_key)
    return found.tau if found.num_repeats else None


def read_repeatability(
    store: Store, kind: str, platform_key: str, protocol_key: str
) -> Repeatability:
    """What the facts of that kind show."""
    repeats = [
        (earlier.confirmation, later.confirmation)
        for earlier, later in store.find_repeats(
            kind, platform_key, protocol_key, limit=MAX_REPEATS
        )
    ]
    newest = store.list_facts(
        FactFilter(kind=kind, platform_key=platform_key), limit=MAX_REPEATS
    ).items
    between_arenas = average_between_arenas(
        [fact.pair for fact in newest if fact.protocol_key == protocol_key]
    )
    return Repeatability(
        tau=estimate_tau(repeats, between_arenas=between_arenas),
        num_repeats=len(repeats),
        tau_between_arenas=between_arenas,
    )
