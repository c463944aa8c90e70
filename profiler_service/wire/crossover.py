"""The question of `GET /crossover` and its answer."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import Dims, RequestModel, ResponseModel, optional_field
from profiler_service.wire.questions import DIMS_PATTERN, LABEL_PATTERN
from profiler_service.workload import DTYPE_SIZES_BYTES


class CrossoverQuery(RequestModel):
    """The query parameters of `GET /crossover`."""

    dims: str = Field(
        description="out_features,in_features of a `linear` layer.",
        examples=["1500,1500"],
        json_schema_extra={"pattern": DIMS_PATTERN},
    )
    batch: str = Field(
        default="16",
        description="Rows of the input.",
        json_schema_extra={"type": "integer", "minimum": 1},
    )
    dtype: str = Field(
        default="float32",
        description="Element type.",
        json_schema_extra={"enum": list(DTYPE_SIZES_BYTES)},
    )
    bias: str = Field(
        default="no",
        description="Whether the layer has a bias.",
        json_schema_extra={"enum": ["no", "yes"]},
    )
    wait: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="How long to wait for a measurement, seconds, before 202 is returned.",
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Which host measures. Default: one on the only platform there is. If there are"
        " several platforms, name a host, a platform or a label.",
    )
    platform: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Key of a platform (`/platforms`) to answer for, instead of the platform"
        " that `host` is on now.",
    )
    label: str | SkipJsonSchema[None] = Field(
        default=None,
        description="A label of hosts, `pool:train`: only they measure, and the answer is for their"
        " platform.",
        examples=["pool:train"],
        json_schema_extra={"pattern": LABEL_PATTERN},
    )


class KernelCrossover(ResponseModel):
    """The sparsity from which on the sparse kernel is faster than one dense kernel."""

    backend: Literal["dense", "packed", "compiled"] = Field(description="The dense kernel.")
    latency_s: float = Field(description="Median latency of this dense kernel, seconds per call.")
    sparsity: float | None = Field(
        description="Share of zeros, in steps of 0.01, from which on the sparse kernel has the"
        " smaller median; null if it hasn't even at 0.99. With fewer zeros it is slower, or"
        " has not been measured to be faster.",
        examples=[0.83],
    )
    sparsity_interval: tuple[float | None, float | None] = Field(
        description="The crossover is confidently not below the first: the sparse kernel is slower"
        " just below. From the second on, it is confidently faster. The intervals of all kernels"
        " hold together with 95 %. Null: beyond 0.99, the sparsest measured.",
        examples=[[0.82, 0.84]],
    )


class SparsePoint(ResponseModel):
    """The sparse kernel at one sparsity."""

    sparsity: float = Field(description="Share of zeros.")
    latency_s: float = Field(description="Median latency, seconds per call.")
    ratio: float = Field(
        description="Its latency divided by that of the best dense kernel, paired."
    )
    ratio_interval: tuple[float, float | None] = Field(
        description="Interval on `ratio`, 95 % at least. An end is null if there were too few"
        " pairs for it."
    )


class CrossoverAnswer(ResponseModel):
    """The sparsity, if any, from which on a sparse product is faster than the dense ones."""

    dims: Dims = Field(description="The dims asked about.")
    batch: int = Field(description="Rows of the input.")
    dtype: str = Field(description="Element type.")
    bias: Literal["no", "yes"] = Field(default="no", description="Whether the layer has a bias.")
    best: Literal["dense", "packed", "compiled"] = Field(
        description="The fastest dense kernel here. The sparse one is compared with it."
    )
    sparsity: float | None = Field(
        description="Share of zeros from which on the sparse kernel is faster than the best dense"
        " one: its `sparsity` in `kernels`."
    )
    sparsity_interval: tuple[float | None, float | None] = Field(
        description="Its `sparsity_interval` in `kernels`."
    )
    kernels: list[KernelCrossover] = Field(description="The dense kernels, the fastest first.")
    sparse: list[SparsePoint] = Field(description="The measurements of the sparse kernel.")
    failures: dict[str, str] = Field(
        description="Kernels that couldn't be measured, `compiled` or `csr at 0.5`, and why."
    )
    platform: str = Field(description="Key of the platform measured on.")
    host: str = Field(description="Host that measured.")
    curve: str = Field(description="Id of the curve that the answer was read from.")
    measured_at: dt.datetime = Field(description="When the last sample was taken.")
    num_samples: int = Field(description="Number of samples of all kernels.")
    disturbed: bool = Field(default=False, description="As in the answer of `GET /lhp`.")
    noisy: bool = Field(
        default=False, description="Whether more than 30 % of the samples were disturbed."
    )
    caveats: list[str] = Field(default_factory=list, description="As in the answer of `GET /lhp`.")
    stale: bool = Field(description="As in the answer of `GET /lhp`.")
    stale_because: list[str] = Field(
        default_factory=list, description="As in the answer of `GET /lhp`."
    )
    database_away_s: int | SkipJsonSchema[None] = optional_field(
        description="As in the answer of `GET /lhp`."
    )
