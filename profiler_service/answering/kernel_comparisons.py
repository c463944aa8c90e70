"""Finds the fastest kernel of a product, layer or network in the stored comparisons.

Knows neither questions nor how kernels are compared. Belongs to one event loop, and calls the
store only from threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cachetools import LRUCache

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.cache import LoadingCache
from profiler_service.answering.curves import Conditions, KnownCurves
from profiler_service.kinds import get_workload_kind
from profiler_service.kinds.backends import find_host_backends
from profiler_service.kinds.kernels import DENSE_KERNELS, KERNEL_KINDS, Kernel
from profiler_service.kinds.products import BACKEND
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import CurveHeader, Host, Store
from profiler_service.wire import FasterBackend
from profiler_service.workload import Workload

MAX_COMPARISONS = 16_384
"""Number of comparisons kept in memory: about 300 bytes each."""


Key = tuple[str, str, str | None]
"""Keys of a workload, a platform and a protocol."""
Newest = LRUCache[Key, str]
"""The id of the newest comparison."""


class KernelComparisons:
    """The newest comparison of each workload's kernels.

    All of them are read from the store at once, so that a question about a workload whose kernels
    were never compared needs no read of its own.
    """

    def __init__(self, store: Store, curves: KnownCurves) -> None:
        self._store = store
        self._curves = curves
        self._newest: LoadingCache[None, Newest] = LoadingCache(self._read, max_size=1)
        self.open: frozenset[Key] = frozenset()
        """The comparisons that wait or are under way, as `find_open` found them."""

    def _read(self, _key: None) -> Newest:
        kinds = [kind.name for kind in KERNEL_KINDS]
        headers = self._store.find_curves_of_kinds(
            kinds, mode="kernels", after_generation=-1, limit=MAX_COMPARISONS
        )
        return _add(LRUCache(MAX_COMPARISONS), reversed(headers))

    def add(self, headers: Iterable[CurveHeader]) -> None:
        """Takes the comparisons among new curves, in the order in which they were kept.

        Curve ids don't tell that order: they depend on each host's own clock.
        """
        names = {kind.name for kind in KERNEL_KINDS}
        compared = [h for h in headers if h.mode == "kernels" and h.workload.kind in names]
        if compared:
            self._newest.change(None, lambda newest: _add(newest, compared))

    async def find_open(self) -> frozenset[Key]:
        """The comparisons that wait or are under way. Raises StoreUnavailableError."""
        kinds = [kind.name for kind in KERNEL_KINDS]
        found = await asyncio.to_thread(self._store.find_unfinished_of_kinds, kinds)
        return frozenset(
            (workload.key, platform_key, protocol_key)
            for workload, platform_key, protocol_key in found
        )

    def is_open(self, kernels: Workload, conditions: Conditions) -> bool:
        """Whether a comparison of these kernels waits or is under way."""
        key = (kernels.key, conditions.platform_key, conditions.protocol_key)
        return key in self.open

    async def find_faster_backend(
        self, kernels: Workload, asked: Workload, conditions: Conditions
    ) -> FasterBackend | None:
        """The fastest of the kernels; None if that is the one asked about, or isn't known."""
        if conditions.protocol_key is None:
            return None
        newest = await self._newest.get(None)
        curve_id = newest.get((kernels.key, conditions.platform_key, conditions.protocol_key))
        if curve_id is None:
            return None
        backend = str(dict(asked.params).get(BACKEND.name, BACKEND.default))
        return _faster_backend(await self._curves.load_curve(curve_id), backend, curve_id)


def plan_comparison(kernels: Workload, asked: Workload, host: Host) -> SweepSpec | None:
    """The sweep that compares the dense kernels of the workload asked about, without a compiler.

    None if the host has at most one of them.
    """
    names = find_host_backends(get_workload_kind(asked.kind))
    compared = [Kernel.from_point(point).backend for point in range(DENSE_KERNELS.size)]
    dtype = asked.param("dtype")
    if sum(dtype in host.backends.get(names[backend], ()) for backend in compared) < 2:
        return None
    return SweepSpec(workload=kernels, mode="kernels", grid=DENSE_KERNELS)


def _add(newest: Newest, headers: Iterable[CurveHeader]) -> Newest:
    for header in headers:
        newest[header.workload.key, header.platform_key, header.protocol_key] = header.id
    return newest


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
    if low == 0:  # earlier versions kept intervals without a lower end
        return None
    return FasterBackend(
        backend=Kernel.from_point(best).dense_backend,
        speedup=1 / ratio,
        speedup_interval=(1 / high, 1 / low),
        curve=curve_id,
    )
