"""An oracle and a race by one rule of latency, instead of measurements."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.analysis.comparison import compare
from profiler_service.kinds import get_workload_kind
from profiler_service.widths.race import Outcome
from trainer_client.oracle.answers import Effort, LatencyAnswer, Prefer

Asked = tuple[tuple[int, ...], str, Mapping[str, int | str], tuple[int, ...]]


class EightsOracle:
    """Says that the next multiples of eight are faster, as far as other multiples allow.

    Notes dims, workload, parameters and multiples of what it was asked.
    """

    def __init__(self, errors: Mapping[str, Exception] | None = None) -> None:
        self.asked: list[Asked] = []
        self._errors = errors or {}

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        """Takes everything."""

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyAnswer:
        """Latencies fall by the share of dims that aren't multiples of eight."""
        given = (multiple_of,) * len(dims) if isinstance(multiple_of, int) else multiple_of
        multiples = tuple(given or (1,) * len(dims))
        get_workload_kind(workload).describe(params).check_dims(
            dims
        )  # a question that can be asked
        self.asked.append((tuple(dims), workload, dict(params or {}), multiples))
        if workload in self._errors:
            raise self._errors[workload]
        lhp = tuple(
            rounded if (rounded := -(-dim // 8) * 8) % multiple == 0 else dim
            for dim, multiple in zip(dims, multiples, strict=True)
        )
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        before_s = 1e-6 * math.prod(dims)
        after_s = before_s * (0.5 if lhp != tuple(dims) else 1)
        return LatencyAnswer(
            dims=tuple(dims),
            lhp=lhp,
            is_lhp=lhp == tuple(dims),
            latency_s=before_s,
            lhp_latency_s=after_s,
            speedup=before_s / after_s,
            speedup_interval=(before_s / after_s, before_s / after_s),
            verdict="faster",
            prefer=prefer,
            workload=workload,
            platform="p",
            host="anvil",
            curve="c1",
            measured_at=now,
            num_samples=300,
            stale=False,
            source="service",
            received_at=now,
        )


class RuledRace:
    """A race whose latencies follow a rule; notes which two modules met, by their latencies."""

    def __init__(self, latency_s: Callable[[nn.Module], float]) -> None:
        self.met: list[tuple[float, float]] = []
        self.times_s: list[float] = []
        self._latency_s = latency_s

    def __call__(
        self, models: Mapping[str, nn.Module], example: Example, *, reference: str, time_s: float
    ) -> Outcome:
        """Every sample is the rule's latency."""
        (other,) = [name for name in models if name != reference]
        reference_s, other_s = self._latency_s(models[reference]), self._latency_s(models[other])
        self.met.append((reference_s, other_s))
        self.times_s.append(time_s)
        return Outcome(
            chosen=other,
            comparison=compare(np.full(8, math.log(other_s / reference_s))),
            reference_s=reference_s,
            chosen_s=other_s,
            medians={reference: 1.0, other: other_s / reference_s},
        )
