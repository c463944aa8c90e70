"""Matrix products: the kinds `linear` and `matmul`, and the parameters that kinds share.

Pure. Knows nothing of how a product is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from profiler_service.errors import InvalidWorkloadError
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
    choices=("dense", "packed", "compiled", "csr"),
    description=(
        "Which kernel runs: `dense` is torch's own choice for a dense product, `packed` oneDNN's"
        " with the weight rearranged once, `compiled` what `torch.compile` makes of a frozen"
        " weight, `csr` a sparse product (compressed sparse rows)."
    ),
)
INT8_BACKENDS: Final = ("int8_dynamic", "int8_weight_only")
"""Backends that multiply whole numbers of 8 bits in place of the weights. Their results differ."""
LINEAR_BACKEND: Final = Parameter(
    name=BACKEND.name,
    default=BACKEND.default,
    choices=(*BACKEND.choices, *INT8_BACKENDS),
    description=(
        f"{BACKEND.description} Quantised: `int8_dynamic` multiplies a weight of 8 bits by an input"
        " that is quantised in each call (float32 only), `int8_weight_only` quantises the weight"
        " alone (in_features must be a multiple of 16)."
    ),
)
_WEIGHT_ONLY_MULTIPLE: Final = 16
"""torch's kernel for a weight of 8 bits reads behind rows of another number of inputs."""
SPARSITY = Parameter(
    name="sparsity",
    default="0",
    minimum=0,
    maximum=1,
    decimals=4,
    omitted_at_default=True,
    description=(
        "Share of the weights that are zero, at random places; for the backend `csr` only, since"
        " the others multiply zeros like any number."
    ),
)
BIAS = Parameter(
    name="bias",
    default="no",
    choices=("no", "yes"),
    omitted_at_default=True,
    description="Whether a bias is added to the result, as `torch.nn.Linear` does by default.",
)


def check_sparsity(params: Mapping[str, ParamValue]) -> None:
    """Returns if the backend uses the sparsity. Raises InvalidWorkloadError if it doesn't."""
    if "sparsity" in params and params["backend"] != "csr":
        raise InvalidWorkloadError(
            f"sparsity={params['sparsity']} makes no difference to backend={params['backend']}",
            hint="choose backend=csr, or leave out sparsity",
        )


def count_nonzero(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    """Number of weights that are stored and multiplied, at least 1; all, unless it is `csr`."""
    return max(1, round((1 - float(params.get("sparsity", 0))) * rows * columns))


def weight_bytes(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    """Memory of a weight as its backend holds it, and while it is made from a plain one."""
    size_bytes = DTYPE_SIZES_BYTES[str(params["dtype"])]
    backend = params.get("backend", BACKEND.default)
    if backend == "csr":
        # A value and a column for each, and 20 bytes while their places are drawn.
        nonzero = count_nonzero(rows, columns, params)
        return (size_bytes + 4 + 20) * nonzero + 4 * (rows + 1)
    if backend in INT8_BACKENDS:
        # Two copies of 4 bytes while it is quantised, two of whole numbers; and of each row a step
        # and a zero.
        return (size_bytes + 4 + 4 + 1 + 1) * rows * columns + 16 * rows
    copies = 1 if backend == "dense" else 2
    return copies * size_bytes * rows * columns


def has_bias(params: Mapping[str, ParamValue]) -> bool:
    """Whether a bias is added to each product. Never in kinds without such a parameter."""
    return params.get("bias", "no") == "yes"


def product_bytes(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    """Memory of weight, bias if there is one, input and result of one product."""
    batch, size_bytes = int(params["batch"]), DTYPE_SIZES_BYTES[str(params["dtype"])]
    vectors = batch * (rows + columns) + (rows if has_bias(params) else 0)
    return weight_bytes(rows, columns, params) + size_bytes * vectors


def product_flops(rows: int, columns: int, params: Mapping[str, ParamValue]) -> int:
    """Useful operations of one product: two for each weight that isn't zero, and row of input.

    The sums with a bias aren't counted, as in torch's own counter.
    """
    return 2 * int(params["batch"]) * count_nonzero(rows, columns, params)


LINEAR = WorkloadKind(
    name="linear",
    axes=("out_features", "in_features"),
    parameters=(BATCH, DTYPE, LINEAR_BACKEND, SPARSITY, BIAS),
    check=check_sparsity,
    multiples=lambda params: (
        1,
        _WEIGHT_ONLY_MULTIPLE if params.get("backend") == "int8_weight_only" else 1,
    ),
    has_few_launches=True,
    builder="profiler_service.measurement.operations:build_linear",
    operand_bytes=lambda dims, params: product_bytes(dims[0], dims[1], params),
    flops=lambda dims, params: product_flops(dims[0], dims[1], params),
    description=(
        "A fully connected layer: input [batch, in_features] times the transpose of weight"
        " [out_features, in_features], plus a bias if `bias` is `yes`."
    ),
)
MATMUL = WorkloadKind(
    name="matmul",
    axes=("size",),
    parameters=(BATCH, DTYPE, BACKEND, SPARSITY),
    check=check_sparsity,
    has_few_launches=True,
    builder="profiler_service.measurement.operations:build_matmul",
    operand_bytes=lambda dims, params: product_bytes(dims[0], dims[0], params),
    flops=lambda dims, params: product_flops(dims[0], dims[0], params),
    description=(
        "A square weight [size, size] times a batch of vectors: Fig. 2 of Yin et al."
        " (batch 16 there)."
    ),
)
