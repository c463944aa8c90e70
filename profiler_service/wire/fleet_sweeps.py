"""Sweeps of several hosts: requests and progress."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from profiler_service.wire.base import ResponseModel
from profiler_service.wire.questions import LABEL_PATTERN
from profiler_service.wire.sweeps import SweepInfo, SweepRequest


class FleetSweepRequest(SweepRequest):
    """A request to measure a grid on each host with a label. It names no `host`."""

    label: str = Field(
        description="Label of the hosts: `pool:train`.",
        examples=["pool:train"],
        json_schema_extra={"pattern": LABEL_PATTERN},
    )


class FleetSweepInfo(ResponseModel):
    """The same sweep on several hosts."""

    id: str = Field(description="Id of the fleet sweep; later ones have larger ids.")
    label: str = Field(description="Label of the hosts.")
    state: Literal["queued", "running", "done", "cancelled", "failed"] = Field(
        description="That of all together. It is final when every sweep has ended: `done` if all"
        " are, else `failed` or `cancelled`."
    )
    created_at: dt.datetime = Field(description="When it was asked for.")
    fraction: float = Field(description="Mean share of the work that is done, 0 to 1.")
    sweeps: list[SweepInfo] = Field(description="The sweep of each host, by the host's name.")

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "cancelled", "failed")


class FleetSweepPage(ResponseModel):
    """Sweeps of several hosts, newest first."""

    items: list[FleetSweepInfo] = Field(description="The fleet sweeps of this page.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")
