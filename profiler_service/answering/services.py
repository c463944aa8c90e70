"""What answers are made with, put together once. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from profiler_service.answering.closing import Closing
from profiler_service.answering.crossover import CrossoverBook
from profiler_service.answering.known import AnswerBook
from profiler_service.answering.on_demand import OnDemand
from profiler_service.answering.queue import SweepDesk
from profiler_service.answering.race_history import RaceBook
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
