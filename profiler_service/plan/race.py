"""Races: the fastest point of a window, from a small part of its visits.

numpy only. Knows neither torch, nor storage, nor wall clocks. Derivation: docs/hysteresis.md.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

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
from profiler_service.estimate import AdditiveFit, fit_additive
from profiler_service.plan.base import (
    CHEAP_VISIT_S,
    MAX_BATCH_VISITS,
    Batch,
    Points,
    SteppedPlanner,
)
from profiler_service.samples import Platform, Protocol, Samples
from profiler_service.sweep import SweepSpec


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


class RacePlanner(SteppedPlanner):
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
    """Confirming more pairs than FEWEST_PAIRS with one rival ends after this long."""
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
