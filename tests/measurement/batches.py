"""Batches for the tests that measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from profiler_service.grid import Grid, GridAxis
from profiler_service.measurement.measurer import Measurer
from profiler_service.plan.base import Batch

LINE = Grid(axes=(GridAxis(first=1, count=100),))
"""Its point number i has dims (i + 1,)."""


def batch_of(dims: Sequence[int], *, calls: int = 1, warmup_calls: int = 0) -> Batch:
    """Visits of LINE's points with these dims, in this order, each in a round of its own."""
    return Batch(
        point=np.array(dims, dtype=np.int32) - 1,
        round=np.arange(len(dims), dtype=np.int32),
        calls=calls,
        warmup_calls=warmup_calls,
    )


def child_pid(measurer: Measurer) -> int:
    return measurer._children.get(0)[1].pid
