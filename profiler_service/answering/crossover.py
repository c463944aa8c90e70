"""Crossovers, read from the samples of sweeps that compared all kernels; kept once computed.

Knows neither HTTP nor how the sweeps come about.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import numpy as np

from profiler_service.analysis.crossover import Crossover, KernelRounds, find_crossover
from profiler_service.kinds.kernels import MAX_PERCENT, Kernel
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import CurveHeader, Store
from profiler_service.wire import CrossoverAnswer, KernelCrossover, SparsePoint

MAX_KEPT = 1024


class CrossoverBook:
    """Answers about crossovers. Belongs to one event loop; calls the store from threads only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, CrossoverAnswer | None] = OrderedDict()

    async def find(self, header: CurveHeader, *, stale: bool) -> CrossoverAnswer | None:
        """The answer that the curve's samples give.

        None where they give none: the sparse kernel failed, or the sweep was cancelled.
        """
        if header.id not in self._kept:
            self._kept[header.id] = await asyncio.to_thread(self._compute, header)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        answer = self._kept.get(header.id)
        return None if answer is None else answer.model_copy(update={"stale": stale})

    def _compute(self, header: CurveHeader) -> CrossoverAnswer | None:
        if self._store.get_sweep(header.sweep_id).state is not SweepState.DONE:
            return None
        batches = self._store.load_batches(header.sweep_id)
        curve = self._store.load_curve(header.id)
        # Those that calibrate come first, and visit one kernel only.
        met = [batch for batch in batches if len(np.unique(batch.point)) > 1]
        rounds = KernelRounds(met, header.grid.size)
        rounds.forget(curve.failures)
        found = rounds.find_best_dense()
        crossovers = {
            point: crossover
            for point in rounds.dense_points()
            if (crossover := find_crossover(rounds.compare_sparse(point))) is not None
        }
        if found is None or found[0] not in crossovers:
            return None
        best, compared = found
        kernels = [
            KernelCrossover(
                backend=Kernel.from_point(point).dense_backend,
                latency_s=float(curve.latency_s[point]),
                sparsity=_share(crossover.percent),
                sparsity_interval=_shares(crossover),
            )
            for point, crossover in crossovers.items()
        ]
        params = dict(header.workload.params)
        return CrossoverAnswer(
            dims=[int(params["out_features"]), int(params["in_features"])],
            batch=int(params["batch"]),
            dtype=str(params["dtype"]),
            best=Kernel.from_point(best).dense_backend,
            sparsity=_share(crossovers[best].percent),
            sparsity_interval=_shares(crossovers[best]),
            kernels=kernels,
            sparse=[
                SparsePoint(
                    sparsity=Kernel.from_point(point).sparsity,
                    latency_s=float(curve.latency_s[point]),
                    ratio=comparison.ratio,
                    ratio_interval=(
                        comparison.low,
                        comparison.high if np.isfinite(comparison.high) else None,
                    ),
                )
                for point, comparison in sorted(compared.items(), reverse=True)
                if not Kernel.from_point(point).is_dense
            ],
            failures={
                str(Kernel.from_point(point)): reason for point, reason in curve.failures.items()
            },
            platform=header.platform_key,
            host=header.host,
            curve=header.id,
            measured_at=header.measured_at,
            num_samples=int(curve.num_samples.sum()),
            stale=False,
        )


def _share(percent: int | None) -> float | None:
    return None if percent is None or percent > MAX_PERCENT else percent / 100


def _shares(crossover: Crossover) -> tuple[float | None, float | None]:
    return _share(crossover.low), _share(crossover.high)
