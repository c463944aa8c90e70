"""What visits say about the effects of features, summed up: enough for a fit, at any time.

Statistics of several sweeps are sums, and old ones can be forgotten by a factor. numpy only.
Legend: [p] features. Derivation: docs/explanation/latency-model.md, "The statistics".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64
from profiler_service.latency_model.settings import MODEL, LearningSettings

Windows = npt.NDArray[np.int64]
"""[windows, axes, 2] The first and the last dim of each axis."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Sums over the visits of all sweeps. Each difference of neighbours counts by its noise."""

    matrix: F64
    """[p, p] How much the visits say about each pair of effects."""
    right: F64
    """[p] What they say."""
    num_visits: float
    """Number of visits, without those that are forgotten."""
    num_sweeps: float
    """Number of sweeps, likewise."""
    windows: Windows
    """Where they were, the oldest first."""

    @classmethod
    def empty(cls, size: int, num_axes: int) -> Statistics:
        """Of no visit, with `size` features."""
        return cls(
            matrix=np.zeros((size, size)),
            right=np.zeros(size),
            num_visits=0.0,
            num_sweeps=0.0,
            windows=np.zeros((0, num_axes, 2), dtype=np.int64),
        )

    def __add__(self, later: Statistics) -> Statistics:
        """Of the visits of both."""
        return Statistics(
            matrix=self.matrix + later.matrix,
            right=self.right + later.right,
            num_visits=self.num_visits + later.num_visits,
            num_sweeps=self.num_sweeps + later.num_sweeps,
            windows=np.concatenate([self.windows, later.windows]),
        )

    def followed_by(
        self, later: Statistics, settings: LearningSettings = MODEL.learning
    ) -> Statistics:
        """Of the visits of both, where those before `later` are forgotten a little.

        By the number of sweeps that came since, and by no clock.
        """
        share = float(0.5 ** (later.num_sweeps / settings.half_life))
        both = self.scaled(share) + later
        return replace(both, windows=both.windows[-settings.windows :])

    def scaled(self, share: float) -> Statistics:
        """As if only this share of the visits had been made."""
        return replace(
            self,
            matrix=share * self.matrix,
            right=share * self.right,
            num_visits=share * self.num_visits,
            num_sweeps=share * self.num_sweeps,
        )


def add_up(several: Sequence[Statistics], size: int, num_axes: int) -> Statistics:
    """The sum of them all, in this order."""
    return sum(several, Statistics.empty(size, num_axes))
