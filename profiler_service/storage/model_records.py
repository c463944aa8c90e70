"""What the store returns about latency models. Knows no database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.latency_model.calibration import Score
from profiler_service.latency_model.fit import Spreads
from profiler_service.latency_model.statistics import Statistics
from profiler_service.workload import Dims, Workload


@dataclass(frozen=True, kw_only=True)
class ModelKey:
    """What a model is of: only such latencies can be learned from together."""

    workload: Workload
    platform_key: str
    protocol_key: str


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """A model without its statistics."""

    key: ModelKey
    generation: int
    """Raised by every change."""
    num_visits: float
    num_sweeps: float
    """Without those that are forgotten."""
    spreads: Spreads | None
    """Those learned; None before the first time."""
    updated_at: dt.datetime


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """A model."""

    header: ModelHeader
    statistics: Statistics


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlearned:
    """A sweep that a model doesn't know yet."""

    sweep_id: str
    key: ModelKey
    grid: Grid
    batches: Sequence[Samples]
    """Of a pruned sweep: the first visit of each point."""


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """A prediction that was held against a measurement."""

    workload_key: str
    dims: Dims
    """The queried point."""
    rival: Dims
    """The one that the model chose."""
    score: Score
    scored_at: dt.datetime | None = None
    """None before it is stored."""
