"""The question of `GET /crossover`: from which sparsity on is a sparse product faster?

Knows neither HTTP nor how a sweep is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler_service.analysis.crossover import Crossover, KernelRounds, find_crossover
from profiler_service.answering.caveats import find_caveats, is_noisy
from profiler_service.answering.curves import Conditions
from profiler_service.errors import UnsupportedOnHostError
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, MAX_PERCENT, Kernel, kernel_workload
from profiler_service.kinds.products import has_bias
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.window import WindowLimits
from profiler_service.storage.store import Host, Store
from profiler_service.wire import CrossoverAnswer, KernelCrossover, SparsePoint
from profiler_service.workload import Dims, Workload, parse_dims

if TYPE_CHECKING:
    from profiler_service.answering.known import Known


@dataclass(frozen=True, kw_only=True)
class CrossoverQuestion:
    """From which sparsity on does the sparse kernel beat the dense ones? Parsed and checked."""

    dims: Dims
    dtype: str
    kernels: Workload
    """The kernels of the layer: one axis, which numbers them."""

    @classmethod
    def parse(
        cls,
        *,
        dims: str,
        batch: str,
        dtype: str,
        bias: str = "no",
        limits: WindowLimits | None = None,
    ) -> CrossoverQuestion:
        """The question, read from texts. Raises InvalidDimsError, InvalidWorkloadError."""
        linear = LINEAR.describe({"batch": batch, "dtype": dtype, "bias": bias})
        checked = linear.check_dims(parse_dims(dims))
        (limits or WindowLimits()).check_dims(linear, checked)
        return cls(
            dims=checked,
            dtype=str(linear.param("dtype")),
            kernels=kernel_workload(
                checked, batch=linear.param("batch"), dtype=linear.param("dtype"), bias=bias
            ),
        )

    @property
    def meaning(self) -> CrossoverQuestion:
        """Itself."""
        return self

    @property
    def sweep(self) -> SweepSpec:
        """The comparison of all kernels."""
        return SweepSpec(workload=self.kernels, mode="kernels", grid=ALL_KERNELS)

    @property
    def wanted(self) -> str:
        """The layer, for messages."""
        return f"the kernels at {','.join(map(str, self.dims))}"

    def find_companion(self, host: Host) -> SweepSpec | None:
        """None: the sweep itself compares all kernels."""
        return None

    def check_host(self, host: Host) -> None:
        """Returns if the host has the sparse product. Raises UnsupportedOnHostError."""
        if self.dtype not in host.backends.get("csr", ()):
            raise UnsupportedOnHostError(
                f"host {host.name!r} has no sparse product of {self.dtype}",
                hint="choose another dtype, or another host",
                see="/hosts",
            )

    async def find(
        self, known: Known, conditions: Conditions, *, measured: str | None = None
    ) -> CrossoverAnswer | None:
        """The answer from the newest comparison, or None. Raises StoreError."""
        snapshot = known.curves.snapshot
        for header in await known.curves.find_covering(
            self.kernels, ALL_KERNELS, "kernels", conditions
        ):
            answer = await known.crossovers.get(header.id)
            if answer is None:
                return None
            return answer.model_copy(
                update={
                    "stale": snapshot.is_stale(header),
                    "stale_because": snapshot.describe_changes(header),
                }
            )
        return None


def read_crossover(store: Store, curve_id: str) -> CrossoverAnswer | None:
    """The answer from the curve's samples, not marked stale. Raises StoreError.

    None if they give no answer: the sparse kernel failed, or the sweep was cancelled.
    """
    header = store.get_curve_header(curve_id)
    if store.get_sweep(header.sweep_id).state is not SweepState.DONE:
        return None
    batches = store.load_batches(header.sweep_id)
    curve = store.load_curve(header.id)
    # The first batches calibrate: they visit only one kernel.
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
        bias="yes" if has_bias(params) else "no",
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
        disturbed=bool(header.evidence.disturbed),
        noisy=is_noisy(header.evidence),
        caveats=find_caveats(header.evidence, host=header.host, mode=header.mode),
        stale=False,
    )


def _share(percent: int | None) -> float | None:
    return None if percent is None or percent > MAX_PERCENT else percent / 100


def _shares(crossover: Crossover) -> tuple[float | None, float | None]:
    return _share(crossover.low), _share(crossover.high)
