"""Which points to measure next: rounds in random order, racing, when to stop.

numpy only: planners are pure objects fed with samples, so that tests can give them synthetic
devices. They know neither torch, nor storage, nor wall clocks (only the seconds that samples
say they took).
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from profiler_service.comparison import (
    CONFIDENCE,
    F64,
    Comparison,
    column_medians,
    compare,
    grouped_medians,
    smooth_drift,
)
from profiler_service.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.errors import MeasurementError
from profiler_service.estimate import (
    CHOOSE_EVERY,
    additive_model,
    anchor_drift,
    estimate_grid,
    round_matrix,
)
from profiler_service.samples import Platform, Protocol, Samples
from profiler_service.sweep import Progress, SweepSpec

Points = npt.NDArray[np.int32]

ANCHOR_EVERY = 16
"""Visits of other points between two visits of the anchor."""
CALIBRATION_VISITS = 64
MIN_SAMPLE_S = 20e-6
"""A sample lasts at least this long, or the clock's own cost would show; calls are repeated."""
MAX_CALLS = 8
BATCH_S = 0.5
"""A batch is meant to last this long: what a killed worker loses at most."""
MAX_BATCH_VISITS = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Visits to be made one after the other: the unit that is measured and committed."""

    point: Points
    """Numbers of the points to visit, in this order; points recur (anchors do)."""
    round: npt.NDArray[np.int32]
    """The round that each visit belongs to."""
    calls: int = 1
    """Calls to time together in each visit."""
    warmup_calls: int = 1
    """Untimed calls at the start of each visit."""


class Planner(TypingProtocol):
    """Decides what to measure.

    `next_batch` and `record` alternate. Given the same spec and the same recorded samples, a
    planner makes the same decisions, so replaying committed batches restores it exactly.
    """

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""

    def record(self, samples: Samples) -> None:
        """Takes the samples of the batch given last."""

    def progress(self) -> Progress:
        """How far the sweep is."""

    def build_curve(
        self, platform: Platform, protocol: Protocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far.

        Raises MeasurementError where nothing could be measured.
        """


def create_planner(spec: SweepSpec) -> Planner:
    """The planner for `spec.mode`."""
    return RacePlanner(spec) if spec.mode == "race" else GridPlanner(spec)


