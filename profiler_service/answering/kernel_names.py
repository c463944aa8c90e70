"""The names of kernels at points of curves that questions have asked for, in memory.

Knows neither questions nor how kernels are found.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from profiler_service.analysis.kernel_names import KernelNames, explain
from profiler_service.answering.cache import LoadingCache
from profiler_service.errors import StoreError
from profiler_service.storage.store import Store
from profiler_service.wire import KernelAt, LhpAnswer
from profiler_service.workload import Dims

MAX_CURVES: Final = 2000
"""The names of so many curves are kept in memory: about 10 KiB each."""
MAX_AWAITED: Final = 64
"""So many of the curves that were needed last are looked for again, if they had no names yet."""
PATIENCE_S: Final = 0.25
"""An answer waits no longer for names; they are there at a later one."""

_Why = tuple[tuple[KernelAt, ...], str]


class CurveKernels:
    """The names of one curve's kernels; None if none were kept yet."""

    def __init__(self, names: KernelNames | None) -> None:
        self.names = names
        self._explained: dict[tuple[Dims, Dims, tuple[str, ...]], _Why] = {}

    def explain(self, dims: Dims, lhp: Dims, axes: Sequence[str]) -> _Why:
        """The kernels at these points, as far as they are known, and a sentence about them."""
        names = self.names or {}
        key = dims, lhp, tuple(axes)
        if key not in self._explained:
            kernels = tuple(
                KernelAt(dims=list(each), kernel=names[each])
                for each in dict.fromkeys((dims, lhp))
                if each in names
            )
            self._explained[key] = kernels, explain(names, dims=dims, lhp=lhp, axes=axes)
        return self._explained[key]


class KnownKernels:
    """The kernels of curves that questions have asked for.

    Names are kept soon after their curve, so a curve without any is looked for again. Belongs to
    one event loop, and calls the store only from threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of: LoadingCache[str, CurveKernels] = LoadingCache(self._read, max_size=MAX_CURVES)
        self._awaited: OrderedDict[str, None] = OrderedDict()

    def _read(self, curve_id: str) -> CurveKernels:
        return CurveKernels(self._store.find_kernel_names([curve_id]).get(curve_id))

    async def complete(self, answer: LhpAnswer, axes: Sequence[str]) -> LhpAnswer:
        """The answer with the kernels at its points, if they are known.

        Waits for the store for PATIENCE_S at most, and not at all if they are in memory.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                known = await self._get(answer.curve)
        except (TimeoutError, StoreError):
            return answer
        kernels, why = known.explain(tuple(answer.dims), tuple(answer.lhp), axes)
        if not kernels:
            return answer
        return answer.model_copy(update={"kernels": list(kernels), "why": why})

    async def _get(self, curve_id: str) -> CurveKernels:
        known = await self._of.get(curve_id)
        if known.names is None:
            self._awaited[curve_id] = None
            self._awaited.move_to_end(curve_id)
            while len(self._awaited) > MAX_AWAITED:
                self._awaited.popitem(last=False)
        return known

    async def load_ahead(self, curve_id: str) -> None:
        """Reads the names of a curve that may answer from now on. Raises StoreError."""
        await self._get(curve_id)

    async def renew(self) -> None:
        """Reads the names of curves that had none when they were asked for. Raises StoreError."""
        if not self._awaited:
            return
        found = await asyncio.to_thread(self._store.find_kernel_names, list(self._awaited))
        for curve_id, names in found.items():
            self._of.change(curve_id, partial(_replace, latest=CurveKernels(names)))
            self._awaited.pop(curve_id, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()
        self._awaited.clear()


def _replace(_: CurveKernels, *, latest: CurveKernels) -> CurveKernels:
    return latest
