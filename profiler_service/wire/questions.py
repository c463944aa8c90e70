"""The question of `GET /lhp` and its answer."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import (
    Budget,
    Dims,
    EvidenceInfo,
    ResponseModel,
    hide_null,
    optional_field,
)
from profiler_service.wire.kernels import KernelAt
from profiler_service.wire.quantities import DURATION_PATTERN, SHARE_PATTERN
from profiler_service.workload import DTYPE_SIZES_BYTES

DIMS_PATTERN = r"^\s*[0-9]+\s*(,\s*[0-9]+\s*)*$"

LABEL_PATTERN = r"^\s*[^:=\s][^:=]*[:=]\s*\S.*$"


Basis = Literal["measured", "any", "predicted"]
"""What an answer may rest on."""


class WindowQuery(BaseModel):
    """The query parameters that describe a window: of which workload, and where.

    Any further parameter is taken for a fixed parameter of the workload kind; the kind
    refuses those that it doesn't have. Fixed parameters stay text here: the kind parses them.
    """

    model_config = ConfigDict(extra="allow")

    dims: str = Field(
        description="Whole numbers from 1 up, one for each axis, separated by commas, in the order"
        " of the workload's axes; for `linear`: out_features,in_features.",
        examples=["1197,317"],
        json_schema_extra={"pattern": DIMS_PATTERN},
    )
    workload: str = Field(default="linear", description="Name of a workload kind: `/workloads`.")
    max_growth: float = Field(
        default=0.125,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How far above `dims` to look on each axis, as a share of the dimension;"
        " never less than 32 points, nor more than 1,024.",
    )
    multiple_of: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Answers only with multiples: of one number on every axis, `64`, or of one for"
        " each axis, `1,64`. `dims` themselves needn't be multiples. 1 allows every dimension.",
        examples=["1,64"],
        json_schema_extra={"pattern": DIMS_PATTERN},
    )
    host: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Which host it is about; it measures, if need be. Default: one on the only"
        " platform there is. If there are several platforms, name a host, a platform or a label.",
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
    vary: str | SkipJsonSchema[None] = Field(
        default=None,
        description="What may grow, if not the workload's own axes: names of axes and of"
        " whole-number parameters, separated by commas. `dims` are theirs. Axes that aren't named"
        " are fixed parameters then, as in `vary=batch,out_features&in_features=317`.",
        examples=["batch,out_features"],
        json_schema_extra={"minLength": 1},
    )
    batch: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: rows of the input. Default: 16.",
        json_schema_extra={"type": "integer", "minimum": 1},
    )
    dtype: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: element type. Default: float32.",
        json_schema_extra={"enum": list(DTYPE_SIZES_BYTES)},
    )
    backend: str | SkipJsonSchema[None] = Field(
        default=None,
        description="Fixed parameter: which kernel runs; `/workloads` lists the choices."
        " Default: `dense`.",
        json_schema_extra={"minLength": 1},
    )

    @property
    def fixed_parameters(self) -> dict[str, object]:
        """Every fixed parameter given, by name: the named ones and any further one; and `vary`."""
        named = {
            "vary": self.vary,
            "batch": self.batch,
            "dtype": self.dtype,
            "backend": self.backend,
        }
        given: dict[str, object] = {k: v for k, v in named.items() if v is not None}
        return given | (self.model_extra or {})


class LhpQuery(WindowQuery):
    """The query parameters of `GET /lhp`; further ones as in `WindowQuery`."""

    basis: Basis = Field(
        default="measured",
        description="What the answer rests on. `measured`: on measurements; what isn't known yet is"
        " measured first. `predicted`: on what the host has learned from its sweeps; that takes"
        " milliseconds and measures nothing. `any`: on measurements if they are known; otherwise,"
        " the prediction comes at once, and the race is queued (`sweep`, `Location`).",
    )
    unproven: Literal["keep", "move"] = Field(
        default="keep",
        description="For predictions that aren't believed, because too few earlier ones were held"
        " against measurements, or too many of them were wrong: `keep` the dims, or `move` to the"
        " candidate anyway.",
    )
    prefer: Literal["fastest", "nearest", "largest"] = Field(
        default="fastest",
        description="Which to choose among the larger dims that are confidently faster: the"
        " `fastest`, the `nearest` (least growth: the sum of the shares by which the dims grow), or"
        " the `largest` (most capacity: the product of the dims).",
    )
    slack: str | SkipJsonSchema[None] = Field(
        default=None,
        description="For `nearest` and `largest`: larger dims also count if they are confidently"
        " at most this share slower, `1%` or `0.01`. Default: only if they are confidently faster."
        " With `platforms`, also for `fastest`, where the default is 0.5 %.",
        json_schema_extra={"pattern": SHARE_PATTERN},
        examples=["1%"],
    )
    effort: Literal["quick", "thorough"] = Field(
        default="quick",
        description="How closely to look for the `fastest`. `quick` looks at a sample of the"
        " window, guided by a model of its rows and columns. `thorough` looks at every point"
        " before it races, so that it also finds a lone fast point; it takes several times as"
        " long.",
    )
    wait: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="How long to wait for a measurement, seconds, before 202 is returned.",
    )
    budget: Budget | None = Field(
        json_schema_extra=hide_null,
        default=None,
        description="Longest measuring time, seconds, if the answer isn't known yet; without it,"
        " as long as the effort takes. If it is too short for any verdict, the answer is"
        " `dims`, with `cut_short`.",
    )
    margin: str | SkipJsonSchema[None] = Field(
        default=None,
        description="How closely the answer must be known, if `prefer` is `fastest`: nothing larger"
        " may be more than this share faster, `1%` or `0.01`. Default: what can be resolved,"
        " 1 % at best. A margin that can't be reached is measured for `settle` seconds, once.",
        json_schema_extra={"pattern": SHARE_PATTERN},
        examples=["1%"],
    )
    settle: Budget | None = Field(
        json_schema_extra=hide_null,
        default=None,
        description="How long to go on measuring for certainty, seconds (default 3).",
    )
    max_age: str | SkipJsonSchema[None] = Field(
        default=None,
        description="How old measurements may be: seconds, or a number with `s`, `min`, `h` or `d`."
        " Older ones don't count, and the window is measured again. `0`: measure now. After a 202,"
        " ask again with the time since the first question, or without it.",
        json_schema_extra={"pattern": DURATION_PATTERN},
        examples=["7d"],
    )
    platforms: str | SkipJsonSchema[None] = Field(
        default=None,
        description="One answer for several platforms, instead of `platform`: `all` those that"
        " hosts are on now, or keys separated by commas. `lhp` is confidently no slower on each."
        " The `fastest` is also faster on one at least; it gains most where it gains least. `slack`"
        " says how much slower still counts as no slower.",
        examples=["all"],
        json_schema_extra={"minLength": 1},
    )


class FasterBackend(ResponseModel):
    """Another kernel of the same product or network, confidently faster."""

    backend: Literal["dense", "packed", "compiled"] = Field(description="The faster kernel.")
    speedup: float = Field(
        description="Latency of the backend asked about, divided by that of this one."
    )
    speedup_interval: tuple[float, float] = Field(
        description="95 % interval on `speedup`, from rounds that had no part in the choice."
    )
    curve: str = Field(description="Id of the curve that compares the kernels.")


class PlatformFigures(ResponseModel):
    """What an answer for several platforms says of one of them."""

    platform: str = Field(description="Key of the platform.")
    host: str = Field(description="Host that measured.")
    latency_s: float = Field(description="Median latency at `dims`, seconds per call.")
    lhp_latency_s: float = Field(description="Median latency at `lhp`, seconds per call.")
    speedup: float = Field(description="`latency_s` divided by `lhp_latency_s`, paired.")
    speedup_interval: tuple[float, float] = Field(
        description="95 % interval on `speedup`. It allows for the choice among several dims."
    )
    verdict: Literal["faster", "slower", "ambiguous"] = Field(
        description="How `lhp` compares with `dims` here. `ambiguous`: it is confidently slower by"
        " less than `slack`, if at all."
    )
    margin: float | None = Field(
        description="Nothing larger in this window is more than this share faster here than `lhp`."
        " Null if that isn't known."
    )
    facts: list[str] = Field(description="Ids of the facts that `speedup` was combined from.")
    curve: str = Field(description="Id of the curve that the latencies were read from.")
    measured_at: dt.datetime = Field(description="When the curve's last sample was taken.")
    stale: bool = Field(description="As in the answer.")
    own_lhp: Dims = Field(description="What the answer for this platform alone would be.")
    own_speedup: float = Field(description="The `speedup` of `own_lhp`.")


class LhpAnswer(ResponseModel):
    """The larger dims that cost no more than the ones asked for."""

    basis: Literal["measured"] = Field(
        default="measured", description="Always `measured`: this is no prediction."
    )
    dims: Dims = Field(description="The dims asked for.", examples=[[1197, 317]])
    lhp: Dims = Field(
        description="The dims to use. Equal to `dims` if nothing larger is confidently faster.",
        examples=[[1200, 320]],
    )
    is_lhp: bool = Field(
        description="Whether `dims` is itself a latency hysteresis point. After a grid sweep: every"
        " larger point is confidently slower. After a survey or a settled race: the best rivals"
        " are. A race that isn't settled doesn't say so."
    )
    grow_by: Dims = Field(description="`lhp` minus `dims`, per axis.", examples=[[3, 3]])
    latency_s: float = Field(description="Median latency at `dims`, seconds per call.")
    lhp_latency_s: float = Field(description="Median latency at `lhp`, seconds per call.")
    latency_interval_s: tuple[float | None, float | None] = Field(
        default=(None, None),
        description="95 % interval on `latency_s`; null for fewer than 6 samples of `dims`.",
    )
    speedup: float = Field(
        description="`latency_s` divided by `lhp_latency_s`, paired; 1 if dims are equal."
    )
    speedup_interval: tuple[float, float] = Field(
        description="95 % interval on `speedup`, from samples taken after the choice was made."
    )
    verdict: Literal["faster", "slower", "ambiguous"] = Field(
        description="How the best larger dims compare with `dims`: `faster` (they are the answer),"
        " `slower` (`dims` is the answer) or `ambiguous` (the difference is too small to tell; the"
        " answer is `dims`). With `slack`, `lhp` may be larger than `dims` with any verdict: it is"
        " confidently at most that share slower."
    )
    settled: bool = Field(
        default=False,
        description="Whether the answer is known as closely as was wanted (`margin`). False after"
        " the time was up, and if no race of this window has looked for anything faster.",
    )
    margin: float | None = Field(
        default=None,
        description="Nothing larger in this window is more than this share faster than `lhp` (95 %,"
        " or 90 % if facts answer with other dims than the newest race;"
        " of dims that were never compared, the race's model says so). Null if that isn't known.",
        examples=[0.013],
    )
    unseen_risk: float | None = Field(
        default=None,
        description="The model's probability that larger dims that were never compared are faster"
        " than `lhp` by more than `margin`. For `nearest` and `largest`: that such dims would have"
        " been preferred to `lhp`, because they are no slower. Null if there is no model.",
    )
    edge: bool = Field(
        default=False,
        description="Whether `lhp` is the last position of the window on an axis: a larger"
        " `max_growth` may find something better.",
    )
    facts: list[str] = Field(
        default_factory=list,
        description="Ids of the facts (`/facts`) that `speedup` was combined from; empty if it was"
        " read from the curve.",
    )
    contradicts: list[str] = Field(
        default_factory=list,
        description="Ids of facts about larger dims of this window that said otherwise, and that"
        " later facts about the same dims overrule.",
    )
    prefer: Literal["fastest", "nearest", "largest"] = Field(description="As asked.")
    slack: float = Field(
        default=0.0, description="As asked: by which share `lhp` may be slower than `dims`."
    )
    workload: str = Field(description="Key of the workload.")
    platform: str = Field(description="Key of the platform measured on.")
    host: str = Field(description="Host that measured.")
    curve: str = Field(description="Id of the curve that the answer was read from.")
    measured_at: dt.datetime = Field(description="When the curve's last sample was taken.")
    num_samples: int = Field(description="Samples of `dims` and `lhp` together.")
    kernels: list[KernelAt] = Field(
        default_factory=list,
        description="The kernels that ran at `dims` and at `lhp`, as far as they are known. They"
        " are looked for once the curve is kept: a later answer may have them.",
    )
    why: str = Field(
        default="",
        description="What the kernels at points of this window say about the answer, in a sentence"
        " for people. Empty if they aren't known.",
        examples=["the same kernel at both: matmul brg_matmul:avx512_core_bf16"],
    )
    faster_backend: FasterBackend | None = Field(
        default=None,
        description="The faster one of `dense` and `packed` at `dims` in the same dtype, if it"
        " isn't the one asked about. Null if none is known to be faster. The two are"
        " compared in the background after a window was measured on demand: for `linear` and"
        " `matmul`, and for `hlstm` and `hlstm_lm` if the query gives no budget.",
    )
    comparing_backends: bool = Field(
        default=False,
        description="Whether that comparison waits or is under way: a later answer to the same"
        " question may have a `faster_backend`.",
    )
    evidence: EvidenceInfo = Field(
        default_factory=EvidenceInfo, description="What the measurement of the curve took."
    )
    cut_short: bool = Field(
        default=False,
        description="Whether the `budget` ended before any larger dims could be judged: `lhp` is"
        " `dims` because nothing is known, not because nothing is faster.",
    )
    disturbed: bool = Field(
        default=False,
        description="Whether others used the measured device meanwhile, for more than a tenth of"
        " its time: latencies may be too long.",
    )
    noisy: bool = Field(
        default=False,
        description="Whether more than 30 % of the samples were disturbed, or the 95 % interval on"
        " `latency_s` is wider than 20 % of it.",
    )
    caveats: list[str] = Field(
        default_factory=list,
        description="Reasons to doubt the latencies, and what would help, as texts for people. One"
        " text each for `disturbed` and `noisy`.",
    )
    stale: bool = Field(
        description="Whether the host's platform or timing protocol has changed since. The"
        " curve then describes the platform named here, not what the host would measure now."
    )
    stale_because: list[str] = Field(
        default_factory=list,
        description="If it is stale: each field of the platform, or of the timing, that is"
        " different now, with the value then and now.",
    )
    platforms: list[PlatformFigures] = Field(
        default_factory=list,
        description="If the answer is for several platforms (`platforms` in the query): what holds"
        " on each. All other figures then are those of the platform where `lhp` gains least."
        " (`speedup_interval` holds for the least gain, on whichever platform that is.)"
        " `settled` and `verdict` are said only if they hold on each; `margin` is the largest.",
    )
    database_away_s: int | SkipJsonSchema[None] = optional_field(
        description="Only while the service's database is away: seconds since it was last read. The"
        " answer comes from memory, and newer measurements may not be known."
    )
