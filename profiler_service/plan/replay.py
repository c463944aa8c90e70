"""Restores a planner from the stored samples. Only this module replays committed batches.

Planners are deterministic: with the same batches they make the same decisions again. So only
samples are stored. numpy only; knows no store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from profiler_service.analysis.samples import Samples
from profiler_service.errors import ReplayError
from profiler_service.plan.base import Batch


class Replayable(Protocol):
    """What a replay needs of a planner or a wrapper of one."""

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""

    def record(self, samples: Samples) -> None:
        """Takes the samples of the last batch."""


def replay(planner: Replayable, batches: Iterable[Samples]) -> None:
    """Records all batches, in the order in which they were measured, in a new planner.

    Raises ReplayError at the first batch that differs from the one that the planner asks for.
    """
    for number, samples in enumerate(batches):
        batch = planner.next_batch()
        if batch is None or not fits(samples, batch):
            raise ReplayError(
                f"the stored samples don't fit the plan: batch {number} was measured by another"
                " version of the software",
                hint="start the sweep again; its curve, if it has one, stays",
                see="/curves",
            )
        planner.record(samples)


def fits(samples: Samples, batch: Batch) -> bool:
    """Whether the samples are those of `batch`: one for each visit, except of failed points."""
    failed = list(samples.failures)
    kept, planned = ~np.isin(samples.point, failed), ~np.isin(batch.point, failed)
    return (
        samples.calls == batch.calls
        and np.array_equal(samples.point[kept], batch.point[planned])
        and np.array_equal(samples.round[kept], batch.round[planned])
    )
