"""Everything that questions read their answers from."""

from __future__ import annotations

import functools
import time

from profiler_service.answering.cache import LoadingCache
from profiler_service.answering.crossover import read_crossover
from profiler_service.answering.curves import HeadersKey, KnownCurves
from profiler_service.answering.facts import KnownFacts
from profiler_service.answering.kernel_comparisons import KernelComparisons
from profiler_service.answering.kernel_names import KnownKernels
from profiler_service.kinds.kernels import ALL_KERNELS
from profiler_service.storage.store import CurveHeader, Store

MAX_CROSSOVERS = 1024


class Known:
    """Stored curves, facts, names of kernels, the newest comparisons of kernels, and crossovers."""

    def __init__(self, store: Store, *, max_cached_points: int | None = None) -> None:
        self.kernels = KnownKernels(store)
        self.curves = KnownCurves(
            store,
            load_more=self._load_more,
            before_snapshot=self.kernels.renew,
            max_cached_points=max_cached_points,
        )
        self.facts = KnownFacts(store)
        self.comparisons = KernelComparisons(store, self.curves)
        self.crossovers = LoadingCache(
            functools.partial(read_crossover, store), max_size=MAX_CROSSOVERS
        )
        self._read_s = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the database was last read, at least: newer curves may not be known."""
        return time.monotonic() - self._read_s

    async def _load_more(self, header: CurveHeader) -> None:
        """Reads a new race's facts and kernels, and computes a new curve's crossover, if asked."""
        await self.facts.renew(header)
        await self.kernels.load_ahead(header.id)
        if header.grid == ALL_KERNELS and HeadersKey.of(header) in self.curves:
            await self.crossovers.get(header.id)

    async def refresh(self) -> None:
        """Returns when everything is at least as new as the store was at the time of the call.

        Raises StoreUnavailableError; everything then stays as it was.
        """
        begun_s = time.monotonic()
        # Read first and taken last: a comparison that ends meanwhile is taken for open, and never
        # for one that is neither open nor known.
        found = await self.comparisons.find_open()
        before = self.curves.snapshot.generation
        new = await self.curves.refresh()
        if self.curves.snapshot.generation < before:
            self.facts.clear()  # the database holds an earlier state
            self.kernels.clear()
        self.facts.forget_older(new)
        self.comparisons.add(new)
        self.comparisons.open = found
        self._read_s = begun_s
