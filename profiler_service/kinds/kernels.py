"""The kind `linear_kernels`: one product by every kernel, side by side.

Pure. Its one axis numbers kernels, so that grids, samples and curves hold them like dimensions:
first the dense ones, then the sparse one at 99 %, 98 % … down to 0 % zeros, which makes latency
and memory grow with the number, as they do with a dimension. Knows nothing of measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from profiler_service.errors import InvalidDimsError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds.products import (
    BATCH,
    DTYPE,
    SPARSITY,
    product_bytes,
    product_flops,
)
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


def _kernel_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    rows, columns = int(params["out_features"]), int(params["in_features"])
    return product_bytes(rows, columns, {**params, **kernel_params(dims[0])})


def _kernel_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    rows, columns = int(params["out_features"]), int(params["in_features"])
    return product_flops(rows, columns, {**params, **kernel_params(dims[0])})


LINEAR_KERNELS = WorkloadKind(
    name="linear_kernels",
    axes=("kernel",),
    parameters=(
        Parameter(name="out_features", default=1024, description="Rows of the weight."),
        Parameter(name="in_features", default=1024, description="Columns of the weight."),
        BATCH,
        DTYPE,
    ),
    builder="profiler_service.measurement.operations:build_kernel",
    operand_bytes=_kernel_bytes,
    flops=_kernel_flops,
    description=(
        "`linear` at fixed dims by every kernel: 1 dense, 2 packed, 3 compiled, then csr from"
        " 99 % zeros (4) down to 0 % (103). What `/crossover` measures."
    ),
)
