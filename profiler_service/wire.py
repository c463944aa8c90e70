"""Requests and responses as they travel: pydantic models, shared by service and clients.

Knows the domain's names, but neither HTTP nor how anything is found or stored.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from pydantic.json_schema import SkipJsonSchema

from profiler_service.workload import DTYPE_SIZES_BYTES

Dims = list[int]


class WireModel(BaseModel):
    """Base of everything on the wire: unknown fields in a request are refused."""

    model_config = ConfigDict(extra="forbid")


MAX_BUDGET_S = 86_400.0
"""Longest budget that a request may name."""


class LhpQuery(BaseModel):
    """The query parameters of `GET /lhp`.

    Any further parameter is taken for a fixed parameter of the workload kind; the kind
    refuses those that it doesn't have. Fixed parameters stay text here: the kind parses them.
    """

    model_config = ConfigDict(extra="allow")

    dims: str = Field(
        description="Whole numbers from 1 up, one an axis, separated by commas, in the order of"
        " the workload's axes; for `linear`: out_features,in_features.",
        examples=["1197,317"],
    )
    workload: str = Field(default="linear", description="Name of a workload kind: `/workloads`.")
    prefer: Literal["fastest", "nearest", "largest"] = Field(
        default="fastest",
        description="Which to choose among the larger dims that are confidently faster: the"
        " `fastest`, the `nearest` (least growth), or the `largest` (most capacity). For the"
        " latter two every point of the window is measured, which takes longer.",
    )
    effort: Literal["quick", "thorough"] = Field(
        default="quick",
        description="How closely to look for the `fastest`: `quick` looks at a sample of the"
        " window, guided by a model of its rows and columns; `thorough` looks at every point"
        " before it races, so that a lone fast point is found, too, and takes several times as"
        " long.",
    )
    max_growth: float = Field(
        default=0.125,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How far above `dims` to look on each axis, as a share of the dimension;"
        " never less than 32 points, nor more than 1,024.",
    )
    wait: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="How long to wait for a measurement, seconds, before 202 is returned.",
    )
    budget: float | SkipJsonSchema[None] = Field(
        default=None,
        gt=0,
        le=MAX_BUDGET_S,
        allow_inf_nan=False,
        description="How long to measure at most, seconds, where it isn't known yet; left out:"
        " as long as the effort takes. Too short for any verdict, and the answer is `dims`,"
        " with `cut_short`.",
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None, description="Which host measures; the service's own where left out."
    )
    platform: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Key of a platform (`/platforms`) to answer for, instead of the platform"
        " that `host` is on now.",
    )
    batch: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: rows of the input. 16 where left out.",
        json_schema_extra={"type": "integer", "minimum": 1},
    )
    dtype: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: element type. float32 where left out.",
        json_schema_extra={"enum": list(DTYPE_SIZES_BYTES)},
    )
    backend: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: which kernel runs; `/workloads` lists the choices."
        " `dense` where left out.",
    )

    @property
    def fixed_parameters(self) -> dict[str, object]:
        """Every fixed parameter given, by name: the named three and any further one."""
        named = {"batch": self.batch, "dtype": self.dtype, "backend": self.backend}
        given: dict[str, object] = {k: v for k, v in named.items() if v is not None}
        return given | (self.model_extra or {})


class FasterBackend(WireModel):
    """Another kernel of the same product or network, confidently faster."""

    backend: Literal["dense", "packed", "compiled"]
    speedup: float = Field(description="Latency of the backend asked about over this one's.")
    speedup_interval: tuple[float, float] = Field(
        description="95 % interval on `speedup`, from rounds that had no part in the choice."
    )
    curve: str = Field(description="Id of the curve of all kernels compared.")


class LhpAnswer(WireModel):
    """Which larger dims cost no more than the ones asked for."""

    dims: Dims = Field(description="The dims asked for.", examples=[[1197, 317]])
    lhp: Dims = Field(
        description="The dims to use. Equal to `dims` where nothing larger is confidently faster.",
        examples=[[1200, 320]],
    )
    is_lhp: bool = Field(
        description="Whether `dims` is itself a latency hysteresis point. From a race or a"
        " survey: its best rivals are confidently slower; from a grid sweep: every larger point"
        " is."
    )
    grow_by: Dims = Field(description="`lhp` minus `dims`, per axis.", examples=[[3, 3]])
    latency_s: float = Field(description="Median latency at `dims`, seconds a call.")
    lhp_latency_s: float = Field(description="Median latency at `lhp`, seconds a call.")
    speedup: float = Field(description="`latency_s` over `lhp_latency_s`, paired; 1 if equal dims.")
    speedup_interval: tuple[float, float] = Field(
        description="95 % interval on `speedup`, from samples taken after the choice was made."
    )
    verdict: Literal["faster", "slower", "ambiguous"] = Field(
        description="The best larger dims found, against `dims`: `faster` (the answer moves),"
        " `slower` (`dims` is an LHP) or `ambiguous` (can't be told apart; the answer stays)."
    )
    prefer: Literal["fastest", "nearest", "largest"]
    workload: str = Field(description="Key of the workload.")
    platform: str = Field(description="Key of the platform measured on.")
    host: str = Field(description="Host that measured.")
    curve: str = Field(description="Id of the curve that the answer was read from.")
    measured_at: dt.datetime
    num_samples: int = Field(description="Samples of `dims` and `lhp` together.")
    faster_backend: FasterBackend | None = Field(
        default=None,
        description="Of `dense` and `packed`, the one that is faster at `dims` in the same dtype,"
        " where that isn't the one asked about. Null where none is known to be faster; the two"
        " are compared when a window is measured on demand: for `linear` and `matmul`, and for"
        " `hlstm` and `hlstm_lm` where the query gives no budget.",
    )
    evidence: dict[str, float] = Field(
        default_factory=dict,
        description="What measuring the curve took: `calls`, `samples`, `rounds`, `seconds`; of a"
        " race also the `candidates` raced, the pairs of its `confirmations`, and the time it"
        " kept to (`budget_s`).",
    )
    cut_short: bool = Field(
        default=False,
        description="Whether the `budget` ended before any larger dims could be judged: `lhp` is"
        " `dims` because nothing is known, not because nothing is faster.",
    )
    stale: bool = Field(
        description="True where the host's platform, or how it takes time, has changed since:"
        " the curve describes the platform named here, not what the host would measure now."
    )


class CrossoverQuery(WireModel):
    """The query parameters of `GET /crossover`."""

    dims: str = Field(
        description="out_features,in_features of a `linear` layer.", examples=["1500,1500"]
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
    wait: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="How long to wait for a measurement, seconds, before 202 is returned.",
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None, description="Which host measures; the service's own where left out."
    )
    platform: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Key of a platform (`/platforms`) to answer for, instead of the platform"
        " that `host` is on now.",
    )


class KernelCrossover(WireModel):
    """From which sparsity on the sparse kernel beats one dense kernel."""

    backend: Literal["dense", "packed", "compiled"]
    latency_s: float = Field(description="Median latency of this dense kernel, seconds a call.")
    sparsity: float | None = Field(
        description="Share of zeros, in steps of 0.01, from which on the sparse kernel has the"
        " smaller median; null where it hasn't even at 0.99. Fewer zeros than that, and it is"
        " slower or has not been measured to be faster.",
        examples=[0.83],
    )
    sparsity_interval: tuple[float | None, float | None] = Field(
        description="Below the first the sparse kernel is confidently (95 %) slower; from the"
        " second on confidently faster. Null: beyond 0.99, the sparsest measured.",
        examples=[[0.82, 0.84]],
    )


class SparsePoint(WireModel):
    """The sparse kernel at one sparsity."""

    sparsity: float
    latency_s: float = Field(description="Median latency, seconds a call.")
    ratio: float = Field(description="Its latency over the best dense kernel's, paired.")
    ratio_interval: tuple[float, float | None] = Field(
        description="95 % interval on `ratio`; null where there were too few pairs for an end."
    )


class CrossoverAnswer(WireModel):
    """From which sparsity on, if any, a sparse product beats the dense ones."""

    dims: Dims
    batch: int
    dtype: str
    best: Literal["dense", "packed", "compiled"] = Field(
        description="The fastest dense kernel here: what the sparse one has to beat."
    )
    sparsity: float | None = Field(
        description="`sparsity` of the best dense kernel, from `kernels`: from here on, sparse."
    )
    sparsity_interval: tuple[float | None, float | None]
    kernels: list[KernelCrossover] = Field(description="Each dense kernel, the fastest first.")
    sparse: list[SparsePoint] = Field(description="What was measured of the sparse one.")
    failures: dict[str, str] = Field(
        description="Kernels that couldn't be measured, `compiled` or `csr at 0.5`, and why."
    )
    platform: str = Field(description="Key of the platform measured on.")
    host: str = Field(description="Host that measured.")
    curve: str = Field(description="Id of the curve that the answer was read from.")
    measured_at: dt.datetime
    num_samples: int
    stale: bool


class GridAxisRange(WireModel):
    """Dimensions `start`, `start + step`, … up to and including `stop`."""

    start: int = Field(ge=1)
    stop: int = Field(ge=1, description="Last dimension, inclusive.")
    step: int = Field(default=1, ge=1)


class SweepRequest(WireModel):
    """A request to measure a grid."""

    workload: str = Field(default="linear", examples=["linear"])
    params: dict[str, StrictInt | StrictStr] = Field(
        default_factory=dict, description="Fixed parameters; defaults where left out."
    )
    axes: Annotated[list[GridAxisRange], Field(min_length=1, max_length=16)] = Field(
        description="One range an axis, in the order of the workload's axes."
    )
    mode: Literal["race", "survey", "grid"] = Field(
        default="grid",
        description="`grid` measures every point closely. `race` and `survey` look for the"
        " fastest one at or above the grid's first point, as `/lhp` does with the effort"
        " `quick` and `thorough`.",
    )
    host: str | None = Field(default=None, description="Which host; this one where left out.")
    budget: float | None = Field(
        default=None,
        gt=0,
        le=MAX_BUDGET_S,
        allow_inf_nan=False,
        description="How long to measure at most, seconds; as long as it takes where left out."
        " What is known by then is kept as the sweep's curve.",
    )


class ProgressInfo(WireModel):
    """How far a sweep is."""

    fraction: float
    stage: str
    num_samples: int
    seconds: float


class SweepInfo(WireModel):
    """A sweep and where it stands."""

    id: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    mode: Literal["race", "survey", "grid", "kernels"] = Field(
        description="`race` finds one query's answer, `survey` does so after a look at every"
        " point; `grid` measures every point closely."
    )
    workload: str = Field(description="Key of the workload.")
    axes: list[GridAxisRange]
    num_points: int
    host: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    cancel_requested: bool
    progress: ProgressInfo | None
    error: str = Field(
        description="Why it failed or, while it is running, is paused; empty otherwise."
    )
    curve: str | None = Field(description="Id of the curve it left, once there is one.")


class RaceStageInfo(WireModel):
    """One stage of a race: who took part, and who was left when it ended."""

    name: Literal["survey", "narrow", "contest", "confirm"] = Field(
        description="`survey` looks at every point; `narrow` ranks the positions of each axis by"
        " an additive fit; `contest` ranks points by their own medians; `confirm` compares one"
        " with the dims asked for, on fresh samples."
    )
    num_visits: int
    seconds: float
    field_size: list[int] = Field(
        description="How many points took part; for `narrow`: how many positions of each axis."
    )
    kept_size: list[int] = Field(description="How many were kept.")
    kept: list[Dims] = Field(description="The points kept, best first, where they are points.")
    dropped: list[Dims] = Field(description="Those dropped in a contest or a confirmation.")
    why: str = Field(description="Why the others were dropped.")


class RaceInfo(WireModel):
    """How a race went."""

    sweep: str
    asked: Dims
    noise: float = Field(description="Scale of one call's noise, relative.")
    stages: list[RaceStageInfo]


class SweepPage(WireModel):
    """Sweeps, newest first."""

    items: list[SweepInfo]
    next_cursor: str | None


class CurveInfo(WireModel):
    """A curve without its points."""

    id: str
    sweep: str
    host: str
    workload: str = Field(description="Key of the workload.")
    axis_names: list[str]
    axes: list[GridAxisRange]
    mode: Literal["race", "survey", "grid", "kernels"]
    platform: str
    protocol: str
    num_points: int = Field(description="Points of the grid.")
    num_measured: int
    num_failures: int
    num_lhps: int
    num_undecided: int
    undecided: float | None = Field(
        description="Share of the grid's points that are neither confirmed LHPs nor confirmed"
        " dominated: how much a sweep that was stopped early left open. Points that failed"
        " don't count; null for a race or a survey, and where every point failed."
    )
    redundancy: float | None = Field(
        description="1 − num_lhps / num_measured; null where nothing was measured, and for a"
        " race or a survey, which look for one point's answer and at few others closely."
    )
    measured_at: dt.datetime
    stale: bool = Field(
        description="True where the host is on another platform now, or takes time otherwise."
    )
    evidence: dict[str, float]


class CurvePage(WireModel):
    """Curves, newest first."""

    items: list[CurveInfo]
    next_cursor: str | None


class CurvePoints(WireModel):
    """A curve's points as columns of equal length; only measured points."""

    dims: list[Dims]
    latency_s: list[float]
    low_s: list[float | None] = Field(
        description="Lower end of the 95 % interval on the median; null for fewer than 6 samples."
    )
    high_s: list[float | None] = Field(description="Upper end of it, likewise.")
    num_samples: list[int]
    status: list[Literal["lhp", "dominated", "undecided"]]
    rival: list[Dims | None] = Field(
        description="The best larger point found: the one that dominates a `dominated` point,"
        " and may dominate an `undecided` one. Null where there is none, or none is known."
    )
    ratio: list[float | None] = Field(
        description="Latency of the rival over that of the point, paired within rounds that had"
        " no part in choosing the rival."
    )
    ratio_low: list[float | None] = Field(
        description="Lower end of the 95 % interval on the ratio; null for fewer than 6 pairs."
    )
    ratio_high: list[float | None] = Field(description="Upper end of it, likewise.")


