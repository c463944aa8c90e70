"""Grid sweeps: measure every point, and spend most time on points whose dominance is undecided.

numpy only. Knows neither torch, nor storage, nor wall clocks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from profiler_service.analysis.comparison import CONFIDENCE
from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.analysis.estimate import CHOOSE_EVERY, GridEstimate, estimate_grid
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.base import Batch, SteppedPlanner


def plan_looks(first: int, last: int) -> tuple[int, ...]:
    """The numbers of rounds after which a sweep looks for points that may rest: 16 up to 300.

    The steps grow with the rounds, because intervals narrow with the square root of the rounds.
    """
    looks = [first]
    while looks[-1] < last:
        step = CHOOSE_EVERY * max(1, looks[-1] // 12)
        looks.append(min(looks[-1] + step, last))
    return tuple(looks)


class GridPlanner(SteppedPlanner):
    """Measures every point of the grid, the undecided ones longest.

    Each round visits every active point once, in a new random order, with the anchor (the middle
    one of the grid's candidates) before every 16 of them. At each of `plan_looks`, points that a
    larger one beats at REST_CONFIDENCE stop being measured: they rest. A resting point can't be an
    LHP. Every point that it would beat is also beaten by the point that beats it.

    The looks together may err with half of the probability that one interval allows, and the
    curve's own verdicts, at CURVE_CONFIDENCE, with the other half (Bonferroni). So a point is
    wrongly called dominated with probability 2.5 % at most, however often it was looked at.

    Measuring ends when all but LOOSE_SHARE of the active points have an interval on their median
    narrower than ± TARGET, and after MAX_ROUNDS in any case. No point rests only because its own
    interval is narrow. Two points are compared in the rounds that have both. A point whose interval
    is narrow by luck would leave its rivals too few rounds.
    """

    MIN_ROUNDS = 18
    """6 rounds choose, 12 judge. An interval of 12 pairs tolerates two outliers on each side."""
    MAX_ROUNDS = 300
    TARGET = 0.005
    LOOSE_SHARE = 0.1
    REST_CONFIDENCE = 1 - (1 - CONFIDENCE) / 2 / len(plan_looks(MIN_ROUNDS, MAX_ROUNDS))
    CURVE_CONFIDENCE = 1 - (1 - CONFIDENCE) / 2

    _is_cut_short = False
    """Whether the sweep's budget ended it."""

    def _plan(self) -> Generator[Batch, Samples, None]:
        self._rested: set[int] = set()
        candidates = np.setdiff1d(np.arange(self._num_points), self._others)
        anchor = int(candidates[len(candidates) // 2])
        while not (yield from self._calibrate(anchor)):
            remaining = [p for p in candidates.tolist() if p not in self._failures]
            if not remaining or len(self._failures) > 16:
                return  # every point that was tried failed
            anchor = int(self._rng.choice(remaining))
        self._anchor = anchor
        self._measured_from = len(self._batches)
        self._expected_rounds = 2 * self.MIN_ROUNDS
        active = np.setdiff1d(candidates, list(self._failures))
        num_undecided = len(active)
        looks = iter(plan_looks(self.MIN_ROUNDS, self.MAX_ROUNDS))
        next_look = next(looks)
        number = 0
        while number < self.MAX_ROUNDS:
            # Several rounds of a small grid fill a batch, one of a large grid takes several.
            count = min(max(1, self._batch_visits() // len(active)), next_look - number)
            rounds = [self._rng.permutation(active).astype(np.int32) for _ in range(count)]
            start = 0
            while start < len(active):
                parts = [order[start : start + self._batch_visits()] for order in rounds]
                done = number + count * start / len(active)
                self._advance(
                    self._share_done(done, len(active)),
                    f"round {number + 1}, {num_undecided} of {len(candidates)} points undecided",
                )
                if self._is_spent():
                    yield from self._end_early(anchor, number)
                    return
                samples = yield self._batch([self._with_anchors(p, anchor) for p in parts], number)
                self._learn_visit_s(samples)
                start += len(parts[0])
            number += count
            active = np.setdiff1d(active, list(self._failures))
            if not len(active):
                return
            if number == next_look:
                estimate = self._estimate(self.REST_CONFIDENCE)
                num_undecided = int(np.sum(estimate.status == PointStatus.UNDECIDED))
                is_beaten = estimate.status[active] == PointStatus.DOMINATED
                self._rested.update(active[is_beaten].tolist())
                active = active[~is_beaten]
                half = np.nan_to_num((estimate.log_high - estimate.log_low)[active] / 2, nan=1.0)
                if np.mean(half > self.TARGET) <= self.LOOSE_SHARE:
                    return
                # Intervals narrow with the square root of the rounds.
                share = (np.quantile(half, 1 - self.LOOSE_SHARE) / self.TARGET) ** 2
                self._expected_rounds = int(np.clip(number * share, number, self.MAX_ROUNDS))
                next_look = next(looks, self.MAX_ROUNDS)

    def _end_early(self, anchor: int, number: int) -> Generator[Batch, Samples, None]:
        """Measures the first point (that of a query) in any case, even with a very small budget."""
        self._is_cut_short = True
        measured = self._batches[self._measured_from :]
        if 0 not in self._failures and not any((batch.point == 0).any() for batch in measured):
            first = np.zeros(1, dtype=np.int32)
            yield self._batch([self._with_anchors(first, anchor)], number)

    def _is_spent(self) -> bool:
        """Whether the sweep's own budget has run out. What was measured is kept."""
        return self._spec.budget_s is not None and self._seconds >= self._spec.budget_s

    def _share_done(self, rounds: float, num_active: int) -> float:
        """Estimated share of all visits that has been made."""
        left = max(0.0, self._expected_rounds - rounds) * num_active
        return self._num_samples / (self._num_samples + left)

    def _estimate(self, confidence: float) -> GridEstimate:
        return estimate_grid(
            self._batches[self._measured_from :],
            self._spec.grid.shape,
            self._anchor,
            self._failures,
            confidence,
        )

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far."""
        measured = self._batches[getattr(self, "_measured_from", len(self._batches)) :]
        if not any(map(len, measured)):
            raise self._first_failure()
        estimate = self._estimate(self.CURVE_CONFIDENCE)
        answers = estimate.answers
        if self._rested:
            # These ratios come from the same rounds that made the points rest, which biases them.
            # An interval at the confidence that was used for resting makes up for that.
            strict = self._estimate(self.REST_CONFIDENCE).answers
            is_rested = np.isin(np.arange(self._num_points), list(self._rested))
            answers = replace(
                answers,
                ratio_low=np.where(is_rested, strict.ratio_low, answers.ratio_low),
                ratio_high=np.where(is_rested, strict.ratio_high, answers.ratio_high),
            )
        if self._is_cut_short:
            # With too few rounds, a point can't be told from any other: it is its own answer.
            own = np.arange(self._num_points, dtype=np.int32)
            is_left = (answers.target < 0) & (estimate.num_samples > 0)
            answers = replace(answers, target=np.where(is_left, own, answers.target))
        return LatencyCurve(
            workload=self._spec.workload,
            platform=platform,
            protocol=protocol,
            grid=self._spec.grid,
            latency_s=np.exp(estimate.log_latency),
            low_s=np.exp(estimate.log_low),
            high_s=np.exp(estimate.log_high),
            num_samples=estimate.num_samples,
            status=estimate.status,
            answers=answers,
            measured_at=measured_at,
            failures=dict(self._failures),
            evidence=replace(
                self._cost(),
                rounds=1 + max(int(b.round.max()) for b in measured if len(b)),
                cut_short=self._is_cut_short,
            ),
        )
