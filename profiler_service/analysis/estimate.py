"""Turns raw samples into a curve's contents: drift removal, medians, verdicts, the answer table.

numpy only. Knows neither how samples were planned nor where curves are kept.
Derivation: docs/explanation/hysteresis.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import (
    CONFIDENCE,
    F64,
    column_medians,
    grouped_medians,
    interval_rank,
    smooth_drift,
)
from profiler_service.analysis.curve import I8, I32, AnswerTable, PointStatus
from profiler_service.analysis.lhp import find_confirmed_lhps, find_edges, suffix_argmin
from profiler_service.analysis.samples import Samples

CHOOSE_EVERY = 3
"""Every third round chooses, the others judge. To show that a chosen point is faster takes more
samples than to find a point that is nearly the fastest."""
_PASSES = 2
_CHUNK_POINTS = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class GridEstimate:
    """The result of rounds over a grid; arrays of length n (number of points), log seconds."""

    log_latency: F64
    log_low: F64
    log_high: F64
    num_samples: I32
    status: I8
    answers: AnswerTable


def anchor_drift(log_latency: F64, time: F64, is_anchor: npt.NDArray[np.bool_]) -> F64:
    """The anchor's level at each of the times [n] (ascending), from its own visits alone.

    Medians of 5 neighbouring anchor visits, joined by straight lines. This needs nothing about
    the other points, so it can be used first. Zero if there is no anchor visit.
    """
    return smooth_drift(time[is_anchor], log_latency[is_anchor], at=time, block=5)


def round_matrix(
    batches: Sequence[Samples], num_points: int, anchor: int
) -> npt.NDArray[np.float32]:
    """Log latencies with drift removed, float32 [rounds, points]; NaN if not visited.

    First, every batch is divided by its anchor's level. Then each point's median over the rounds is
    its reference, and the slow part of the residuals is removed (`smooth_drift`). The second step
    uses every visit, not only those of the anchor. Several visits of one point in a round (the
    anchor has several) count as their median.
    """
    batches = [batch for batch in batches if len(batch)]
    num_rounds = 1 + max((int(batch.round.max()) for batch in batches), default=-1)
    logs = [np.log(batch.latency_s) for batch in batches]
    times = [batch.time_s.astype(np.float64) for batch in batches]
    anchors = [y[batch.point == anchor] for y, batch in zip(logs, batches, strict=True)]
    level = float(np.median(np.concatenate(anchors))) if any(map(len, anchors)) else 0.0
    corrected = [
        y - anchor_drift(y, t, batch.point == anchor) + (level if len(a) else 0.0)
        for y, t, a, batch in zip(logs, times, anchors, batches, strict=True)
    ]
    matrix = _fill(batches, corrected, num_rounds, num_points)
    for _ in range(_PASSES if num_rounds > 2 else 0):
        reference = column_medians(matrix).center
        corrected = [
            y - smooth_drift(t, y - reference[batch.point])
            for y, t, batch in zip(logs, times, batches, strict=True)
        ]
        matrix = _fill(batches, corrected, num_rounds, num_points)
    return matrix


def _fill(
    batches: Sequence[Samples], corrected: Sequence[F64], num_rounds: int, num_points: int
) -> npt.NDArray[np.float32]:
    matrix = np.full((num_rounds, num_points), np.nan, dtype=np.float32)
    if not batches:
        return matrix
    point = np.concatenate([batch.point for batch in batches]).astype(np.int64)
    round_ = np.concatenate([batch.round for batch in batches]).astype(np.int64)
    value = np.concatenate(corrected)
    cells, medians, _ = grouped_medians(round_ * num_points + point, value)
    matrix.ravel()[cells] = medians
    return matrix


def estimate_grid(
    batches: Sequence[Samples],
    shape: tuple[int, ...],
    anchor: int,
    failed: Collection[int] = (),
    confidence: float = CONFIDENCE,
) -> GridEstimate:
    """Medians, verdicts and answers of all points of a grid of `shape`, from its rounds.

    Points that have `failed` are left out, even after many samples: they must not be an answer.

    Some rounds choose, the others judge (CHOOSE_EVERY). The answer to each point is the suffix
    argmin of the medians of the choosing rounds. The interval of its ratio comes from the
    judging rounds, paired within each round. The smallest of many noisy values is too small on
    average; in rounds that had no part in the choice, the chosen point has no such bias.
    """
    num_points = int(np.prod(shape))
    matrix = round_matrix(batches, num_points, anchor)
    matrix[:, list(failed)] = np.nan
    overall = column_medians(matrix, confidence)
    chooses = np.arange(len(matrix)) % CHOOSE_EVERY == 0
    chosen = column_medians(matrix[chooses]).center
    target = suffix_argmin(chosen.reshape(shape))
    rival = _best_larger(chosen.reshape(shape), target)
    answers = _judge(matrix[~chooses], target.ravel(), rival.ravel(), confidence)
    measured = overall.count.reshape(shape) > 0
    lhps = find_confirmed_lhps(overall.low.reshape(shape), overall.high.reshape(shape), measured)
    status = np.full(num_points, PointStatus.UNMEASURED, dtype=np.int8)
    status[overall.count > 0] = PointStatus.UNDECIDED
    status[lhps.ravel()] = PointStatus.LHP
    status[find_edges(measured).ravel()] = PointStatus.EDGE
    moved = (answers.target >= 0) & (answers.target != np.arange(num_points))
    status[moved] = PointStatus.DOMINATED
    return GridEstimate(
        log_latency=overall.center,
        log_low=overall.low,
        log_high=overall.high,
        num_samples=np.where(overall.count > 0, _count_samples(batches, num_points), 0).astype(
            np.int32
        ),
        status=status,
        answers=answers,
    )


def _count_samples(batches: Sequence[Samples], num_points: int) -> I32:
    counts = np.zeros(num_points, dtype=np.int64)
    for batch in batches:
        counts += np.bincount(batch.point, minlength=num_points)
    return counts.astype(np.int32)


def _best_larger(latency: F64, target: I32) -> I32:
    """For every point, the number of the fastest point above it, without itself; -1 if none.

    `latency` has one array axis for each grid axis; `target` is its suffix argmin. If the target is
    another point, it is the rival. Otherwise the rival is the best of the targets of the next
    points on each axis.
    """
    best = np.full(latency.shape, np.inf)
    rival = np.full(latency.shape, -1, dtype=np.int32)
    fastest = np.where(target >= 0, latency.ravel()[target], np.inf)
    for axis in range(latency.ndim):
        here, there = ([slice(None)] * latency.ndim for _ in range(2))
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        closer = fastest[tuple(there)] < best[tuple(here)]
        best[tuple(here)][closer] = fastest[tuple(there)][closer]
        rival[tuple(here)][closer] = target[tuple(there)][closer]
    moved = target != np.arange(latency.size).reshape(latency.shape)
    return np.where(moved, target, rival)


def _judge(
    matrix: npt.NDArray[np.float32], target: I32, rival: I32, confidence: float
) -> AnswerTable:
    """The answer table for the chosen targets and rivals, judged on the rounds of `matrix`.

    A point whose target isn't confidently faster is its own answer.
    """
    rounds, n = matrix.shape
    own = np.arange(n, dtype=np.int32)
    ratio, low, high = (np.full(n, np.nan) for _ in range(3))
    larger = np.flatnonzero(rival >= 0)
    for start in range(0, len(larger), _CHUNK_POINTS):
        part = larger[start : start + _CHUNK_POINTS]
        pairs = column_medians(matrix[:, rival[part]] - matrix[:, part], confidence)
        ratio[part] = np.exp(pairs.center)
        low[part] = np.exp(pairs.low)
        high[part] = np.exp(pairs.high)
    measured = target >= 0
    # A point that is its own target stays. So does one with too few pairs: NaN compares false.
    answer = np.where((high < 1) & (target != own), target, own)
    # A point without judging rounds has no answer, not even itself.
    judged = np.count_nonzero(~np.isnan(matrix), axis=0) if rounds else np.zeros(n, dtype=int)
    answer = np.where(measured & (judged >= min_pairs()), answer, -1)
    return AnswerTable(
        target=answer.astype(np.int32), ratio=ratio, ratio_low=low, ratio_high=high, rival=rival
    )


def min_pairs() -> int:
    """Fewest pairs that give an interval at all: 6 at 95 %."""
    n = 1
    while interval_rank(n, CONFIDENCE) == 0:
        n += 1
    return n
