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
from typing import Literal
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from profiler_service.comparison import (
    CONFIDENCE,
    F64,
    Comparison,
    Verdict,
    column_medians,
    compare,
    grouped_medians,
    smooth_drift,
)
from profiler_service.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.errors import MeasurementError
from profiler_service.estimate import (
    CHOOSE_EVERY,
    AdditiveFit,
    GridEstimate,
    estimate_grid,
    fit_additive,
)
from profiler_service.samples import Platform, Protocol, Samples
from profiler_service.sweep import Progress, SweepSpec

Points = npt.NDArray[np.int32]

ANCHOR_EVERY = 16
"""Visits of other points between two visits of the anchor."""
MIN_SAMPLE_S = 8e-6
"""A sample lasts at least this long, or the clock's own cost would show; calls are repeated."""
MAX_CALLS = 8
CALIBRATION_VISITS = 24
FIRST_VISITS = 4
"""Visits before anything is known of what one costs."""
CHEAP_VISIT_S = 2e-3
"""A race makes fewer visits than its tables say only where a visit takes longer than this."""
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
    return GridPlanner(spec) if spec.mode == "grid" else RacePlanner(spec)


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
        self._num_calls = 0
        self._num_samples = 0
        self._seconds = 0.0
        self._visit_s = 0.0
        self._calibration_s: F64 = np.zeros(0)
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
        assert self._pending is not None, "nothing was to be measured"
        per_visit = self._pending.calls + self._pending.warmup_calls
        self._num_calls += len(self._pending.point) * per_visit
        self._num_samples += len(samples)
        self._seconds += samples.seconds
        self._batches.append(samples)
        self._failures.update(samples.failures)
        try:
            self._pending = None if self._is_hopeless() else self._steps.send(samples)
        except StopIteration:
            self._pending = None
        if self._pending is None:
            self._advance(1.0, "finished")

    def _is_hopeless(self) -> bool:
        """Whether failures leave nothing that could still be found."""
        return False

    def progress(self) -> Progress:
        """How far the sweep is."""
        return Progress(
            fraction=self._fraction,
            stage=self._stage,
            num_samples=self._num_samples,
            seconds=self._seconds,
        )

    def _advance(self, fraction: float, stage: str) -> None:
        self._fraction = max(self._fraction, min(fraction, 1.0))
        self._stage = stage

    def _calibrate(self, anchor: int) -> Generator[Batch, Samples, bool]:
        """Warms the host up on the anchor and learns what a visit costs; False if it fails."""
        latencies_s: list[F64] = []
        visits, per_visit_s = FIRST_VISITS, 0.0
        while visits:
            samples = yield self._batch([np.full(visits, anchor, dtype=np.int32)], 0)
            if not len(samples):
                return False
            is_first = not latencies_s
            latencies_s.append(samples.latency_s)
            per_visit_s = samples.seconds / len(samples)
            visits = min(CALIBRATION_VISITS - visits, int(BATCH_S / per_visit_s)) if is_first else 0
        self._calibration_s = np.concatenate(latencies_s)
        latency_s = float(np.median(self._calibration_s))
        self._calls = int(np.clip(np.ceil(MIN_SAMPLE_S / latency_s), 1, MAX_CALLS))
        self._visit_s = max(per_visit_s, 2 * latency_s) + (self._calls - 1) * latency_s
        return True

    def _batch(self, rounds: Sequence[Points], first_round: int, *, warmup_calls: int = 1) -> Batch:
        """One batch of the given rounds, numbered from `first_round`."""
        return Batch(
            point=np.concatenate(rounds).astype(np.int32),
            round=np.repeat(
                np.arange(first_round, first_round + len(rounds)), [len(r) for r in rounds]
            ).astype(np.int32),
            calls=self._calls,
            warmup_calls=warmup_calls,
        )

    def _with_anchors(self, points: Points, anchor: int) -> Points:
        """The points with the anchor before every ANCHOR_EVERY of them, and at the end.

        Without it once it has failed: the residuals of the other points then show the drift.
        """
        if anchor in self._failures:
            return points
        every = np.arange(0, len(points), ANCHOR_EVERY)
        return np.append(np.insert(points, every, anchor), anchor).astype(np.int32)

    def _batch_visits(self) -> int:
        """Visits that fill a batch."""
        return int(np.clip(BATCH_S / max(self._visit_s, 1e-9), 1, MAX_BATCH_VISITS))

    def _learn_visit_s(self, samples: Samples) -> None:
        """Follows what visits really cost (larger points, shapes called for the first time)."""
        if len(samples):
            self._visit_s = (self._visit_s + samples.seconds / len(samples)) / 2

    def _cost(self) -> dict[str, float]:
        """The evidence that every planner gives."""
        return {
            "seconds": round(self._seconds, 4),
            "batches": len(self._batches),
            "samples": self._num_samples,
            "calls": self._num_calls,
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
    """Measures every point of the grid, and longest where dominance is undecided.

    Each round visits every active point once, in a fresh random order, with the anchor (the
    grid's middle point) before every 16 of them. At some of the rounds, points that a larger
    one beats beyond doubt (at REST_CONFIDENCE, stricter than the curve's own verdicts, since
    there are many looks) are laid to rest: no LHP can be among them, and whatever they would
    beat is beaten by the one that beats them. Measuring ends when all but LOOSE_SHARE of the
    active points have an interval on their median narrower than ± TARGET, and after MAX_ROUNDS
    in any case. No active point rests before the others because its own interval is narrow:
    two points are compared in the rounds that they share, and resting on a luckily narrow
    interval would leave its rivals too few.
    """

    MIN_ROUNDS = 18
    """6 rounds choose and 12 judge: an interval of 12 pairs forgives two outliers a side."""
    MAX_ROUNDS = 240
    TARGET = 0.005
    LOOSE_SHARE = 0.1
    REST_CONFIDENCE = 0.998

    def _plan(self) -> Generator[Batch, Samples, None]:
        anchor = self._num_points // 2
        while not (yield from self._calibrate(anchor)):
            remaining = [p for p in range(self._num_points) if p not in self._failures]
            if not remaining or len(self._failures) > 16:
                return  # the device fails everywhere it was tried
            anchor = int(self._rng.choice(remaining))
        self._anchor = anchor
        self._measured_from = len(self._batches)
        self._expected_rounds = 2 * self.MIN_ROUNDS
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
                done = number + count * start / len(active)
                self._advance(
                    self._share_done(done, len(active)),
                    f"round {number + 1}, {len(active)} of {self._num_points} points undecided",
                )
                samples = yield self._batch([self._with_anchors(p, anchor) for p in parts], number)
                self._learn_visit_s(samples)
                start += len(parts[0])
            number += count
            active = np.setdiff1d(active, list(self._failures))
            if not len(active):
                return
            if number == next_look:
                estimate = self._estimate(self.REST_CONFIDENCE)
                active = active[estimate.status[active] != PointStatus.DOMINATED]
                half = np.nan_to_num((estimate.log_high - estimate.log_low)[active] / 2, nan=1.0)
                if np.mean(half > self.TARGET) <= self.LOOSE_SHARE:
                    return
                # Intervals narrow with the square root of the rounds.
                share = (np.quantile(half, 1 - self.LOOSE_SHARE) / self.TARGET) ** 2
                self._expected_rounds = int(np.clip(number * share, number, self.MAX_ROUNDS))
                step = CHOOSE_EVERY * max(1, next_look // 12)
                next_look = min(next_look + step, self.MAX_ROUNDS)

    def _share_done(self, rounds: float, num_active: int) -> float:
        """Estimated share of all visits that has been made."""
        left = max(0.0, self._expected_rounds - rounds) * num_active
        return self._num_samples / (self._num_samples + left)

    def _estimate(self, confidence: float = CONFIDENCE) -> GridEstimate:
        return estimate_grid(
            self._batches[self._measured_from :],
            self._spec.grid.shape,
            self._anchor,
            self._failures,
            confidence,
        )

    def build_curve(
        self, platform: Platform, protocol: Protocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far."""
        measured = self._batches[getattr(self, "_measured_from", len(self._batches)) :]
        if not any(map(len, measured)):
            raise self._first_failure()
        estimate = self._estimate()
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


@dataclass(frozen=True, kw_only=True)
class RaceStage:
    """One stage of a race: who took part, and who was left when it ended."""

    name: Literal["survey", "narrow", "contest", "confirm"]
    """`survey` and `contest` rank points, `narrow` ranks positions of each axis."""
    num_visits: int
    seconds: float
    field_size: tuple[int, ...]
    """How many points took part; for `narrow`: how many positions of each axis."""
    kept_size: tuple[int, ...]
    """Likewise, how many were kept."""
    why: str
    """Why the others were dropped."""
    kept: tuple[int, ...] = ()
    """Contest and confirm: numbers of the points kept, best first."""
    dropped: tuple[int, ...] = ()
    """Contest and confirm: numbers of the points dropped."""


class RacePlanner(_SteppedPlanner):
    """Finds the fastest point of the window above the grid's first point, and confirms it.

    Log latency over a window is nearly the sum of one effect for each axis' position (rows and
    columns of a product share alignment and tiling). So positions are raced before points:

    1. *Narrow.* Points are visited in balanced random designs, every position of an axis equally
       often; a robust additive fit ranks the positions of each axis, the better ones stay, and
       the next design visits their products only.
    2. *Contest.* The points that the fit puts first, and the fastest ones seen whatever the fit
       says of them, meet in interleaved rounds and are ranked by their own medians. The model
       proposes; measurements of the very points dispose.
    3. *Confirm.* The leader against the queried point on fresh samples, in pairs of adjacent
       visits in random order, judged at a few fixed looks. Each look's interval has its share
       of the error allowed to the whole race (Bonferroni), so looking repeatedly and trying a
       second and third candidate costs no honesty.

    How often each is visited follows the noise seen while calibrating. What this finds, and
    with which probability: docs/hysteresis.md, "What a race finds".
    """

    MAX_ATTEMPTS = 3
    """Rivals that may be tried in the confirmation."""
    NARROWING = ((1.0, 7), (0.375, 8), (10, 12), (6, 12))
    """(positions of each axis: a share, or a number; visits of each) at REFERENCE_NOISE."""
    NUM_FAVOURITES = 20
    """Places in the contest for the points that the fit puts first."""
    CONTEST = ((6, 8), (20, 4), (60, MAX_ATTEMPTS))
    """(rounds at REFERENCE_NOISE, points kept after them)."""
    SURVEY = ((1.0, 2), (0.25, 2), (0.02, 4))
    """(share of the points, looks at each) of a survey's stages."""
    NUM_SURVEYED = 16
    """Places in the contest for the fastest points of a survey."""
    NUM_OBSERVED = 4
    """Places in the contest for the fastest points seen, whatever the fit says."""
    REFERENCE_NOISE = 0.025
    LOOKS = (50, 100, 200, 400, 800)
    """Pairs of the confirmation at which a verdict may fall."""
    FEWEST_PAIRS = 12
    WORTHWHILE = 0.005
    """Confirming ends where the rival can't be faster by this much any more."""
    CONFIRM_S = 1.5
    """Confirming more pairs than FEWEST_PAIRS ends after this long."""
    PROBE_POINTS = 12
    COLD_PENALTY = 0.08
    """Where a shape's first call is slower than its second by more than this, calls are warmed
    up while narrowing, too (kernels compiled for each shape, say)."""

    def __init__(self, spec: SweepSpec) -> None:
        self._round = 0
        self.noise = self.REFERENCE_NOISE
        self._narrowed: list[Samples] = []
        self._surveyed: Points = np.zeros(0, dtype=np.int32)
        self._num_positions = spec.grid.shape
        self._contested: list[Samples] = []
        self._best: tuple[int, Comparison] | None = None
        self._is_settled = False
        self._verdicts: list[Verdict] = []
        self._num_confirmations = 0
        self.stages: list[RaceStage] = []
        super().__init__(spec)

    def _plan(self) -> Generator[Batch, Samples, None]:
        if not (yield from self._calibrate(0)):
            return
        log = np.log(self._calibration_s)
        self.noise = float(1.48 * np.median(np.abs(log - np.median(log))))
        self._round = 1
        if self._num_points == 1:
            self._is_settled = True
            return
        warmup_calls = yield from self._probe()
        if self._spec.mode == "survey":
            yield from self._survey(warmup_calls)
        yield from self._narrow(warmup_calls)
        candidates = self._propose()
        # Where calls take long, what a call leaves in the caches for the next is nothing.
        warmup_calls = warmup_calls if self._visit_s > 5e-3 else 1
        for number, (rounds, places) in enumerate(self.CONTEST):
            self._advance(0.6 + 0.1 * number, f"racing {len(candidates)} points")
            if len(candidates):
                candidates = yield from self._contest(
                    candidates, self._scaled(rounds), places, warmup_calls
                )
        yield from self._confirm_leaders(candidates, warmup_calls)
        self._is_settled = True

    def _is_hopeless(self) -> bool:
        """Without the queried point there is nobody to race against."""
        return 0 in self._failures

    def _scaled(self, visits: int, fewest: int = 1) -> int:
        """`visits` as needed at REFERENCE_NOISE, for the noise seen here."""
        share = (self.noise / self.REFERENCE_NOISE) ** 2
        # Calls must be dear before a quiet moment is taken at its word.
        least = min(1.0, CHEAP_VISIT_S / self._visit_s)
        return max(fewest, int(np.ceil(visits * float(np.clip(share, least, 1.5)))))

    def _probe(self) -> Generator[Batch, Samples, int]:
        """How many warm-up calls new shapes need: visits a few points twice without any."""
        count = min(self.PROBE_POINTS, self._num_points - 1)
        points = 1 + self._rng.choice(self._num_points - 1, size=count, replace=False)
        rounds = [self._rng.permutation(points), self._rng.permutation(points)]
        samples = yield self._batch(rounds, self._round, warmup_calls=0)
        log_ratios = _paired_log_ratios(samples, self._round, self._round + 1)
        self._round += 2
        penalty = -float(np.median(log_ratios)) if len(log_ratios) else 0.0
        if penalty > self.COLD_PENALTY:
            return 1
        self._narrowed.append(samples)
        return 0

    def _narrow(self, warmup_calls: int) -> Generator[Batch, Samples, None]:
        """Races the positions of each axis; keeps all samples in `_narrowed`."""
        shape = self._spec.grid.shape
        alive = [np.arange(count) for count in shape]
        self._num_positions = shape
        for number, (keep, visits) in enumerate(self.NARROWING):
            if number:
                if not any(map(len, self._narrowed)):
                    return
                field = tuple(map(len, alive))
                fit = self._fit()
                self.noise = max(fit.noise, 1e-4)
                # Rounded, so that the last bits of a sum decide nothing when it is replayed.
                effects = [effect.round(6) for effect in fit.effects]
                alive = [
                    positions[np.argsort(effect[positions], kind="stable")][
                        : max(int(np.ceil(keep * count)) if keep < 1 else int(keep), 1)
                    ]
                    for positions, effect, count in zip(alive, effects, shape, strict=True)
                ]
                self._num_positions = tuple(map(len, alive))
                self._end_stage("narrow", field, self._num_positions, "slower positions")
            self._advance(
                0.15 * number,
                f"narrowing {' x '.join(str(len(positions)) for positions in alive)} positions",
            )
            yield from self._visit_design(alive, self._scaled(visits), warmup_calls)

    def _survey(self, warmup_calls: int) -> Generator[Batch, Samples, None]:
        """Looks at every point, and again at those that look fast; samples join `_narrowed`."""
        field = np.arange(1, self._num_points, dtype=np.int32)
        for number, (share, looks) in enumerate(self.SURVEY):
            if number:
                if not any(map(len, self._narrowed)):
                    return
                size = max(int(np.ceil(share * self._num_points)), self.NUM_SURVEYED)
                kept = self._fastest_seen(field, lenient=number == 1)[:size]
                why = "slower in both looks" if number == 1 else "larger median"
                self._end_stage("survey", (len(field),), (len(kept),), why)
                field = kept
            self._advance(0.05 * number, f"looking at {len(field)} points")
            for _ in range(looks):
                order = self._rng.permutation(field[~np.isin(field, list(self._failures))])
                for start in range(0, len(order), MAX_BATCH_VISITS):
                    part = order[start : start + MAX_BATCH_VISITS]
                    samples = yield self._batch([part], self._round, warmup_calls=warmup_calls)
                    self._learn_visit_s(samples)
                    self._narrowed.append(samples)
                self._round += 1
        self._surveyed = self._fastest_seen(field)[: self.NUM_SURVEYED]

    def _fastest_seen(self, field: Points, *, lenient: bool = False) -> Points:
        """The points of `field` that were seen, by the median of their looks, fastest first.

        `lenient` takes each point's fastest look instead: one that was spoiled loses nobody.
        """
        point, _, _ = _joined(self._narrowed)
        value = self._fit().without_drift
        groups, score, _ = grouped_medians(point, value)
        if lenient:
            np.minimum.at(score, np.searchsorted(groups, point), value)
        ranked = groups[np.argsort(score.round(6), kind="stable")]
        return ranked[np.isin(ranked, field)].astype(np.int32)

    def _visit_design(
        self, alive: Sequence[npt.NDArray[np.intp]], visits: int, warmup_calls: int
    ) -> Generator[Batch, Samples, None]:
        """Visits every living position of every axis at least `visits` times, paired at random."""
        count = max(map(len, alive))
        columns = [
            np.concatenate(
                [
                    self._rng.permutation(np.resize(self._rng.permutation(positions), count))
                    for _ in range(visits)
                ]
            )
            for positions in alive
        ]
        points = np.ravel_multi_index(columns, self._spec.grid.shape).astype(np.int32)
        if self._failures:
            points = points[~np.isin(points, list(self._failures))]
        start = 0
        while start < len(points):
            part = points[start : start + self._batch_visits()]
            samples = yield self._batch([part], self._round, warmup_calls=warmup_calls)
            self._round += 1
            self._learn_visit_s(samples)
            self._narrowed.append(samples)
            start += len(part)

    def _fit(self) -> AdditiveFit:
        """The additive fit to everything seen while narrowing."""
        point, log, time = _joined(self._narrowed)
        positions = np.stack(np.unravel_index(point, self._spec.grid.shape), axis=1)
        return fit_additive(positions, log, time, self._spec.grid.shape)

    def _propose(self) -> Points:
        """The contest's field: the fit's favourites, and the fastest points seen."""
        size = min(self.NUM_FAVOURITES, self._num_points - 1)
        if not any(map(len, self._narrowed)):
            return np.zeros(0, dtype=np.int32)
        fit = self._fit()
        predicted = fit.predict().ravel().round(6)
        predicted[[0, *self._failures]] = np.inf
        favourites = np.argpartition(predicted, size - 1)[:size]
        favourites = favourites[np.argsort(predicted[favourites], kind="stable")]
        favourites = favourites[np.isfinite(predicted[favourites])]
        everybody = np.arange(1, self._num_points, dtype=np.int32)
        observed = self._fastest_seen(everybody)[: self.NUM_OBSERVED]
        field = np.concatenate([self._surveyed, favourites, observed]).astype(np.int32)
        field = field[np.sort(np.unique(field, return_index=True)[1])]
        field = field[~np.isin(field, list(self._failures))]
        self._end_stage(
            "narrow",
            self._num_positions,
            (len(field),),
            "slower by the fit, and not among the fastest seen",
            kept=field.tolist(),
        )
        return field

    def _contest(
        self, candidates: Points, rounds: int, places: int, warmup_calls: int
    ) -> Generator[Batch, Samples, Points]:
        """The best of the candidates, fastest first, after `rounds` more interleaved rounds."""
        field = np.append(candidates, 0)
        per_batch = max(1, self._batch_visits() // len(field))
        done = 0
        while done < rounds:
            count = min(per_batch, rounds - done)
            samples = yield self._batch(
                [self._rng.permutation(field) for _ in range(count)],
                self._round,
                warmup_calls=warmup_calls,
            )
            self._learn_visit_s(samples)
            self._contested.append(samples)
            self._round += count
            done += count
        score = self._scores()
        ranked: Points = candidates[np.argsort(score[candidates], kind="stable")]
        ranked = ranked[np.isfinite(score[ranked])]
        kept = ranked[:places]
        self._end_stage(
            "contest",
            (len(candidates),),
            (len(kept),),
            "larger median",
            kept=kept.tolist(),
            dropped=np.setdiff1d(candidates, kept).tolist(),
        )
        return kept

    def _scores(self) -> F64:
        """Median log latency of each point over the contest, drift removed; infinity unraced."""
        score = np.full(self._num_points, np.inf)
        point, median, _ = grouped_medians(*self._contest_values())
        score[point] = median
        if self._failures:
            score[list(self._failures)] = np.inf
        return score

    def _contest_values(self) -> tuple[npt.NDArray[np.int64], F64]:
        """Points and log latencies of all contest and confirmation visits, drift removed."""
        point, log, time = _joined(self._contested)
        if not len(point):
            return point, log
        groups, median, _ = grouped_medians(point, log)
        drift = smooth_drift(time, log - median[np.searchsorted(groups, point)])
        return point, log - drift

    def _end_stage(
        self,
        name: Literal["survey", "narrow", "contest", "confirm"],
        field_size: tuple[int, ...],
        kept_size: tuple[int, ...],
        why: str,
        *,
        kept: Sequence[int] = (),
        dropped: Sequence[int] = (),
    ) -> None:
        self.stages.append(
            RaceStage(
                name=name,
                num_visits=self._num_samples - sum(stage.num_visits for stage in self.stages),
                seconds=self._seconds - sum(stage.seconds for stage in self.stages),
                field_size=field_size,
                kept_size=kept_size,
                why=why,
                kept=tuple(kept),
                dropped=tuple(dropped),
            )
        )

    def _confirm_leaders(
        self, ranked: Points, warmup_calls: int
    ) -> Generator[Batch, Samples, None]:
        """Confirms the leader; where that fails, the next ones that seemed faster."""
        calls = self._calls + warmup_calls
        pair_s = 2 * self._visit_s * calls / (self._calls + 1)
        looks = [n for n in self.LOOKS if n * pair_s <= self.CONFIRM_S] or [self.FEWEST_PAIRS]
        confidence = 1 - (1 - CONFIDENCE) / (self.MAX_ATTEMPTS * len(looks))
        score = self._scores()
        for attempt, rival in enumerate(ranked.tolist()):
            if attempt and score[rival] >= score[0]:
                break
            self._advance(0.9 + 0.1 * attempt / self.MAX_ATTEMPTS, "confirming")
            comparison = yield from self._confirm(rival, looks, confidence, warmup_calls)
            if comparison is None:
                continue
            self._end_stage(
                "confirm",
                (1,),
                (int(comparison.verdict == "faster"),),
                f"{comparison.verdict} than the queried point:"
                f" ratio {comparison.ratio:.4f} [{comparison.low:.4f}, {comparison.high:.4f}]",
                kept=[rival] if comparison.verdict == "faster" else [],
                dropped=[] if comparison.verdict == "faster" else [rival],
            )
            self._verdicts.append(comparison.verdict)
            if self._best is None or comparison.ratio < self._best[1].ratio:
                self._best = (rival, comparison)
            if comparison.verdict == "faster":
                self._best = (rival, comparison)
                break

    def _confirm(
        self, rival: int, looks: Sequence[int], confidence: float, warmup_calls: int
    ) -> Generator[Batch, Samples, Comparison | None]:
        """The comparison of one rival with the queried point on samples of its own."""
        log_ratios: list[F64] = []
        comparison: Comparison | None = None
        pairs = 0
        for look in looks:
            while pairs < look:
                count = min(look - pairs, max(6, self._batch_visits() // 2))
                field = np.array([0, rival], dtype=np.int32)
                samples = yield self._batch(
                    [self._rng.permutation(field) for _ in range(count)],
                    self._round,
                    warmup_calls=warmup_calls,
                )
                self._round += count
                pairs += count
                self._contested.append(samples)
                log_ratios.append(_paired_point_ratios(samples, rival))
            ratios = np.concatenate(log_ratios)
            if not len(ratios):
                return None
            comparison = compare(ratios, confidence)
            if comparison.verdict != "ambiguous" or comparison.low > 1 - self.WORTHWHILE:
                break
        self._num_confirmations += 0 if comparison is None else comparison.num_pairs
        return comparison

    def build_curve(
        self, platform: Platform, protocol: Protocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve from everything recorded so far; it answers the queried point alone."""
        n = self._num_points
        if not len(self._calibration_s) or 0 in self._failures:
            raise self._first_failure()
        center, low, high = (np.full(n, np.nan) for _ in range(3))
        center[0] = np.median(np.log(self._calibration_s))
        if any(map(len, self._narrowed)):
            seen, median, _ = grouped_medians(_joined(self._narrowed)[0], self._fit().without_drift)
            center[seen] = median
        point, value = self._contest_values()
        for raced in np.unique(point).tolist():
            medians = column_medians(value[point == raced][:, np.newaxis])
            center[raced] = medians.center[0]
            low[raced], high[raced] = medians.low[0], medians.high[0]
        num_samples = sum(np.bincount(b.point, minlength=n) for b in self._batches)
        # Points seen only cold, while probing, have samples but no latency to compare.
        num_samples = np.where(np.isnan(center), 0, num_samples)
        status = np.where(np.isnan(center), PointStatus.UNMEASURED, PointStatus.UNDECIDED)
        target = np.full(n, -1, dtype=np.int32)
        ratio, ratio_low, ratio_high = (np.full(n, np.nan) for _ in range(3))
        if self._is_settled:
            target[0] = 0
        if self._best is not None:
            rival, comparison = self._best
            ratio[0] = comparison.ratio
            ratio_low[0], ratio_high[0] = comparison.low, comparison.high
            if comparison.verdict == "faster":
                target[0] = rival
                status[0] = PointStatus.DOMINATED
            elif set(self._verdicts) == {"slower"}:
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


def _joined(batches: Sequence[Samples]) -> tuple[npt.NDArray[np.int64], F64, F64]:
    """Points, log latencies and times (ascending, seconds of measuring) of all the batches."""
    starts_s = np.cumsum([0.0, *(batch.seconds for batch in batches)])
    point = np.concatenate([np.zeros(0, dtype=np.int64), *(b.point for b in batches)])
    log = np.log(np.concatenate([np.zeros(0), *(b.latency_s for b in batches)]))
    time = np.concatenate(
        [np.zeros(0), *(s + b.time_s for s, b in zip(starts_s, batches, strict=False))]
    )
    return point.astype(np.int64), log, time


def _paired_log_ratios(samples: Samples, first: int, second: int) -> F64:
    """log(latency in round `second` / in round `first`) of each point seen in both."""
    log = np.log(samples.latency_s)
    early, late = samples.round == first, samples.round == second
    own = dict(zip(samples.point[early].tolist(), log[early].tolist(), strict=True))
    other = dict(zip(samples.point[late].tolist(), log[late].tolist(), strict=True))
    return np.array([other[p] - own[p] for p in sorted(own.keys() & other.keys())])


def _paired_point_ratios(samples: Samples, rival: int) -> F64:
    """log(latency of the rival / of the queried point) of each round that has both."""
    log = np.log(samples.latency_s)
    mine, yours = samples.point == 0, samples.point == rival
    rounds = np.intersect1d(samples.round[mine], samples.round[yours])
    own = dict(zip(samples.round[mine].tolist(), log[mine].tolist(), strict=True))
    other = dict(zip(samples.round[yours].tolist(), log[yours].tolist(), strict=True))
    return np.array([other[r] - own[r] for r in rounds.tolist()])
