"""Which kernels ran at points of a curve."""

from __future__ import annotations

from pydantic import Field

from profiler_service.wire.base import Dims, ResponseModel

_NAME = (
    "What the library that multiplied calls its kernel, as oneDNN and a GPU's profiler say it; MKL"
    " only names its function. Several kernels of one call are joined by ` + `."
)


class KernelAt(ResponseModel):
    """The kernel that ran at one point."""

    dims: Dims = Field(description="Dims of the point.")
    kernel: str = Field(description=_NAME, examples=["matmul brg_matmul:avx512_core_bf16"])


class KernelPoints(ResponseModel):
    """A kernel, and the points at which it ran."""

    kernel: str = Field(description=_NAME)
    dims: list[Dims] = Field(description="Dims of each of the points that were looked at.")
