"""Problems, and the service's health."""

from __future__ import annotations

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


class Health(ResponseModel):
    """Whether the process lives, or is ready to serve."""

    status: Literal["ok", "unavailable"] = Field(description="`ok` if all is well.")
    detail: str = Field(default="", description="What the service waits for; empty if all is well.")
