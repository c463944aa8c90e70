"""The kinds `linear_kernels`, `mlp_kernels`, `hlstm_kernels` …: one call by every kernel.

Pure. Their only axis numbers kernels, so grids, samples and curves can hold kernels like
dimensions. `Kernel` translates between a kernel and its point of such a grid. Only `Kernel` knows
the order: first the dense kernels, then the sparse one at 99 %, 98 % … down to 0 % zeros. So
latency and memory grow with the number, as they do with a dimension. Knows nothing of measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from profiler_service.errors import InvalidDimsError
from profiler_service.grid import MAX_DIM, Grid, GridAxis
from profiler_service.kinds.convolutions import CONV2D, DEPTHWISE_CONV2D
from profiler_service.kinds.layers import LM_HEAD, MLP, TRANSFORMER_BLOCK
from profiler_service.kinds.networks import HLSTM, HLSTM_LM
from profiler_service.kinds.products import BACKEND, BIAS, LINEAR, MATMUL, SPARSITY
from profiler_service.workload import (
    VARY,
    Dims,
    Parameter,
    ParamValue,
    Workload,
    WorkloadKind,
)

DenseBackend = Literal["dense", "packed", "compiled"]
DENSE_BACKENDS: Final[tuple[DenseBackend, ...]] = ("dense", "packed", "compiled")
"""Backends that multiply every weight, in the order of their points."""
MAX_PERCENT: Final = 99
"""The highest percentage of zeros at which the sparse kernel is measured."""
NUM_KERNELS: Final = len(DENSE_BACKENDS) + MAX_PERCENT + 1

DENSE_KERNELS: Final = Grid(axes=(GridAxis(first=1, count=2),))
"""Number of dense kernels that need no compiler. Compiling takes seconds, and a question about dims
should not wait for it."""
ALL_KERNELS: Final = Grid(axes=(GridAxis(first=1, count=NUM_KERNELS),))
"""Number of all kernels: the dense ones, and the sparse one at every whole percentage."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of a product: its backend and, for the sparse one, how many weights are zero."""

    backend: str
    percent: int | None = None
    """Zeros among the weights of `csr`, in whole percent; None for the dense backends."""

    def __post_init__(self) -> None:
        is_known = (
            self.backend in DENSE_BACKENDS
            if self.percent is None
            else self.backend == "csr" and 0 <= self.percent <= MAX_PERCENT
        )
        if not is_known:
            raise InvalidDimsError(
                f"there is no kernel {self}",
                hint=f"kernels: {', '.join(DENSE_BACKENDS)}, and csr at 0 to {MAX_PERCENT / 100}",
            )

    @classmethod
    def from_point(cls, point: int) -> Kernel:
        """The kernel at that point of a grid of kernels, whose first one is point 0.

        Raises InvalidDimsError if no grid of kernels has such a point.
        """
        if not 0 <= point < NUM_KERNELS:
            raise InvalidDimsError(
                f"there is no kernel {point + 1}",
                hint=f"kernels are numbered from 1 to {NUM_KERNELS}",
            )
        if point < len(DENSE_BACKENDS):
            return cls(DENSE_BACKENDS[point])
        return cls("csr", NUM_KERNELS - 1 - point)

    @classmethod
    def from_dims(cls, dims: Dims) -> Kernel:
        """The kernel that the dims (number,) stand for, numbered from 1.

        Raises InvalidDimsError if there is none.
        """
        (number,) = dims
        return cls.from_point(number - 1)

    @property
    def point(self) -> int:
        """Its point of a grid of kernels: the inverse of `from_point`."""
        if self.percent is None:
            return DENSE_BACKENDS.index(self.backend)
        return NUM_KERNELS - 1 - self.percent

    @property
    def dims(self) -> Dims:
        """The dims (number,) that stand for it: the inverse of `from_dims`."""
        return (self.point + 1,)

    @property
    def is_dense(self) -> bool:
        """Whether it multiplies every weight."""
        return self.percent is None

    @property
    def dense_backend(self) -> DenseBackend:
        """The backend of a dense kernel. Raises ValueError for the sparse one."""
        return DENSE_BACKENDS[DENSE_BACKENDS.index(cast("DenseBackend", self.backend))]

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero; 0 for dense kernels, which multiply zeros as well."""
        return 0.0 if self.percent is None else self.percent / 100

    @property
    def params(self) -> dict[str, ParamValue]:
        """The parameters `backend` and `sparsity` of `linear` that it stands for."""
        if self.percent is None:
            return {"backend": self.backend}
        return {"backend": self.backend, "sparsity": SPARSITY.parse(f"{self.sparsity:g}")}

    def __str__(self) -> str:
        """`packed`, or `csr at 0.9`."""
        return self.backend if self.percent is None else f"{self.backend} at {self.sparsity:g}"


def dense_points(num_kernels: int) -> range:
    """The points of the dense kernels in a grid of that many kernels."""
    return range(min(len(DENSE_BACKENDS), num_kernels))


def kernel_workload(
    dims: Dims, *, batch: ParamValue, dtype: ParamValue, bias: ParamValue = BIAS.default
) -> Workload:
    """The kernels of the product `linear` at `dims` (out_features, in_features)."""
    out_features, in_features = dims
    return LINEAR_KERNELS.describe(
        {
            "out_features": out_features,
            "in_features": in_features,
            "batch": batch,
            "dtype": dtype,
            "bias": bias,
        }
    )


def find_kernels(workload: Workload, dims: Dims) -> Workload | None:
    """The kernels of a workload at `dims`.

    None if it has only one of DENSE_BACKENDS, is sparse, or varies something else than its kind's
    own axes.
    """
    params = dict(workload.params)
    backend = params.pop("backend", BACKEND.default)
    if backend not in DENSE_BACKENDS or VARY in params:
        return None
    if workload.kind in (LINEAR.name, MATMUL.name, LM_HEAD.name):
        return kernel_workload(
            (dims[0], int(params.get("width", dims[-1]))),
            batch=params["batch"],
            dtype=params["dtype"],
            bias=params.get("bias", BIAS.default),
        )
    kernels = _KERNELS_OF.get(workload.kind)
    if kernels is None:
        return None
    return kernels.describe({**params, **dict(zip(workload.axes, dims, strict=True))})


def unfold(
    kind: WorkloadKind, dims: Dims, params: Mapping[str, ParamValue]
) -> tuple[Dims, dict[str, ParamValue]]:
    """The dims and parameters of `kind` that a point of its kernels stands for.

    `dims` is (kernel,), and `params` are those of the kernels' kind. Raises InvalidDimsError if
    there is no such kernel.
    """
    kernel = Kernel.from_dims(dims)
    choices = next(each.choices for each in kind.parameters if each.name == BACKEND.name)
    if kernel.backend not in choices:
        raise InvalidDimsError(
            f"{kind.name} has no {kernel.backend} kernel",
            hint=f"its backends are: {', '.join(choices)}",
        )
    return tuple(int(params[axis]) for axis in kind.axes), {**params, **kernel.params}


def _kernels_of(
    kind: WorkloadKind, *, builder: str, dims: Dims, description: str, axis: str = "kernel"
) -> WorkloadKind:
    """The kind `KIND_kernels`: its dims are parameters, by default `dims`."""

    def check(params: Mapping[str, ParamValue]) -> None:
        kind.check_dims(tuple(int(params[each]) for each in kind.axes), params)

    return WorkloadKind(
        name=f"{kind.name}_kernels",
        axes=(axis,),
        parameters=(
            *(
                Parameter(
                    name=axis,
                    default=dim,
                    maximum=MAX_DIM,
                    is_dim=True,
                    description=f"{axis} of `{kind.name}`.",
                )
                for axis, dim in zip(kind.axes, dims, strict=True)
            ),
            *(each for each in kind.parameters if each.name not in (BACKEND.name, SPARSITY.name)),
        ),
        check=check,
        has_few_launches=kind.has_few_launches,
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
_OF_LAYERS = "by every kernel: 1 dense, 2 packed, 3 compiled"
CONV2D_KERNELS = _kernels_of(
    CONV2D,
    builder="profiler_service.measurement.layers:build_conv2d_kernel",
    dims=(64, 64),
    axis="kernel_number",
    description=f"`conv2d` at fixed dims {_OF_LAYERS}.",
)
DEPTHWISE_CONV2D_KERNELS = _kernels_of(
    DEPTHWISE_CONV2D,
    builder="profiler_service.measurement.layers:build_depthwise_conv2d_kernel",
    dims=(64,),
    axis="kernel_number",
    description=f"`depthwise_conv2d` at fixed dims {_OF_LAYERS}.",
)
MLP_KERNELS = _kernels_of(
    MLP,
    builder="profiler_service.measurement.layers:build_mlp_kernel",
    dims=(3072,),
    description=f"`mlp` at fixed dims {_OF_LAYERS}.",
)
TRANSFORMER_BLOCK_KERNELS = _kernels_of(
    TRANSFORMER_BLOCK,
    builder="profiler_service.measurement.layers:build_transformer_block_kernel",
    dims=(768, 3072),
    description=f"`transformer_block` at fixed dims {_OF_LAYERS}.",
)
_KERNELS_OF: Final[Mapping[str, WorkloadKind]] = {
    HLSTM.name: HLSTM_KERNELS,
    HLSTM_LM.name: HLSTM_LM_KERNELS,
    CONV2D.name: CONV2D_KERNELS,
    DEPTHWISE_CONV2D.name: DEPTHWISE_CONV2D_KERNELS,
    MLP.name: MLP_KERNELS,
    TRANSFORMER_BLOCK.name: TRANSFORMER_BLOCK_KERNELS,
}
KERNEL_KINDS: Final = (LINEAR_KERNELS, *_KERNELS_OF.values())
