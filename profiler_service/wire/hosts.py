"""Hosts, platforms and workload kinds."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from profiler_service.wire.base import RequestModel, ResponseModel


class PlatformInfo(ResponseModel):
    """Everything that must be equal for latencies to be comparable."""

    key: str = Field(description="Stable key: equal platforms have equal keys.")
    device: str = Field(description="`cpu` or `cuda`.")
    device_model: str = Field(description="Name of the processor or GPU.")
    memory_bytes: int = Field(description="Memory of the device, in whole GiB.")
    driver: str = Field(description="GPU driver; for a CPU, the operating system's kernel.")
    framework: str = Field(description="For example `torch 2.13.0+cpu`.")
    libraries: dict[str, str] = Field(description="Versions of BLAS and kernel libraries.")
    threads: int = Field(description="Threads that a measured call may use.")
    cpus: int = Field(description="Processors that these threads are pinned to.")
    flags: dict[str, str] = Field(
        description="Everything else that changes kernels or arithmetic: instruction sets, settings"
        " and environment variables."
    )


Label = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")
]
Labels = Annotated[dict[Label, Label], Field(max_length=32)]


class HostState(StrEnum):
    """`pending → approved → ready ⇄ busy → draining → retired`; `away` while its worker is silent;
    `quarantined` until an operator decides.
    """

    PENDING = "pending"
    APPROVED = "approved"
    READY = "ready"
    BUSY = "busy"
    AWAY = "away"
    QUARANTINED = "quarantined"
    DRAINING = "draining"
    RETIRED = "retired"


class HostChange(RequestModel):
    """What an operator changes of a host; what is left out stays."""

    name: str | None = Field(default=None, description="Its new name.", max_length=255)
    labels: Labels | None = Field(
        default=None, description="Its labels, all of them: name → value."
    )
    status: Literal["approved", "draining"] | None = Field(
        default=None,
        description="`approved`: it may measure, on the platform that it has now; `draining`: it"
        " ends the sweeps that it has, and takes no new ones.",
    )
    split_to: str | None = Field(
        default=None,
        description="Of a host whose platform has changed: the name of a new host, which its"
        " machine is from now on. This one is retired with all that it measured.",
        max_length=255,
    )


class PlatformChangeInfo(ResponseModel):
    """What a change of a host's platform changed: some facts of the one before, measured again."""

    before: str = Field(description="Key of the platform before.")
    after: str = Field(description="Key of the platform since.")
    changed_at: dt.datetime = Field(description="When it changed, the last time.")
    differences: list[str] = Field(description="What is different: `onednn: 3.12 → 3.13`.")
    state: str = Field(
        description="`open`: facts are measured again while the host is idle; `done`: they were;"
        " `interrupted`: the platform changed again before that; `returned`: the host is back on a"
        " platform that it was on before, so nothing is measured again."
    )
    num_facts: int | None = Field(
        description="How many facts are measured again; null as long as they aren't chosen."
    )
    num_agree: int = Field(description="Those whose ratio is the same.")
    num_changed: int = Field(description="Those whose ratio surely isn't.")
    num_unclear: int = Field(description="Those whose intervals are too wide to say.")
    num_failed: int = Field(description="Those that couldn't be measured.")
    agreeing_share: tuple[float, float] | None = Field(
        description="The exact 95 % interval on the share of such pairs that agree; null if nothing"
        " is known of any."
    )
    verdict: str = Field(
        description="Whether the platforms `agree` or `differ`; `unclear` if too few facts tell."
    )
    inherited: bool = Field(
        description="Whether what was learned on the platform before counts on this one, half"
        " trusted. Curves and facts never do."
    )
    finished_at: dt.datetime | None = Field(description="When all was measured again, or null.")
    summary: str = Field(description="All of this as a sentence.")


class HostInfo(ResponseModel):
    """A machine that measures."""

    name: str = Field(description="The name under which it has registered.")
    state: str | None = Field(
        default=None,
        description="Whether it measures; null from older services. `approved`: its worker hasn't"
        " been heard of yet; `away`: not lately; `draining`: it takes no new sweeps;"
        " `quarantined`: an operator must decide, see `wrong`.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="What operators say of it: name → value."
    )
    ephemeral: bool = Field(
        default=False, description="Whether it counts as retired after a day's silence."
    )
    wrong: str = Field(
        default="", description="What an operator should know of it; empty if nothing is wrong."
    )
    platform: str = Field(description="Key of the platform that it is on now.")
    protocol: str = Field(
        description="Key of its timing protocol; curves of another protocol are stale."
    )
    dtypes: list[str] = Field(description="Element types that its device supports.")
    backends: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Backend → the dtypes that it supports. Beside the backends of products:"
        " `packed_conv2d`, `compiled_layer` (all compiled layers but products), and `math` and"
        " `fused` of attention.",
    )
    registered_at: dt.datetime = Field(description="When it registered for the first time.")
    last_seen_at: dt.datetime = Field(description="Last heartbeat of its worker.")
    silent_s: float | None = Field(
        default=None,
        description="Seconds since then, by the database's clock; null from older services.",
    )
    clock_skew_s: float | None = Field(
        default=None,
        description="How far its clock is ahead of the database's, seconds; null if not known. Only"
        " the database's clock counts.",
    )
    present: bool = Field(description="Whether its worker has been heard of lately.")
    platform_change: PlatformChangeInfo | None = Field(
        default=None,
        description="The change that brought it to its platform; null if it never had another one,"
        " and from older services.",
    )


class ParameterInfo(ResponseModel):
    """A fixed parameter of a workload kind."""

    name: str = Field(description="Its name, which is also that of a query parameter.")
    default: int | str = Field(description="Its value if it is left out.")
    description: str = Field(description="What it means.")
    choices: list[str] = Field(description="The values allowed; empty for numbers.")
    minimum: int | None = Field(description="Smallest number allowed; null for choices.")
    maximum: int | None = Field(description="Largest number allowed; null for choices.")
    can_vary: bool = Field(
        default=False,
        description="Whether it can be an axis of a question or sweep, with `vary`: it is a whole"
        " number.",
    )


class WorkloadInfo(ResponseModel):
    """A workload kind."""

    name: str = Field(description="The name by which questions ask for it.")
    description: str = Field(description="What a call of it computes.")
    axes: list[str] = Field(description="Names of the dimensions that may grow, in order.")
    parameters: list[ParameterInfo] = Field(description="What stays fixed in one question.")
    error: str = Field(
        default="",
        description="Why it can't be measured: the package that brings it failed to import, for"
        " example. Its description, axes and parameters aren't known then. Empty otherwise.",
    )
