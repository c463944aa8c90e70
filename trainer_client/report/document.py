"""What the report of a run contains, however it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_client.report.step_latencies import Latency
from trainer_client.run.logs import Row

NAMES: Mapping[str, str] = {
    "baseline": "baseline: stacked LSTM",
    "growth": "(a) weight growth",
    "units": "(b) row/column pruning",
    "lhp": "(c) row/column growth to the LHP",
    "weights": "(d) weight pruning",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the report of a run contains."""

    config: Mapping[str, Any]
    is_finished: bool
    rows: Sequence[Row]
    latencies: Mapping[str, Latency]
    """By step; empty if the service was never asked."""
    digests: Mapping[str, str]
    """SHA-256 of the run's logs, by name."""