class _SteppedPlanner(abc.ABC):
    """A planner written as one generator: yields batches, is sent their samples."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._num_points = spec.grid.size
        self._rng = np.random.default_rng(spec.seed)
        self._batches: list[Samples] = []
        self._failures: dict[int, str] = {}
        self._fraction = 0.0
        self._stage = "calibrating"
        self._calls = 1
        self._visit_s = 0.0
        self._steps = self._plan()
        self._pending: Batch | None = next(self._steps)

    @abc.abstractmethod
    def _plan(self) -> Generator[Batch, Samples, None]:
        """The plan itself."""

    def next_batch(self) -> Batch | None:
        """The next visits, or None when nothing more needs measuring."""
        return self._pending

    def record(self, samples: Samples) -> None:
        """Takes the samples of the batch given last."""
        self._batches.append(samples)
        self._failures.update(samples.failures)
        try:
            self._pending = self._steps.send(samples)
        except StopIteration:
            self._pending = None
            self._advance(1.0, "finished")

    def progress(self) -> Progress:
        """How far the sweep is."""
        return Progress(
            fraction=self._fraction,
            stage=self._stage,
            num_samples=sum(map(len, self._batches)),
            seconds=self._seconds(),
        )

    def _seconds(self) -> float:
        return sum(batch.seconds for batch in self._batches)

    def _advance(self, fraction: float, stage: str) -> None:
        self._fraction = max(self._fraction, min(fraction, 1.0))
        self._stage = stage

    def _calibrate(self, anchor: int) -> Generator[Batch, Samples, bool]:
        """Warms the host up on the anchor and learns what a visit costs; False if it fails."""
        samples = yield self._batch([np.full(CALIBRATION_VISITS, anchor, dtype=np.int32)], 0)
        if not len(samples):
            return False
        latency_s = float(np.median(samples.latency_s))
        self._calls = int(np.clip(np.ceil(MIN_SAMPLE_S / latency_s), 1, MAX_CALLS))
        per_visit_s = max(samples.seconds / len(samples), 2 * latency_s)
        self._visit_s = per_visit_s + (self._calls - 1) * latency_s
        return True

    def _batch(self, rounds: Sequence[Points], first_round: int) -> Batch:
        """One batch of the given rounds, numbered from `first_round`."""
        return Batch(
            point=np.concatenate(rounds).astype(np.int32),
            round=np.repeat(
                np.arange(first_round, first_round + len(rounds)), [len(r) for r in rounds]
            ).astype(np.int32),
            calls=self._calls,
        )

    def _with_anchors(self, points: Points, anchor: int) -> Points:
        """The points with the anchor before every ANCHOR_EVERY of them, and at the end."""
        every = np.arange(0, len(points), ANCHOR_EVERY)
        return np.append(np.insert(points, every, anchor), anchor).astype(np.int32)

    def _batch_visits(self) -> int:
        """Visits that fill a batch."""
        return int(np.clip(BATCH_S / max(self._visit_s, 1e-9), 1, MAX_BATCH_VISITS))

    def _learn_visit_s(self, samples: Samples) -> None:
        """Follows what visits really cost (larger points, shapes called for the first time)."""
        if len(samples):
            self._visit_s = (self._visit_s + samples.seconds / len(samples)) / 2

    def _cost(self, warmup_calls: int = 1) -> dict[str, float]:
        """The evidence that every planner gives."""
        return {
            "seconds": round(self._seconds(), 4),
            "batches": len(self._batches),
            "samples": sum(map(len, self._batches)),
            "calls": sum(len(b) * (b.calls + warmup_calls) for b in self._batches),
            "discarded": sum(b.num_discarded for b in self._batches),
            "unstable": sum(int(b.unstable.sum()) for b in self._batches),
        }

    def _first_failure(self) -> MeasurementError:
        reason = next(iter(self._failures.values()), "nothing was measured")
        return MeasurementError(
            f"no point could be measured: {reason}",
            hint="the reason is the first failed point's; see the sweep's failures",
        )


class GridPlanner(_SteppedPlanner):
    """Measures every point of the grid until each is known well enough.

    Each round visits every point that hasn't failed once, in a fresh random order, with the
    anchor (the grid's middle point) before every 16 of them. Measuring ends when all but
    LOOSE_SHARE of the points have an interval on their median narrower than ± TARGET, and after
    MAX_ROUNDS in any case. No point rests earlier than the others: two points are compared in
    the rounds that they share, and resting on a luckily narrow interval would leave its rivals
    too few.
    """

    MIN_ROUNDS = 18
    """6 rounds choose and 12 judge: an interval of 12 pairs forgives two outliers a side."""
    MAX_ROUNDS = 240
    TARGET = 0.005
    LOOSE_SHARE = 0.1

    def _plan(self) -> Generator[Batch, Samples, None]:
        anchor = self._num_points // 2
        while not (yield from self._calibrate(anchor)):
            remaining = [p for p in range(self._num_points) if p not in self._failures]
            if not remaining or len(self._failures) > 16:
                return  # the device fails everywhere it was tried
            anchor = int(self._rng.choice(remaining))
        self._anchor = anchor
        self._measured_from = len(self._batches)
        active = np.setdiff1d(np.arange(self._num_points), list(self._failures))
        next_look = self.MIN_ROUNDS
        number = 0
        while number < self.MAX_ROUNDS:
            # Several rounds of a small grid fill a batch, one of a large grid takes several.
            count = min(max(1, self._batch_visits() // len(active)), next_look - number)
            rounds = [self._rng.permutation(active).astype(np.int32) for _ in range(count)]
            start = 0
            while start < len(active):
                parts = [order[start : start + self._batch_visits()] for order in rounds]
                self._advance(
                    (number + count * start / len(active)) / self.MAX_ROUNDS,
                    f"round {number + 1} of at most {self.MAX_ROUNDS}, {len(active)} points",
                )
                samples = yield self._batch([self._with_anchors(p, anchor) for p in parts], number)
                self._learn_visit_s(samples)
                start += len(parts[0])
            number += count
            active = np.setdiff1d(active, list(self._failures))
            if not len(active):
                return
            if number == next_look:
                if np.mean(self._is_loose()[active]) <= self.LOOSE_SHARE:
                    return
                step = CHOOSE_EVERY * max(1, next_look // 12)
                next_look = min(next_look + step, self.MAX_ROUNDS)

    def _is_loose(self) -> npt.NDArray[np.bool_]:
        """Which points' intervals are still wider than the target."""
        medians = column_medians(self._matrix())
        loose: npt.NDArray[np.bool_] = ~(medians.high - medians.low <= 2 * self.TARGET)
        return loose

    def _matrix(self) -> npt.NDArray[np.float32]:
        batches = self._batches[self._measured_from :]
        return round_matrix(batches, self._num_points, self._anchor)

    def build_curve(
        self, platform: Platform, protocol: Protocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far."""
        measured = self._batches[getattr(self, "_measured_from", len(self._batches)) :]
        if not any(map(len, measured)):
            raise self._first_failure()
        estimate = estimate_grid(measured, self._spec.grid.shape, self._anchor)
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
            answers=estimate.answers,
            measured_at=measured_at,
            failures=dict(self._failures),
            evidence={
                **self._cost(),
                "rounds": 1 + max(int(b.round.max()) for b in measured if len(b)),
            },
        )


class RacePlanner(_SteppedPlanner):
    """Finds the fastest point of the window above the grid's first point, and confirms it.

    1. Screen: visit points once in random order, the queried point as the anchor; as many as
       SCREEN_S allows. A robust additive model of the axes proposes, and so do the raw
       observations: neither alone decides who races.
    2. Race: few and fewer candidates, visited in interleaved rounds, ranked by their median
       over all rounds relative to the queried point.
    3. Confirm: the leader against the queried point on fresh samples, in pairs of adjacent
       visits in random order, judged at a few fixed looks. Each look's interval has its share
       of the error allowed to the whole race (Bonferroni), so looking repeatedly and trying a
       second and third candidate costs no honesty.
    """

    SCREEN_S = 2.0
    MIN_VISITS_PER_POSITION = 2
    STAGES = ((256, 4), (96, 6), (32, 10), (12, 20), (5, 60))
    """(candidates, rounds) of each stage; (256, 4) races everybody in a smaller window."""
    STAGES_S = 4.0
    LOOKS = (100, 200, 400, 800)
    """Pairs of the confirmation at which a verdict may fall."""
    CONFIRM_S = 2.0
    MAX_ATTEMPTS = 3

    def __init__(self, spec: SweepSpec) -> None:
        self._round = 0
        self._raced_point: list[Points] = []
        self._raced_value: list[F64] = []
        self._screened: tuple[Points, F64] = (np.zeros(0, dtype=np.int32), np.zeros(0))
        self._base: list[float] = []
        self._best: tuple[int, Comparison] | None = None
        self._is_settled = False
        self._num_confirmations = 0
        super().__init__(spec)

    def _plan(self) -> Generator[Batch, Samples, None]:
        if not (yield from self._calibrate(0)):
            return
        self._round = 1
        candidates = np.arange(1, self._num_points, dtype=np.int32)
        if not len(candidates):
            return
        if len(candidates) > self.STAGES[0][0]:
            candidates = yield from self._screen(candidates)
        thrift = self._thrift()
        for number, (size, rounds) in enumerate(self.STAGES):
            size = max(min(size, 4), int(size * thrift))
            candidates = candidates[:size]
            fraction = 0.4 + 0.4 * number / len(self.STAGES)
            self._advance(fraction, f"racing {len(candidates)} candidates")
            candidates = yield from self._race(candidates, rounds)
            if not len(candidates):
                return
        yield from self._confirm_leaders(candidates)
        self._is_settled = True

    def _thrift(self) -> float:
        """Share of the full number of candidates that expensive calls leave affordable."""
        visits = sum(size * rounds for size, rounds in self.STAGES)
        return min(1.0, self.STAGES_S / (visits * self._visit_s))

    def _screen(self, candidates: Points) -> Generator[Batch, Samples, Points]:
        """The most promising points, best first, after one visit to as many as time allows."""
        shape = self._spec.grid.shape
        fewest = self.MIN_VISITS_PER_POSITION * sum(shape)
        order = self._rng.permutation(candidates).astype(np.int32)
        points: list[Points] = []
        values: list[F64] = []
        start, started_s = 0, self._seconds()
        while start < len(order):
            spent_s = self._seconds() - started_s
            if start >= fewest and spent_s >= self.SCREEN_S:
                break
            self._advance(
                0.4 * max(start / len(order), spent_s / self.SCREEN_S * (start >= fewest)),
                f"screening {len(order)} points",
            )
            part = order[start : start + self._batch_visits()]
            samples = yield self._batch([self._with_anchors(part, 0)], self._round)
            self._learn_visit_s(samples)
            start += len(part)
            log = np.log(samples.latency_s)
            drift = anchor_drift(log, samples.time_s.astype(np.float64), samples.point == 0)
            other = samples.point != 0
            points.append(samples.point[other])
            values.append((log - drift)[other])
        self._round += 1
        point, value = np.concatenate(points), np.concatenate(values)
        self._screened = (point, value)
        return self._propose(point, value)

    def _propose(self, point: Points, value: F64) -> Points:
        """Candidates, alternately the model's best and the best observed, without repeats."""
        shape = self._spec.grid.shape
        positions = np.stack(np.unravel_index(point, shape), axis=1)
        effects = additive_model(positions, value, shape)
        predicted = effects[0]
        for effect in effects[1:]:
            predicted = np.add.outer(predicted, effect)
        flat = predicted.ravel()
        flat[[0, *self._failures]] = np.inf
        size = min(self.STAGES[0][0], self._num_points - 1)
        by_model = np.argpartition(flat, size - 1)[:size]
        by_model = by_model[np.argsort(flat[by_model], kind="stable")]
        by_model = by_model[np.isfinite(flat[by_model])]
        observed = point[np.argsort(value, kind="stable")][:size]
        # Alternate as far as both reach.
        both = min(len(by_model), len(observed))
        mixed = np.stack([by_model[:both], observed[:both]], axis=1).ravel()
        mixed = np.concatenate([mixed, by_model[both:], observed[both:]])
        _, first = np.unique(mixed, return_index=True)
        return mixed[np.sort(first)][:size].astype(np.int32)

    def _race(self, candidates: Points, rounds: int) -> Generator[Batch, Samples, Points]:
        """The candidates, fastest first, after `rounds` more interleaved rounds."""
        field = np.append(candidates, 0)
        per_batch = max(1, self._batch_visits() // len(field))
        done = 0
        while done < rounds:
            count = min(per_batch, rounds - done)
            samples = yield self._batch(
                [self._rng.permutation(field) for _ in range(count)], self._round
            )
            self._learn_visit_s(samples)
            self._round += count
            done += count
            self._take(samples)
        point, median, _ = grouped_medians(
            np.concatenate(self._raced_point), np.concatenate(self._raced_value)
        )
        score = np.full(self._num_points, np.inf)
        score[point] = median
        if self._failures:
            score[list(self._failures)] = np.inf
        ranked: Points = candidates[np.argsort(score[candidates], kind="stable")]
        ranked = ranked[np.isfinite(score[ranked])]
        return ranked

    def _take(self, samples: Samples) -> None:
        """Keeps a batch's log latencies relative to the queried point, drift removed."""
        if not np.any(samples.point == 0):
            return
        log = np.log(samples.latency_s)
        point, median, _ = grouped_medians(samples.point, log)
        reference = median[np.searchsorted(point, samples.point)]
        drift = smooth_drift(samples.time_s.astype(np.float64), log - reference)
        level = float(np.median((log - drift)[samples.point == 0]))
        self._base.append(level)
        self._raced_point.append(samples.point)
        self._raced_value.append(log - drift - level)

    def _score(self, point: int) -> float:
        raced = np.concatenate(self._raced_point)
        return float(np.median(np.concatenate(self._raced_value)[raced == point]))

    def _confirm_leaders(self, ranked: Points) -> Generator[Batch, Samples, None]:
        """Confirms the leader; where that fails, the next ones that seemed faster."""
        error = (1 - CONFIDENCE) / (self.MAX_ATTEMPTS * len(self.LOOKS))
        for attempt, rival in enumerate(ranked[: self.MAX_ATTEMPTS].tolist()):
            if attempt and self._score(rival) >= 0:
                break
            self._advance(0.8 + 0.2 * attempt / self.MAX_ATTEMPTS, "confirming")
            comparison = yield from self._confirm(rival, 1 - error)
            if comparison is None:
                continue
            if self._best is None or comparison.ratio < self._best[1].ratio:
                self._best = (rival, comparison)
            if comparison.verdict == "faster":
                self._best = (rival, comparison)
                break

    def _confirm(
        self, rival: int, confidence: float
    ) -> Generator[Batch, Samples, Comparison | None]:
        """The comparison of one rival with the queried point on samples of its own."""
        log_ratios: list[F64] = []
        comparison: Comparison | None = None
        pairs = 0
        for look in self.LOOKS:
            if pairs and look * 2 * self._visit_s > self.CONFIRM_S:
                break
            while pairs < look:
                count = min(look - pairs, max(6, self._batch_visits() // 2))
                field = np.array([0, rival], dtype=np.int32)
                samples = yield self._batch(
                    [self._rng.permutation(field) for _ in range(count)], self._round
                )
                self._round += count
                pairs += count
                self._take(samples)
                log_ratios.append(_paired_log_ratios(samples, rival))
            ratios = np.concatenate(log_ratios)
            if not len(ratios):
                return None
            self._num_confirmations += len(ratios)
            comparison = compare(ratios, confidence)
            if comparison.verdict != "ambiguous":
                break
        return comparison

    def build_curve(
        self, platform: Platform, protocol: Protocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far; it answers the queried point alone."""
        n = self._num_points
        calibration = self._batches[0] if self._batches else None
        if calibration is None or not len(calibration) or 0 in self._failures:
            raise self._first_failure()
        base = float(np.median(self._base or np.log(calibration.latency_s)))
        center, low, high = (np.full(n, np.nan) for _ in range(3))
        screened, value = self._screened
        center[screened] = base + value
        raced_point = np.concatenate([np.zeros(0, dtype=np.int32), *self._raced_point])
        raced_value = np.concatenate([np.zeros(0), *self._raced_value])
        for point in np.unique(raced_point).tolist():
            medians = column_medians(raced_value[raced_point == point][:, np.newaxis])
            center[point] = base + medians.center[0]
            low[point], high[point] = base + medians.low[0], base + medians.high[0]
        center[0] = base if np.isnan(center[0]) else center[0]
        num_samples = sum(np.bincount(b.point, minlength=n) for b in self._batches)
        status = np.where(np.isnan(center), PointStatus.UNMEASURED, PointStatus.UNDECIDED)
        target = np.full(n, -1, dtype=np.int32)
        ratio, ratio_low, ratio_high = (np.full(n, np.nan) for _ in range(3))
        if self._is_settled or n == 1:
            target[0] = 0
        if self._best is not None:
            rival, comparison = self._best
            ratio[0] = comparison.ratio
            ratio_low[0], ratio_high[0] = comparison.low, comparison.high
            if comparison.verdict == "faster":
                target[0] = rival
                status[0] = PointStatus.DOMINATED
            elif comparison.verdict == "slower":
                status[0] = PointStatus.LHP
        return LatencyCurve(
            workload=self._spec.workload,
            platform=platform,
            protocol=protocol,
            grid=self._spec.grid,
            latency_s=np.exp(center),
            low_s=np.exp(low),
            high_s=np.exp(high),
            num_samples=np.asarray(num_samples, dtype=np.int32),
            status=status.astype(np.int8),
            answers=AnswerTable(
                target=target, ratio=ratio, ratio_low=ratio_low, ratio_high=ratio_high
            ),
            measured_at=measured_at,
            failures=dict(self._failures),
            evidence={
                **self._cost(),
                "rounds": self._round,
                "candidates": int(np.count_nonzero(num_samples)) - 1,
                "confirmations": self._num_confirmations,
            },
        )


def _paired_log_ratios(samples: Samples, rival: int) -> F64:
    """log(latency of the rival / of the queried point) of each round that has both."""
    log = np.log(samples.latency_s)
    mine, yours = samples.point == 0, samples.point == rival
    rounds = np.intersect1d(samples.round[mine], samples.round[yours])
    own = dict(zip(samples.round[mine].tolist(), log[mine].tolist(), strict=True))
    other = dict(zip(samples.round[yours].tolist(), log[yours].tolist(), strict=True))
    return np.array([other[r] - own[r] for r in rounds.tolist()])
