"""Finds the fastest kernel of a product or network in the stored comparisons.

Knows neither questions nor how kernels are compared. Belongs to one event loop, and calls the
store only from threads.
"""

from __future__ import annotations

import asyncio

from cachetools import LRUCache

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.curves import Conditions, IndexKey, KnownCurves
from profiler_service.kinds.kernels import KERNEL_KINDS, Kernel
from profiler_service.storage.store import Store
from profiler_service.wire import FasterBackend
from profiler_service.workload import Workload

MAX_COMPARISONS = 16_384
"""Number of comparisons kept in memory: about 300 bytes each."""


class KernelComparisons:
    """The newest comparison of each workload's kernels.

    All new ones are read from the store at once, so that a question about a workload whose
    kernels were never compared needs no read of its own.
    """

    def __init__(self, store: Store, curves: KnownCurves) -> None:
        self._store = store
        self._curves = curves
        self._newest: LRUCache[IndexKey, str] = LRUCache(MAX_COMPARISONS)
        self._generation = -1
        self._updating = asyncio.Lock()

    async def find_faster_backend(
        self, kernels: Workload, backend: str, conditions: Conditions
    ) -> FasterBackend | None:
        """The fastest of the kernels; None if that is `backend`, or isn't known."""
        if conditions.protocol_key is None:
            return None
        await self._update(self._curves.snapshot.generation)
        key = (kernels.key, conditions.platform_key, conditions.protocol_key)
        curve_id = self._newest.get(key)
        if curve_id is None:
            return None
        return _faster_backend(await self._curves.load_curve(curve_id), backend, curve_id)

    async def _update(self, generation: int) -> None:
        """Reads the comparisons that were kept up to the generation and aren't known yet."""
        async with self._updating:
            if self._generation >= generation:
                return
            kept_since = await asyncio.to_thread(
                lambda: self._store.find_curves_of_kinds(
                    [kind.name for kind in KERNEL_KINDS],
                    mode="kernels",
                    after_generation=self._generation,
                    limit=MAX_COMPARISONS,
                )
            )
            # In the order in which they were stored: curve ids depend on each host's own clock.
            for header in reversed(kept_since):
                key = (header.workload.key, header.platform_key, header.protocol_key)
                self._newest[key] = header.id
            self._generation = generation


def _faster_backend(curve: LatencyCurve, backend: str, curve_id: str) -> FasterBackend | None:
    """The kernel that is faster than `backend` in a comparison; None if no kernel is."""
    point = Kernel(backend).point
    if point >= curve.grid.size:
        return None
    best = int(curve.answers.target[point])
    if best in (-1, point):
        return None
    ratio, low, high = (
        float(values[point])
        for values in (curve.answers.ratio, curve.answers.ratio_low, curve.answers.ratio_high)
    )
    return FasterBackend(
        backend=Kernel.from_point(best).dense_backend,
        speedup=1 / ratio,
        speedup_interval=(1 / high, 1 / low),
        curve=curve_id,
    )
