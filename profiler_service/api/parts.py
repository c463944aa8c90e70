"""What the routes work with, and how they get at it.

Knows no route.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from profiler_service.api.answers import AnswerBook
from profiler_service.api.closing import Closing
from profiler_service.api.crossovers import CrossoverBook
from profiler_service.api.on_demand import OnDemand
from profiler_service.api.race_book import RaceBook
from profiler_service.api.sweeping import SweepDesk
from profiler_service.settings import Settings
from profiler_service.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The service's parts, from the start of the application to its end."""

    settings: Settings
    store: Store
    book: AnswerBook
    desk: SweepDesk
    on_demand: OnDemand
    crossovers: CrossoverBook
    races: RaceBook
    closing: Closing


async def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
