"""The samples of a sweep that a model learns from: the first visit of each point.

A point that is visited again was fast at first, or met a cache that its last visit had filled.
So repeated visits would say that the points which a race prefers are faster than they are.

numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.analysis.neighbours import Neighbours
from profiler_service.analysis.samples import Samples
from profiler_service.grid import Grid
from profiler_service.latency_model.settings import MODEL, LearningSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstVisits:
    """The first visits of a sweep's points, in the order in which they were made."""

    points: npt.NDArray[np.int64]
    """Dims [visits, axes]."""
    log_latency: F64
    """[visits]"""
    near: Neighbours
    """Which of them were made soon after one another."""

    def __len__(self) -> int:
        return len(self.points)


def find_first_visits(
    batches: Sequence[Samples], grid: Grid, settings: LearningSettings = MODEL.learning
) -> FirstVisits:
    """The very first visit of each point, if it was not disturbed and no part of the calibration.

    A sweep begins with batches that visit one point again and again, to warm up the host. That
    point is left out: its later visits are repeated ones. So it makes no difference if only the
    first sample of each point was kept, except that visits then seem nearer in time.
    """
    several = (number for number, batch in enumerate(batches) if _has_several(batch))
    begin = next(several, len(batches))
    columns = [
        np.stack([np.full(len(batch), number), np.arange(len(batch)), batch.point])
        for number, batch in enumerate(batches)
    ]
    number, visit, point = np.concatenate([np.zeros((3, 0), dtype=np.int64), *columns], axis=1)
    latency_s = np.concatenate([np.zeros(0), *(batch.latency_s for batch in batches)])
    unstable = np.concatenate([np.zeros(0, np.bool_), *(batch.unstable for batch in batches)])
    first = np.sort(np.unique(point, return_index=True)[1])
    kept = first[~unstable[first] & (number[first] >= begin)][: settings.most_visits]
    return FirstVisits(
        points=grid.dims_of(point[kept]).astype(np.int64),
        log_latency=np.log(latency_s[kept]),
        near=Neighbours(number[kept], visit[kept]),
    )


def _has_several(batch: Samples) -> bool:
    """Whether the batch visits more than one point."""
    return len(batch) > 0 and bool((batch.point != batch.point[0]).any())
