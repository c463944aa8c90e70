"""Matrix products: the kinds `linear` and `matmul`, and the parameters that kinds share.

Pure. Knows nothing of how a product is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.workload import (
    DTYPE_SIZES_BYTES,
    Parameter,
    ParamValue,
    WorkloadKind,
)

BATCH = Parameter(name="batch", default=16, description="Rows of the input (the batch size).")
DTYPE = Parameter(
    name="dtype",
    default="float32",
    choices=tuple(DTYPE_SIZES_BYTES),
    description="Element type of weight, input and result.",
)
BACKEND = Parameter(
    name="backend",
    default="dense",
    choices=("dense",),
    description="Which kernel runs: `dense` is torch's own choice for a dense product.",
)


def _product_bytes(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    batch, size_bytes = int(params["batch"]), DTYPE_SIZES_BYTES[str(params["dtype"])]
    return size_bytes * (rows * columns + batch * columns + batch * rows)


def _product_flops(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    return 2 * int(params["batch"]) * rows * columns


LINEAR = WorkloadKind(
    name="linear",
    axes=("out_features", "in_features"),
    parameters=(BATCH, DTYPE, BACKEND),
    builder="profiler_service.measurement.operations:build_linear",
    operand_bytes=lambda dims, params: _product_bytes(dims[0], dims[1], params),
    flops=lambda dims, params: _product_flops(dims[0], dims[1], params),
    description=(
        "A fully connected layer without bias: input [batch, in_features] times the"
        " transpose of weight [out_features, in_features]."
    ),
)
MATMUL = WorkloadKind(
    name="matmul",
    axes=("size",),
    parameters=(BATCH, DTYPE, BACKEND),
    builder="profiler_service.measurement.operations:build_matmul",
    operand_bytes=lambda dims, params: _product_bytes(dims[0], dims[0], params),
    flops=lambda dims, params: _product_flops(dims[0], dims[0], params),
    description=(
        "A square weight [size, size] times a batch of vectors: Fig. 2 of Yin et al."
        " (batch 16 there)."
    ),
)
