"""Who measures, on what, and what can be measured."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from profiler_service.wire.base import ResponseModel


class PlatformInfo(ResponseModel):
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


class HostInfo(ResponseModel):
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


class ParameterInfo(ResponseModel):
    """A fixed parameter of a workload kind."""

    name: str
    default: int | str
    description: str
    choices: list[str]
    minimum: int | None
    maximum: int | None


class WorkloadInfo(ResponseModel):
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
