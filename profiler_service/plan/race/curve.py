"""The curve of a race: it has an answer only for the queried point.

numpy only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler_service.analysis.comparison import (
    F64,
    column_medians,
)
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.race.seen import Seen
from profiler_service.plan.race.settle import Final, Judgement
from profiler_service.plan.race.standing import fit_own_levels
from profiler_service.plan.spec import SweepSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class RaceOutcome:
    """What a race knows when it ends or is stopped."""

    calibration_s: F64
    """Latencies of the queried point's first calls."""
    seen: Seen | None
    """What narrowing saw; None before narrowing."""
    contested: Sequence[Samples]
    """Samples of the contest and the confirmations."""
    batches: Sequence[Samples]
    """All samples of the race."""
    failures: Mapping[int, str]
    has_ended: bool
    """Whether the race ran to its end."""
    finals: Sequence[tuple[Final, Judgement]]
    """Every final, and what it says."""
    judgement: Judgement | None
    """What the final says that the answer comes from; None if there was none."""
    evidence: Evidence


def build_race_curve(
    spec: SweepSpec,
    outcome: RaceOutcome,
    platform: Platform,
    protocol: TimingProtocol,
    measured_at: dt.datetime,
) -> LatencyCurve:
    """The curve of a race whose queried point has a latency."""
    n = spec.grid.size
    center, low, high = (np.full(n, np.nan) for _ in range(3))
    center[0] = np.median(np.log(outcome.calibration_s))
    if outcome.seen is not None and not outcome.seen.is_empty:
        seen, median = outcome.seen.medians()
        center[seen] = median
    contested = fit_own_levels(outcome.contested)
    point, value = contested.point, contested.log_latency
    for raced in np.unique(point).tolist():
        medians = column_medians(value[point == raced][:, np.newaxis])
        center[raced] = medians.center[0]
        low[raced], high[raced] = medians.low[0], medians.high[0]
    num_samples = sum(np.bincount(b.point, minlength=n) for b in outcome.batches)
    # Points seen only in the probe, without a warm-up, have samples but no comparable latency.
    num_samples = np.where(np.isnan(center), 0, num_samples)
    status = np.where(np.isnan(center), PointStatus.UNMEASURED, PointStatus.UNDECIDED)
    target = np.full(n, -1, dtype=np.int32)
    best_rival = np.full(n, -1, dtype=np.int32)
    ratio, ratio_low, ratio_high = (np.full(n, np.nan) for _ in range(3))
    if outcome.has_ended:
        target[0] = 0
    if (judgement := outcome.judgement) is not None:
        is_moved = judgement.answer != 0
        rival = judgement.answer if is_moved else judgement.best
        comparison = judgement.comparisons[rival]
        best_rival[0] = rival
        ratio[0] = comparison.ratio
        ratio_low[0], ratio_high[0] = comparison.low, comparison.high
        if is_moved:
            target[0] = rival
            status[0] = PointStatus.DOMINATED
        elif outcome.evidence.settled and _are_all_slower(judgement):
            status[0] = PointStatus.LHP
    return LatencyCurve(
        workload=spec.workload,
        platform=platform,
        protocol=protocol,
        grid=spec.grid,
        latency_s=np.exp(center),
        low_s=np.exp(low),
        high_s=np.exp(high),
        num_samples=np.asarray(num_samples, dtype=np.int32),
        status=status.astype(np.int8),
        answers=AnswerTable(
            target=target,
            ratio=ratio,
            ratio_low=ratio_low,
            ratio_high=ratio_high,
            rival=best_rival,
        ),
        measured_at=measured_at,
        failures=dict(outcome.failures),
        evidence=replace(outcome.evidence, candidates=int(np.count_nonzero(num_samples)) - 1),
        confirmed=_list_confirmed(spec, outcome),
    )


def _are_all_slower(judgement: Judgement) -> bool:
    return {each.verdict for each in judgement.comparisons.values()} == {"slower"}


def _list_confirmed(spec: SweepSpec, outcome: RaceOutcome) -> tuple[ConfirmedPair, ...]:
    """The comparison of each finalist with the queried point.

    Of one that was in several finals, the comparison with the most pairs. Points that failed are
    left out, and comparisons of so few pairs that an end of their interval isn't known.
    """
    pairs: dict[int, ConfirmedPair] = {}
    for final, judgement in outcome.finals:
        for rival, comparison in judgement.comparisons.items():
            if rival in outcome.failures or not comparison.is_bounded:
                continue
            if rival in pairs and pairs[rival].num_pairs >= comparison.num_pairs:
                continue
            origin = final.find_origin(rival)
            pairs[rival] = ConfirmedPair(
                dims=spec.grid.first,
                rival=spec.grid.dims(rival),
                verdict=comparison.verdict,
                ratio=comparison.ratio,
                low=comparison.low,
                high=comparison.high,
                num_pairs=comparison.num_pairs,
                num_children=origin.num_children,
                num_arenas=origin.num_arenas,
                between_arenas=origin.between_arenas,
                noise=origin.noise,
                tau=origin.tau,
            )
    return tuple(pairs.values())
