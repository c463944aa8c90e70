"""Samples, and the fit of the window's structure to them.

numpy only. Knows neither budgets nor stages. Legend: [samples] one for each visit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64, grouped_medians
from profiler_service.analysis.neighbours import Neighbours, Noise
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Points
from profiler_service.plan.race.structure import Structure, StructureFit


class Seen:
    """The samples of a race, and the fit to them."""

    def __init__(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        *,
        known_noise: Noise,
    ) -> None:
        """`known_noise` is that of one point's samples."""
        self._structure = structure
        self._shape = shape
        self._known_noise = known_noise
        self._batches: list[Samples] = []
        self._fit: StructureFit | None = None

    def add(self, samples: Samples) -> None:
        """Takes the samples of one more batch."""
        self._batches.append(samples)
        self._fit = None

    @property
    def batches(self) -> Sequence[Samples]:
        """The samples of each batch."""
        return self._batches

    @property
    def is_empty(self) -> bool:
        """Whether there is no sample."""
        return not any(map(len, self._batches))

    @property
    def points(self) -> npt.NDArray[np.int64]:
        """The point of each sample, [samples]."""
        return join(self._batches)[0]

    def fit(self) -> StructureFit:
        """The fit to all samples so far."""
        if self._fit is None:
            point, log = join(self._batches)
            positions = np.stack(np.unravel_index(point, self._shape), axis=1)
            near = Neighbours.of_lengths([len(batch) for batch in self._batches])
            self._fit = self._structure.fit(positions, log, near, self._known_noise)
        return self._fit

    def medians(self) -> tuple[npt.NDArray[np.int64], F64]:
        """The points seen, ascending, and the median log latency of each, without host states."""
        point, _ = join(self._batches)
        seen, median, _ = grouped_medians(point, self.fit().without_states)
        return seen, median

    def fastest(self, field: Points, *, lenient: bool = False) -> Points:
        """The points of `field` that were seen, by the median of their visits, fastest first.

        `lenient` takes each point's fastest visit instead, so that one disturbed visit drops no
        point.
        """
        seen, score = self.medians()
        if lenient:
            point, _ = join(self._batches)
            np.minimum.at(score, np.searchsorted(seen, point), self.fit().without_states)
        ranked = seen[np.argsort(score.round(6), kind="stable")]
        return ranked[np.isin(ranked, field)].astype(np.int32)


def join(batches: Sequence[Samples]) -> tuple[npt.NDArray[np.int64], F64]:
    """Points and log latencies [samples] of the batches."""
    point = np.concatenate([np.zeros(0, dtype=np.int64), *(b.point for b in batches)])
    log = np.log(np.concatenate([np.zeros(0), *(b.latency_s for b in batches)]))
    return point.astype(np.int64), log
