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

CALIBRATION = 0
"""The round in which a sweep visits one point again and again, before all others."""


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


def find_first_visits(batches: Sequence[Samples], grid: Grid) -> FirstVisits:
    """The first visit of each point after the calibration, without disturbed ones."""
    columns = [
        np.stack([np.full(len(batch), number), np.arange(len(batch)), batch.point])
        for number, batch in enumerate(batches)
    ]
    number, visit, point = np.concatenate([np.zeros((3, 0), dtype=np.int64), *columns], axis=1)
    latency_s = np.concatenate([np.zeros(0), *(batch.latency_s for batch in batches)])
    counts = [(batch.round != CALIBRATION) & ~batch.unstable for batch in batches]
    kept = np.flatnonzero(np.concatenate([np.zeros(0, dtype=np.bool_), *counts]))
    kept = kept[np.sort(np.unique(point[kept], return_index=True)[1])]
    dims = np.stack(
        [
            np.array(axis.dims, dtype=np.int64)[position]
            for axis, position in zip(
                grid.axes, np.unravel_index(point[kept], grid.shape), strict=True
            )
        ],
        axis=1,
    )
    return FirstVisits(
        points=dims,
        log_latency=np.log(latency_s[kept]),
        near=Neighbours(number[kept], visit[kept]),
    )
