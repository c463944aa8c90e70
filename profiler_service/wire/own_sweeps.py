"""Sweeps of a user's own code: what the user's command sends, which measures them itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from profiler_service.wire.base import RequestModel
from profiler_service.wire.sweeps import SweepRequest

MAX_VISITS = 16_384
"""Most samples in one batch."""
MAX_REASON = 500
"""Most characters of the reason why a point couldn't be measured, or a sweep failed."""
_LONGEST_S = 86_400.0
_SHORTEST_S = 1e-12
"""No call is shorter. Much smaller numbers are 0 in a curve, whose latencies have 32 bits."""

_Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Texts = Annotated[dict[_Text, Annotated[str, StringConstraints(max_length=500)]], Field()]
_Count = Annotated[int, Field(ge=0, lt=1 << 31)]
_Seconds = Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False)]
_Latency = Annotated[float, Field(ge=_SHORTEST_S, le=_LONGEST_S, allow_inf_nan=False)]
_Reason = Annotated[str, StringConstraints(max_length=MAX_REASON)]


class PlatformFields(RequestModel):
    """The platform that the measuring process has found."""

    device: Literal["cpu", "cuda"] = Field(description="The kind of device.")
    device_model: _Text = Field(description="Name of the processor or GPU.")
    memory_bytes: Annotated[int, Field(ge=0, lt=1 << 60)] = Field(
        description="Memory of the device, in whole GiB."
    )
    driver: _Text = Field(description="GPU driver; for a CPU, the operating system's kernel.")
    framework: _Text = Field(description="For example `torch 2.13.0+cpu`.")
    libraries: _Texts = Field(max_length=64, description="Versions of BLAS and kernel libraries.")
    threads: Annotated[int, Field(ge=1, le=65_536)] = Field(
        description="Threads that a measured call may use."
    )
    cpus: Annotated[int, Field(ge=1, le=65_536)] = Field(
        description="Processors that these threads are pinned to."
    )
    flags: _Texts = Field(
        max_length=256, description="Everything else that changes kernels or arithmetic."
    )


class ProtocolFields(RequestModel):
    """How latencies are timed."""

    timer: Annotated[str, StringConstraints(pattern="^[a-z_]{1,40}$")] = Field(
        description="`perf_counter` or `cuda_slope`."
    )
    cache: Literal["warm", "flushed"] = Field(description="The cache before each call.")
    version: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="Version of the measuring code."
    )


class OwnSweepRequest(SweepRequest):
    """A sweep of the user's own code, which the sender measures."""

    workload: Literal["callable"] = Field(default="callable", description="Always this kind.")
    machine: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Name of the machine that measures. Its curves are those of the host of that"
        " name with ` (own code)` behind it.",
        examples=["workstation"],
    )
    host: None = Field(default=None, description="No host measures it.")
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = Field(
        default=0, description="Of the plan's random order."
    )
    platform: PlatformFields = Field(description="What it is measured on.")
    protocol: ProtocolFields = Field(description="How it is measured.")


class OwnFailure(RequestModel):
    """A point that couldn't be measured."""

    point: _Count = Field(description="Number of the point in the grid.")
    reason: _Reason = Field(description="Why.")


class OwnBatch(RequestModel):
    """The samples of one batch, in the order in which they were taken.

    All lists but `failures` are equally long.
    """

    number: _Count = Field(description="Number of the batch, from 0, without a gap.")
    point: Annotated[list[_Count], Field(max_length=MAX_VISITS)] = Field(
        description="The point of each sample, as its number in the grid."
    )
    round: Annotated[list[_Count], Field(max_length=MAX_VISITS)] = Field(
        description="The round of each sample."
    )
    time_s: Annotated[list[_Seconds], Field(max_length=MAX_VISITS)] = Field(
        description="Seconds from the start of the batch to each sample."
    )
    latency_s: Annotated[list[_Latency], Field(max_length=MAX_VISITS)] = Field(
        description="Seconds per call."
    )
    unstable: Annotated[list[bool], Field(max_length=MAX_VISITS)] = Field(
        description="Whether every attempt at the sample was disturbed."
    )
    lost_s: Annotated[list[_Seconds | None], Field(max_length=MAX_VISITS)] | None = Field(
        default=None,
        description="Seconds per call in which a measuring thread had no processor; null if that"
        " isn't known.",
    )
    calls: Annotated[int, Field(ge=1, le=1024)] = Field(description="Calls in each sample.")
    child: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="Number of the measuring process."
    )
    num_discarded: _Count = Field(default=0, description="Disturbed samples, taken again.")
    seconds: _Seconds = Field(description="Time of the whole batch.")
    others_s: Annotated[float, Field(ge=-_LONGEST_S, le=_LONGEST_S, allow_inf_nan=False)] = Field(
        default=0.0, description="Time of the device that others used meanwhile, seconds."
    )
    watched_s: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = Field(
        default=0.0, description="All time of the device while that was watched, seconds."
    )
    failures: Annotated[list[OwnFailure], Field(max_length=MAX_VISITS)] = Field(
        default_factory=list, description="Points of this batch that couldn't be measured."
    )
    fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        description="Estimated share of the sweep that is done after it."
    )
    stage: Annotated[str, StringConstraints(max_length=100)] = Field(
        description="What is done next, in a few words."
    )


class OwnSweepEnd(RequestModel):
    """How the sweep ends."""

    state: Literal["done", "cancelled", "failed"] = Field(
        description="`done` only when its plan has no batch left. `cancelled` keeps what was"
        " measured."
    )
    error: _Reason = Field(default="", description="Why it failed.")