class BinInfo(WireModel):
    """A hysteresis bin of a one-axis curve: after the previous LHP, up to this one."""

    start: int
    stop: int = Field(description="The LHP that ends the bin, inclusive.")


class FailedPoint(WireModel):
    """A point that couldn't be measured."""

    dims: Dims
    reason: str


class CurveDetail(CurveInfo):
    """A curve with its points, LHPs and bins."""

    points: CurvePoints
    lhps: list[Dims]
    bins: list[BinInfo] = Field(description="Empty for more than one axis.")
    failures: list[FailedPoint]


class PlatformInfo(WireModel):
    """Everything that must match for latencies to be comparable."""

    key: str
    device: str
    device_model: str
    memory_bytes: int
    driver: str
    framework: str
    libraries: dict[str, str]
    threads: int
    cpus: int
    flags: dict[str, str]


class HostInfo(WireModel):
    """A machine that measures."""

    name: str
    platform: str
    protocol: str = Field(description="How it takes time; curves of another protocol are stale.")
    dtypes: list[str]
    backends: dict[str, list[str]] = Field(
        default_factory=dict, description="Backend of products → the dtypes that it multiplies."
    )
    registered_at: dt.datetime
    last_seen_at: dt.datetime
    present: bool = Field(description="Whether its worker has been heard of lately.")


class ParameterInfo(WireModel):
    """A fixed parameter of a workload kind."""

    name: str
    default: int | str
    description: str
    choices: list[str]
    minimum: int | None
    maximum: int | None


class WorkloadInfo(WireModel):
    """A workload kind."""

    name: str
    description: str
    axes: list[str]
    parameters: list[ParameterInfo]
    error: str = Field(
        default="",
        description="Why it can't be measured: the package that brings it failed to import, for"
        " example. Its description, axes and parameters aren't known then. Empty otherwise.",
    )


class Problem(WireModel):
    """An error as `application/problem+json` (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What is wrong.")
    hint: str = Field(default="", description="What to do about it.")


class Health(WireModel):
    """Whether the process lives, or is ready to serve."""

    status: Literal["ok", "unavailable"]
    detail: str = ""
