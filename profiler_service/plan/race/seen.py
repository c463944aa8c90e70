"""Samples of one kind, and the fit of the window's structure to them.

numpy only. Knows neither budgets nor stages. Legend: [samples] one for each visit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64, grouped_medians
from profiler_service.analysis.samples import Samples
from profiler_service.plan.base import Points
from profiler_service.plan.race.structure import Structure, StructureFit


class Seen:
    """Samples, all with or all without a warm-up, and the fit to them."""

    def __init__(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        *,
        is_warm: bool,
        known_noise: float,
        batches: Sequence[Samples] = (),
    ) -> None:
        """`known_noise` is the relative noise of one point's samples."""
        self._structure = structure
        self._shape = shape
        self._is_warm = is_warm
        self._known_noise = known_noise
        self._batches = list(batches)
        self._fit: StructureFit | None = None

    def add(self, samples: Samples) -> None:
        """Takes the samples of one more batch."""
        self._batches.append(samples)
        self._fit = None

    def copy(self) -> Seen:
        """A copy, to which other samples can be added."""
        return Seen(
            self._structure,
            self._shape,
            is_warm=self._is_warm,
            known_noise=self._known_noise,
            batches=self._batches,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is no sample."""
        return not any(map(len, self._batches))

    def fit(self) -> StructureFit:
        """The fit to all samples so far."""
        if self._fit is None:
            point, log, time = join(self._batches)
            positions = np.stack(np.unravel_index(point, self._shape), axis=1)
            is_first = np.zeros(len(point), dtype=bool)
            if not self._is_warm:
                is_first[np.unique(point, return_index=True)[1]] = True
            self._fit = self._structure.fit(positions, log, time, is_first, self._known_noise)
        return self._fit

    def medians(self) -> tuple[npt.NDArray[np.int64], F64]:
        """The points seen, ascending, and the median log latency of each, drift removed."""
        point, _, _ = join(self._batches)
        seen, median, _ = grouped_medians(point, self.fit().without_drift)
        return seen, median

    def fastest(self, field: Points, *, lenient: bool = False) -> Points:
        """The points of `field` that were seen, by the median of their visits, fastest first.

        `lenient` takes each point's fastest visit instead, so that one disturbed visit drops no
        point.
        """
        seen, score = self.medians()
        if lenient:
            point, _, _ = join(self._batches)
            np.minimum.at(score, np.searchsorted(seen, point), self.fit().without_drift)
        ranked = seen[np.argsort(score.round(6), kind="stable")]
        return ranked[np.isin(ranked, field)].astype(np.int32)

    def rank(self, candidates: Points) -> tuple[Points, F64]:
        """The candidates, fastest first, and how many standard errors each is behind the first."""
        fit = self.fit()
        point, _, _ = join(self._batches)
        score = fit.score(point, candidates)
        order = np.argsort(score, kind="stable")
        count = np.array([np.count_nonzero(point == c) for c in candidates[order].tolist()])
        error = 1.25 * fit.noise / np.sqrt(np.maximum(count, 1))
        behind = (score[order] - score[order[0]]) / np.hypot(error, error[0])
        return candidates[order], behind.round(6)


def join(batches: Sequence[Samples]) -> tuple[npt.NDArray[np.int64], F64, F64]:
    """Points, log latencies and ascending times (seconds of measuring) [samples] of the batches."""
    starts_s = np.cumsum([0.0, *(batch.seconds for batch in batches)])
    point = np.concatenate([np.zeros(0, dtype=np.int64), *(b.point for b in batches)])
    log = np.log(np.concatenate([np.zeros(0), *(b.latency_s for b in batches)]))
    time = np.concatenate(
        [np.zeros(0), *(s + b.time_s for s, b in zip(starts_s, batches, strict=False))]
    )
    return point.astype(np.int64), log, time
