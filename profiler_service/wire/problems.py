"""Problems, and the service's health."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from profiler_service.wire.base import ResponseModel

PROBLEM_PATH = "/problems/"
"""The beginning of every problem's type. The rest is the problem's name: `/problems/host-away`."""


class Problem(ResponseModel):
    """An error as `application/problem+json` (RFC 9457)."""

    type: str = Field(
        default="about:blank",
        description="Stable identifier of the kind of problem, for programs: `GET /problems` lists"
        " them all. A client that doesn't know one goes by `status`.",
        examples=["/problems/host-away"],
    )
    title: str = Field(description="The kind of problem in a few words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong.")
    hint: str = Field(default="", description="What to do about it.")
    see: str = Field(
        default="",
        description="Path of a resource with more details, relative to the service; may be empty.",
        examples=["/hosts"],
    )

    @property
    def name(self) -> str:
        """The last part of `type`, `host-away`; empty for a type that isn't one of ours."""
        return self.type.removeprefix(PROBLEM_PATH) if self.type.startswith(PROBLEM_PATH) else ""


class ProblemType(ResponseModel):
    """A kind of problem that the service may answer with."""

    type: str = Field(description="As in a problem.", examples=["/problems/host-away"])
    title: str = Field(description="As in a problem.")
    status: int = Field(description="The HTTP status that it has.")
    meaning: str = Field(description="When the service sends it.")
    transient: bool = Field(
        description="Whether the same request may succeed a little later: try again after"
        " `Retry-After` seconds."
    )


class WorkerInfo(ResponseModel):
    """The service's own worker: the process that measures on the same machine."""

    host: str = Field(description="The name under which it registers.")
    state: str = Field(
        description="`starting`: it will register soon. `measuring`: all is well. `paused`:"
        " it can't measure now, and tries again by itself. `standing by`:"
        " another worker of the host runs, and this one takes over when that ends. `suspended`:"
        " somebody has stopped the process (SIGSTOP). `restarting`: it has ended, or couldn't be"
        " started, and is started again. `unable`: it can't run as the machine is set up; it is"
        " tried again, but less often.",
        examples=["measuring"],
    )
    since: dt.datetime = Field(description="When it came into this state.")
    pid: int | None = Field(default=None, description="Its process; null if none runs.")
    num_ends: int = Field(
        default=0, description="How often it has ended in a row, without running for a minute."
    )
    last_exit: str = Field(
        default="",
        description="How it ended the last time, and why if it said so: `SIGKILL`.",
    )
    reason: str = Field(default="", description="Why it pauses, stands by, or can't run.")
    next_try_at: dt.datetime | None = Field(
        default=None, description="When it is started again; null while it runs."
    )
    detail: str = Field(default="", description="What is wrong; empty if all is well.")
    hint: str = Field(default="", description="What to do about it.")


class Health(ResponseModel):
    """Whether the process lives, or is ready to serve."""

    status: Literal["ok", "degraded"] = Field(
        description="`ok` if all is well; `degraded` if its own worker doesn't measure."
    )
    detail: str = Field(default="", description="What is wrong; empty if all is well.")
    worker: WorkerInfo | None = Field(
        default=None, description="The service's own worker; null if it has none."
    )
