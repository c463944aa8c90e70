"""The kinds `linear_kernels`, `hlstm_kernels`, `hlstm_lm_kernels`: one thing by every kernel.

Pure. Their one axis numbers kernels, so that grids, samples and curves hold them like dimensions:
first the dense ones, then the sparse one at 99 %, 98 % … down to 0 % zeros, which makes latency
and memory grow with the number, as they do with a dimension. Knows nothing of measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from profiler_service.errors import InvalidDimsError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds.networks import HLSTM, HLSTM_LM
from profiler_service.kinds.products import BACKEND, LINEAR, MATMUL, SPARSITY
from profiler_service.workload import Dims, Parameter, ParamValue, Workload, WorkloadKind

DENSE_BACKENDS: Final = ("dense", "packed", "compiled")
"""Backends that multiply every weight: kernels number 1, 2 and 3."""
MAX_PERCENT: Final = 99
NUM_KERNELS: Final = len(DENSE_BACKENDS) + MAX_PERCENT + 1

DENSE_KERNELS: Final = Grid(axes=(GridAxis(start=1, count=2),))
"""The dense kernels that need no compiler: which is the fastest? Compiling takes seconds, which
nobody who asks for dims should wait for."""
ALL_KERNELS: Final = Grid(axes=(GridAxis(start=1, count=NUM_KERNELS),))
"""And the sparse one at every whole percentage: from where on does it beat them?"""


def csr_kernel(percent: int) -> int:
    """The number of the sparse kernel at `percent` % zeros."""
    return NUM_KERNELS - percent


def kernel_params(kernel: int) -> dict[str, ParamValue]:
    """The parameters `backend` and `sparsity` of `linear` that kernel number `kernel` stands for.

    Raises InvalidDimsError where there is none of that number.
    """
    if not 1 <= kernel <= NUM_KERNELS:
        raise InvalidDimsError(
            f"there is no kernel {kernel}", hint=f"kernels are numbered from 1 to {NUM_KERNELS}"
        )
    if kernel <= len(DENSE_BACKENDS):
        return {"backend": DENSE_BACKENDS[kernel - 1]}
    return {"backend": "csr", "sparsity": SPARSITY.parse(f"{(NUM_KERNELS - kernel) / 100:.2f}")}


def kernel_workload(dims: Dims, *, batch: ParamValue, dtype: ParamValue) -> Workload:
    """The kernels of the product `linear` at `dims` (out_features, in_features)."""
    out_features, in_features = dims
    return LINEAR_KERNELS.describe(
        {"out_features": out_features, "in_features": in_features, "batch": batch, "dtype": dtype}
    )


def find_kernels(workload: Workload, dims: Dims) -> Workload | None:
    """The kernels of a workload at `dims`; None where it has one only, or is sparse."""
    params = dict(workload.params)
    if params.get("backend") not in DENSE_BACKENDS:
        return None
    if workload.kind in (LINEAR.name, MATMUL.name):
        return kernel_workload((dims[0], dims[-1]), batch=params["batch"], dtype=params["dtype"])
    kernels = _KERNELS_OF_NETWORKS.get(workload.kind)
    if kernels is None:
        return None
    del params["backend"]
    return kernels.describe({**params, **dict(zip(workload.axes, dims, strict=True))})


def unfold(
    kind: WorkloadKind, dims: Dims, params: Mapping[str, ParamValue]
) -> tuple[Dims, dict[str, ParamValue]]:
    """The dims and parameters of `kind` that a point of its kernels stands for.

    `dims` is (kernel,), and `params` are those of the kernels' kind. Raises InvalidDimsError
    where there is no such kernel.
    """
    return tuple(int(params[axis]) for axis in kind.axes), {**params, **kernel_params(dims[0])}


def _kernels_of(kind: WorkloadKind, *, builder: str, dims: Dims, description: str) -> WorkloadKind:
    """The kind `KIND_kernels`: its dims are parameters, by default `dims`."""
    return WorkloadKind(
        name=f"{kind.name}_kernels",
        axes=("kernel",),
        parameters=(
            *(
                Parameter(name=axis, default=dim, description=f"{axis} of `{kind.name}`.")
                for axis, dim in zip(kind.axes, dims, strict=True)
            ),
            *(each for each in kind.parameters if each.name not in (BACKEND.name, SPARSITY.name)),
        ),
        builder=builder,
        operand_bytes=lambda dims, params: kind.operand_bytes(*unfold(kind, dims, params)),
        flops=lambda dims, params: kind.flops(*unfold(kind, dims, params)),
        description=description,
    )


LINEAR_KERNELS = _kernels_of(
    LINEAR,
    builder="profiler_service.measurement.operations:build_kernel",
    dims=(1024, 1024),
    description=(
        "`linear` at fixed dims by every kernel: 1 dense, 2 packed, 3 compiled, then csr from"
        " 99 % zeros (4) down to 0 % (103). What `/crossover` measures."
    ),
)
HLSTM_KERNELS = _kernels_of(
    HLSTM,
    builder="profiler_service.measurement.networks:build_hlstm_kernel",
    dims=(1197, 317),
    description="`hlstm` at fixed dims by every kernel, as `linear_kernels`; none is compiled.",
)
HLSTM_LM_KERNELS = _kernels_of(
    HLSTM_LM,
    builder="profiler_service.measurement.networks:build_hlstm_lm_kernel",
    dims=(1197, 317),
    description="`hlstm_lm` at fixed dims by every kernel, as `linear_kernels`; none is compiled.",
)
KERNEL_KINDS: Final = (LINEAR_KERNELS, HLSTM_KERNELS, HLSTM_LM_KERNELS)
_KERNELS_OF_NETWORKS: Final = {HLSTM.name: HLSTM_KERNELS, HLSTM_LM.name: HLSTM_LM_KERNELS}
