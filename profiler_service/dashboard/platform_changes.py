"""Changes of a host's platform: between two measurements, and what the last one changed."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Platform
from profiler_service.dashboard.sentences import describe_gain
from profiler_service.plots.history import PlatformChange
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Dims

OUTCOMES = {
    "agrees": ("the same", "faster"),
    "changed": ("changed", "slower"),
    "unclear": ("can't be told", "undecided"),
    "failed": ("not measured", ""),
    None: ("waits", ""),
}
"""Word and colour for each outcome of a fact that is measured again."""


@dataclass(frozen=True, kw_only=True)
class ReplayedRow:
    """A fact of the platform before, beside what it is now."""

    workload: str
    dims: Dims
    rival: Dims
    before: str
    """What the rival was, compared with the queried point."""
    after: str
    """What it is; empty if that isn't known."""
    outcome: str
    tone: str
    reason: str
    """Why it couldn't be measured; empty otherwise."""


async def list_replayed(host: Host, store: Store) -> list[ReplayedRow]:
    """The facts that are measured again since the host came to its platform. Raises StoreError."""
    change = (await asyncio.to_thread(store.find_platform_changes, [host.name])).get(host.name)
    if change is None or change.new_platform_key != host.platform_key:
        return []
    rows = []
    for each in await asyncio.to_thread(store.list_replayed, change.id):
        word, tone = OUTCOMES[each.outcome]
        pair = each.before.pair
        rows.append(
            ReplayedRow(
                workload=each.before.workload.key,
                dims=pair.dims,
                rival=pair.rival,
                before=_describe_pair(pair),
                after="" if each.after is None else _describe_pair(each.after.pair),
                outcome=word,
                tone=tone,
                reason=each.reason,
            )
        )
    return rows


def _describe_pair(pair: ConfirmedPair) -> str:
    """`4.3 % faster`, `1.2 % slower`, or that they weren't told apart."""
    if pair.verdict == "ambiguous":
        return "not told apart"
    if pair.verdict == "faster":
        return describe_gain(1 / pair.ratio)
    return f"{100 * (pair.ratio - 1):.1f} % slower"


class Dated(Protocol):
    """What was measured at a time, on a platform, by a protocol: a fact, or a curve."""

    @property
    def measured_at(self) -> dt.datetime:
        """When."""

    @property
    def platform_key(self) -> str:
        """Where."""

    @property
    def protocol_key(self) -> str:
        """How it was timed."""


async def find_changes(measured: Sequence[Dated], store: Store) -> list[PlatformChange]:
    """Each change of the platform, or of the way of timing. `measured` come oldest first.

    Raises StoreError.
    """
    changed = [
        (before, after)
        for before, after in pairwise(measured)
        if (before.platform_key, before.protocol_key) != (after.platform_key, after.protocol_key)
    ]
    if not changed:
        return []
    platforms = {each.key: each for each in await asyncio.to_thread(store.list_platforms)}
    return [
        PlatformChange(time=after.measured_at, what=_describe(before, after, platforms))
        for before, after in changed
    ]


def _describe(before: Dated, after: Dated, platforms: Mapping[str, Platform]) -> str:
    """`framework: torch 2.13.0 → torch 2.14.0`; `; ` is between several changes."""
    earlier, later = (platforms[each.platform_key] for each in (before, after))
    told = list(earlier.describe_change(later))
    if before.protocol_key != after.protocol_key:
        told.append(f"timing: {before.protocol_key} → {after.protocol_key}")
    return "; ".join(told)
