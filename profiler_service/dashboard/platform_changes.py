"""What changed between two measurements of a host, for the pages that show them over time."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from profiler_service.analysis.samples import Platform
from profiler_service.plots.history import PlatformChange
from profiler_service.storage.store import Store


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
