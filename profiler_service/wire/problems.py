"""What is wrong, and whether the service is well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from profiler_service.wire.base import WireModel


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
