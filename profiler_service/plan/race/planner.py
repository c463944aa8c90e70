"""Races: the fastest point of a window, from a small part of its visits.

numpy only. Knows neither torch, nor storage, nor wall clocks.
Derivation: docs/explanation/races.md.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import (
    CONFIDENCE,
    F64,
    Comparison,
    Verdict,
    column_medians,
    compare,
    grouped_medians,
    smooth_drift,
)
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.base import (
    CHEAP_VISIT_S,
    Batch,
    Points,
    SteppedPlanner,
)
from profiler_service.plan.modes import MODES
from profiler_service.plan.race.structure import Structure, StructureFit
from profiler_service.plan.spec import SweepSpec

_VERDICTS: Mapping[Verdict, str] = {
    "faster": "faster than",
    "slower": "slower than",
    "ambiguous": "not told apart from",
}


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

    1. *Narrow.* A few random points, every position of every axis alike often, then batches of
       those points that may be the fastest, each as often as the samples so far make it likely
       (Thompson sampling from the posterior of `structure`). A visit informs on its row and
       on its column, and through classes and blocks of positions on others.
    2. *Contest.* The points that the fit puts first, and the fastest ones seen whatever the fit
       says of them, meet in interleaved rounds; those that fall behind leave. The model
       proposes; measurements of the very points dispose.
    3. *Confirm.* The leader against the queried point on fresh samples, in pairs of adjacent
       visits in random order, judged at a few fixed looks. Each look's interval has its share
       of the error allowed to the whole race (Bonferroni), so looking repeatedly and trying a
       second and third candidate costs no honesty.

    All of it keeps to a budget of measuring time, which follows from what calling each point
    once would take. What this finds, and with which probability: docs/explanation/races.md, "What a
    race finds".
    """

    CHEAP_SHARE = 0.85
    """A race takes at most this share of calling each point of its window once..."""
    NOISY_SHARE = 0.97
    """... on a noisy host this one..."""
    CHEAP_S = 1.15
    """... and at most this long, as long as that is not less than ..."""
    DEAR_SHARE = 0.046
    """... this share, which is what a race has where calls are dear, and ..."""
    LEAST_CALLS = 100
    """... as long as this many calls take."""
    SMALL_WINDOW = 1000
    """Calling each of so few points once is no measure: there a race may last CHEAP_S, or..."""
    SMALL_CALLS = 6000
    """... as long as this many calls take, if that is less."""
    NOISY = 1.5
    """Where noise asks for more visits than at REFERENCE_NOISE, up to so many times as many are
    made, and cheap calls may take as many times as long."""
    UNNOTICED_S = 0.35
    """So long a race may always last where noise asks for it: nobody who waits would notice."""
    NARROW_UNTIL = 0.5
    """Share of the budget at which narrowing ends..."""
    CONTEST_UNTIL = 0.75
    """... and the contest does. The rest is the confirmation's."""
    DESIGN_VISITS = 6
    """Visits of each position before any is preferred, where the budget allows."""
    NARROW_VISITS = 14
    """Visits while narrowing, for each position of the longest axis, at REFERENCE_NOISE."""
    NUM_BATCHES = 6
    """Batches in which the visits that follow the design are drawn."""
    MAX_ATTEMPTS = 3
    """Rivals that may be tried in the confirmation."""
    NUM_FAVOURITES = 18
    """Places in the contest for the points that the fit puts first."""
    NUM_OBSERVED = 6
    """Places in the contest for the fastest points seen, whatever the fit says."""
    CONTEST = ((6, 8), (12, 5), (48, 4), (120, MAX_ATTEMPTS))
    """(rounds at REFERENCE_NOISE, points kept after them at most)."""
    CONTEST_SHARES = (0.25, 0.2, 0.25, 0.3)
    """Share of the contest's time that each of its stages may take."""
    BEHIND = 3.0
    """Standard errors behind the leader at which a point leaves the contest."""
    PLAY_OFF = (60, MAX_ATTEMPTS)
    PLAY_OFF_BEHIND = 2.0
    """Then those left go on, until all but one are so far behind, or the time is up."""
    SURVEY = ((1.0, 2), (0.25, 2), (0.02, 4))
    """(share of the points, looks at each) of a survey's stages."""
    NUM_SURVEYED = 16
    """Places in the contest for the fastest points of a survey."""
    REFERENCE_NOISE = 0.025
    LOOKS = (50, 100, 200, 400, 800)
    """Pairs of the confirmation at which a verdict may fall."""
    LEAST_LOOK_S = 0.015
    """Time that the pairs of a look span at least, but for budgets given by the caller: what a
    host goes through (clocks, neighbours) lasts milliseconds, and pairs that all meet one such
    state aren't independent."""
    FEWEST_PAIRS = 12
    """Pairs where the budget allows no look; fewer are no verdict worth having."""
    WORTHWHILE = 0.005
    """Confirming ends where the rival can't be faster by this much any more."""
    DISTURBED = 2.0
    """A host that is so many times noisier than REFERENCE_NOISE isn't left to itself: there an
    answer moves only for a sure gain of WORTHWHILE."""
    MAX_UNSTABLE = 0.1
    """A host is disturbed, too, where a larger share of the confirming samples is unstable."""
    SETTLED_MARGIN = 0.03
    """No smaller gain is claimed for `compiled`: its weights stay in one place for as long as they
    are kept, so that all pairs are of the same two places. Copies of one product, compiled again,
    differed by up to 2.5 %."""
    PROBE_POINTS = 12
    COLD_PENALTY = 0.08
    """Where a shape's first call is slower than its second by more than this, calls are warmed
    up while narrowing, too (kernels compiled for each shape, say)."""
    COLD_NOISE = 2.0
    """So are they where calls without a warm-up are this much noisier than those with one: two
    calls then tell more than twice as much as one."""
    TINY_S = 5e-5
    """Shorter calls are always warmed up: a visit costs more than they do."""
    WARM_BELOW_S = 2.5e-4
    """Longer calls work on more memory than the inner caches hold: what an earlier call of the
    same point leaves there is nothing, and contests go without warm-up calls."""

    def __init__(self, spec: SweepSpec) -> None:
        self._round = 0
        self.noise = self.REFERENCE_NOISE
        self._calibrated_noise = 0.0
        self._structure = Structure(
            [np.arange(axis.first, axis.last + 1, axis.step) for axis in spec.grid.axes],
            spec.guide,
        )
        self._narrowed: list[Samples] = []
        self._narrow_warmup_calls = 0
        self._surveyed: Points = np.zeros(0, dtype=np.int32)
        self._contested: list[Samples] = []
        self._contest_warmup_calls = 1
        self._best: tuple[int, Comparison] | None = None
        self._is_settled = False
        self._verdicts: list[Verdict] = []
        self._num_confirmations = 0
        self._budget_s = 0.0
        self._surveying_s = 0.0
        """What a survey took, which isn't part of the race's own time."""
        self._is_cut_short = False
        self.stages: list[RaceStage] = []
        super().__init__(spec)

    def _plan(self) -> Generator[Batch, Samples, None]:
        if not (yield from self._calibrate(0)):
            return
        log = np.log(self._calibration_s)
        self.noise = float(1.48 * np.median(np.abs(log - np.median(log))))
        self._calibrated_noise = self.noise
        self._round = 1
        if self._num_points == 1:
            self._is_settled = True
            return
        self._set_budget()
        call_s = self._call_s
        self._contest_warmup_calls = int(call_s < self.WARM_BELOW_S)
        if call_s < self.TINY_S:
            self._narrow_warmup_calls = 1
        elif call_s < CHEAP_VISIT_S:
            self._narrow_warmup_calls = yield from self._probe()
        self._contest_warmup_calls |= self._narrow_warmup_calls
        if MODES[self._spec.mode].visits_every_point:
            before_s = self._seconds
            yield from self._survey()
            self._surveying_s = self._seconds - before_s
        yield from self._narrow()
        candidates = yield from self._contest(self._propose())
        yield from self._confirm_leaders(candidates)
        self._is_settled = True

    def _is_hopeless(self) -> bool:
        """Without the queried point there is nobody to race against."""
        return 0 in self._failures

    @property
    def _call_s(self) -> float:
        """What a call of the queried point takes."""
        return float(np.median(self._calibration_s))

    def _set_budget(self) -> None:
        # Where a weight is rearranged for its kernel, and that takes longer than the call, it is
        # what looking at a point costs. Otherwise the overhead is little, and mostly noise.
        is_prepared = dict(self._spec.workload.params).get("backend", "dense") != "dense"
        preparing_s = self._overhead_s if is_prepared else 0.0
        visit_s = max(self._call_s * self._structure.mean_growth(), preparing_s)
        once_s = self._num_points * visit_s
        is_small = self._num_points <= self.SMALL_WINDOW
        cheap_s = self.SMALL_CALLS * self._call_s if is_small else self.CHEAP_SHARE * once_s
        noisiness = self._noisiness(least=1.0)
        noisy_s = noisiness * cheap_s if is_small else self.NOISY_SHARE * once_s
        self._budget_s = max(
            self.DEAR_SHARE * once_s,
            min(noisiness * min(cheap_s, self.CHEAP_S), noisy_s),
            min(self._variance_ratio * cheap_s, self.UNNOTICED_S),
            self.LEAST_LOOK_S / (1 - self.CONTEST_UNTIL),
            self.LEAST_CALLS * self._call_s,
        )
        if self._spec.budget_s is not None:
            self._budget_s = min(self._budget_s, self._spec.budget_s - self._surveying_s)

    def _visits_until(self, share: float, warmup_calls: int) -> int:
        """How many visits fit in until `share` of the budget is spent."""
        visit_s = self._expected_visit_s(warmup_calls)
        spent_s = self._seconds - self._surveying_s
        return max(0, int((share * self._budget_s - spent_s) / visit_s))

    def _expected_visit_s(self, warmup_calls: int) -> float:
        return (self._calls + warmup_calls) * self._call_s + self._overhead_s

    def _scaled(self, visits: int) -> int:
        """`visits` as needed at REFERENCE_NOISE, for the noise seen here."""
        # Calls must be dear before a quiet moment is taken at its word.
        least = min(1.0, CHEAP_VISIT_S / self._visit_s)
        return max(1, int(np.ceil(visits * self._noisiness(least))))

    def _noisiness(self, least: float) -> float:
        """Visits needed here for one at REFERENCE_NOISE, within `least` and NOISY."""
        return float(np.clip(self._variance_ratio, least, self.NOISY))

    @property
    def _variance_ratio(self) -> float:
        """Visits needed here for one at REFERENCE_NOISE."""
        return (self.noise / self.REFERENCE_NOISE) ** 2

    def _probe(self) -> Generator[Batch, Samples, int]:
        """How many warm-up calls new shapes need: visits a few points twice without any."""
        count = min(self.PROBE_POINTS, self._num_points - 1)
        points = 1 + self._rng.choice(self._num_points - 1, size=count, replace=False)
        rounds = [self._rng.permutation(points), self._rng.permutation(points)]
        samples = yield self._batch(rounds, self._round, warmup_calls=0)
        log_ratios = _paired_log_ratios(samples, self._round, self._round + 1)
        self._round += 2
        if len(log_ratios):
            penalty = -float(np.median(log_ratios))
            cold_noise = float(1.48 * np.median(np.abs(log_ratios + penalty)) / np.sqrt(2))
            if penalty > self.COLD_PENALTY or cold_noise > self.COLD_NOISE * self.noise:
                return 1
        self._narrowed.append(samples)
        return 0

    def _narrow(self) -> Generator[Batch, Samples, None]:
        """Looks for the fast positions of each axis; keeps all samples in `_narrowed`."""
        shape = self._spec.grid.shape
        longest = max(shape)
        allowed = self._visits_until(self.NARROW_UNTIL, self._narrow_warmup_calls)
        total = min(self.NARROW_VISITS * longest, allowed)
        design = max(min(self.DESIGN_VISITS * longest, int(np.ceil(0.45 * total))), 2)
        self._advance(0.05, f"looking at {design} of {self._num_points} points")
        yield from self._visit(self._random_design(design))
        field = shape
        for number in range(self.NUM_BATCHES):
            if not any(map(len, self._narrowed)):
                return
            fit = self._fit()
            self.noise = fit.noise
            self._set_budget()
            total = min(self._scaled(self.NARROW_VISITS * longest), allowed)
            count = max(int(np.ceil((total - design) / self.NUM_BATCHES)), 4)
            if self._visits_until(self.NARROW_UNTIL, self._narrow_warmup_calls) < count:
                return
            positions = fit.draw_fastest(self._rng, count)
            alive = tuple(len(np.unique(column)) for column in positions.T)
            self._end_stage("narrow", field, alive, f"fastest in none of {count} posterior draws")
            field = alive
            self._advance(
                0.1 + 0.08 * number,
                f"narrowing {' x '.join(map(str, alive))} positions",
            )
            points: Points = np.ravel_multi_index(list(positions.T), shape).astype(np.int32)
            if len(np.unique(points)) <= self.MAX_ATTEMPTS and number:
                return  # the contest tells these few apart
            yield from self._visit(points)

    def _random_design(self, count: int) -> Points:
        """`count` random points, every position of every axis as often as any other, or nearly."""
        columns = []
        for size in self._spec.grid.shape:
            repeats = -(-count // size)
            shuffled = [self._rng.permutation(size) for _ in range(repeats)]
            columns.append(np.concatenate(shuffled)[:count])
        points: Points = np.ravel_multi_index(columns, self._spec.grid.shape).astype(np.int32)
        return points

    def _visit(self, points: Points) -> Generator[Batch, Samples, None]:
        """Visits the points in this order, except those that failed."""
        points = points[~np.isin(points, list(self._failures))]
        start = 0
        while start < len(points):
            part = points[start : start + self._batch_visits()]
            samples = yield self._batch([part], self._round, warmup_calls=self._narrow_warmup_calls)
            self._round += 1
            self._learn_visit_s(samples)
            self._narrowed.append(samples)
            start += len(part)

    def _survey(self) -> Generator[Batch, Samples, None]:
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
                start = 0
                while start < len(order):
                    given_s = self._spec.budget_s
                    if given_s is not None and self._seconds > self.NARROW_UNTIL * given_s:
                        return
                    part = order[start : start + self._batch_visits()]
                    start += len(part)
                    samples = yield self._batch(
                        [part], self._round, warmup_calls=self._narrow_warmup_calls
                    )
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

    def _fit(self) -> StructureFit:
        """The fit to everything seen while narrowing."""
        return self._fit_to(self._narrowed, is_warm=self._narrow_warmup_calls > 0)

    def _fit_to(self, batches: Sequence[Samples], *, is_warm: bool) -> StructureFit:
        point, log, time = _joined(batches)
        positions = np.stack(np.unravel_index(point, self._spec.grid.shape), axis=1)
        is_first = np.zeros(len(point), dtype=bool)
        if not is_warm:
            is_first[np.unique(point, return_index=True)[1]] = True
        return self._structure.fit(positions, log, time, is_first, self._calibrated_noise)

    def _propose(self) -> Points:
        """The contest's field: the fit's favourites, and the fastest points seen."""
        if not any(map(len, self._narrowed)):
            return np.zeros(0, dtype=np.int32)
        # A round of the contest's first stage visits each of its points: no more than can be.
        visits = self._visits_until(self.CONTEST_UNTIL, self._contest_warmup_calls)
        places = int(np.clip(visits // 5, 1, self.NUM_FAVOURITES + self.NUM_OBSERVED))
        num_observed = places * self.NUM_OBSERVED // (self.NUM_FAVOURITES + self.NUM_OBSERVED)
        size = min(places - num_observed, self._num_points - 1)
        predicted = self._fit().predict().ravel().round(6)
        predicted[[0, *self._failures]] = np.inf
        favourites = np.argpartition(predicted, size - 1)[:size]
        favourites = favourites[np.argsort(predicted[favourites], kind="stable")]
        favourites = favourites[np.isfinite(predicted[favourites])]
        everybody = np.arange(1, self._num_points, dtype=np.int32)
        observed = self._fastest_seen(everybody)[:num_observed]
        field = np.concatenate([self._surveyed, favourites, observed]).astype(np.int32)
        field = field[np.sort(np.unique(field, return_index=True)[1])]
        field = field[~np.isin(field, list(self._failures))]
        self._end_stage(
            "narrow",
            (self._num_points - 1,),
            (len(field),),
            "slower by the fit, and not among the fastest seen",
            kept=field.tolist(),
        )
        return field

    def _contest(self, candidates: Points) -> Generator[Batch, Samples, Points]:
        """The best of the candidates, fastest first, after interleaved rounds of them all."""
        warmup_calls = self._contest_warmup_calls
        allowed = self._visits_until(self.CONTEST_UNTIL, warmup_calls)
        stages = itertools.chain(self.CONTEST, itertools.repeat(self.PLAY_OFF))
        shares = itertools.chain(self.CONTEST_SHARES, itertools.repeat(1.0))
        for number, ((rounds, places), share) in enumerate(zip(stages, shares, strict=False)):
            if len(candidates) < 2:
                break
            self._advance(min(0.6 + 0.05 * number, 0.85), f"racing {len(candidates)} points")
            field = np.append(candidates, 0) if self._has_own_fit else candidates
            count = max(1, min(self._scaled(rounds), int(share * allowed / len(field))))
            if self._visits_until(self.CONTEST_UNTIL, warmup_calls) < count * len(field):
                break
            yield from self._race_rounds(field, count)
            ranked, behind = self._rank(candidates)
            limit = self.BEHIND if number < len(self.CONTEST) else self.PLAY_OFF_BEHIND
            kept = ranked[:places]
            kept = kept[behind[:places] < limit]
            self._end_stage(
                "contest",
                (len(candidates),),
                (len(kept),),
                "larger latency, or surely behind",
                kept=kept.tolist(),
                dropped=np.setdiff1d(candidates, kept).tolist(),
            )
            candidates = kept
        return candidates

    def _race_rounds(self, field: Points, rounds: int) -> Generator[Batch, Samples, None]:
        """Visits all of the field in each of so many rounds."""
        per_batch = max(1, self._batch_visits() // len(field))
        done = 0
        while done < rounds:
            count = min(per_batch, rounds - done)
            samples = yield self._batch(
                [self._rng.permutation(field) for _ in range(count)],
                self._round,
                warmup_calls=self._contest_warmup_calls,
            )
            self._learn_visit_s(samples)
            self._contested.append(samples)
            self._round += count
            done += count

    @property
    def _has_own_fit(self) -> bool:
        """Whether the contest's samples are of another kind than those of narrowing.

        Warm calls don't compare with cold ones.
        """
        return self._contest_warmup_calls != self._narrow_warmup_calls

    def _rank(self, candidates: Points) -> tuple[Points, F64]:
        """The candidates, fastest first, and how many standard errors each is behind."""
        samples = self._contested if self._has_own_fit else [*self._narrowed, *self._contested]
        candidates = candidates[~np.isin(candidates, list(self._failures))]
        if not any(map(len, samples)) or not len(candidates):
            return candidates[:0], np.zeros(0)
        fit = self._fit_to(samples, is_warm=self._contest_warmup_calls > 0)
        point = _joined(samples)[0]
        score = fit.score(point, candidates)
        order = np.argsort(score, kind="stable")
        count = np.array([np.count_nonzero(point == c) for c in candidates[order].tolist()])
        error = 1.25 * fit.noise / np.sqrt(np.maximum(count, 1))
        behind = (score[order] - score[order[0]]) / np.hypot(error, error[0])
        return candidates[order], behind.round(6)

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

    def _confirm_leaders(self, ranked: Points) -> Generator[Batch, Samples, None]:
        """Confirms the leader; where that fails, the next ones that seemed faster."""
        affordable = self._visits_until(1.0, self._contest_warmup_calls) // 2
        if self._spec.budget_s is None:
            affordable = max(affordable, self.FEWEST_PAIRS)
        elif affordable < self.FEWEST_PAIRS:
            self._is_cut_short = self._num_points > 1
            return
        # Where not even the first look fits, one look at all pairs that do tells most.
        pair_s = 2 * self._expected_visit_s(self._contest_warmup_calls)
        looks = [n for n in self.LOOKS if self.LEAST_LOOK_S / pair_s <= n <= affordable]
        looks = looks or [affordable]
        attempts = int(np.clip(affordable // looks[0], 1, self.MAX_ATTEMPTS))
        confidence = 1 - (1 - CONFIDENCE) / (attempts * len(looks))
        seems_faster = self._find_seemingly_faster(ranked)
        for attempt, rival in enumerate(ranked[:attempts].tolist()):
            if attempt and (
                rival not in seems_faster
                or self._visits_until(1.0, self._contest_warmup_calls) // 2 < looks[0]
            ):
                break
            self._advance(0.9 + 0.1 * attempt / self.MAX_ATTEMPTS, "confirming")
            comparison = yield from self._confirm(rival, looks, confidence)
            if comparison is None:
                continue
            self._end_stage(
                "confirm",
                (1,),
                (int(comparison.verdict == "faster"),),
                f"{_VERDICTS[comparison.verdict]} the queried point:"
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

    def _find_seemingly_faster(self, ranked: Points) -> set[int]:
        """Those of the points that the contest shows ahead of the queried one."""
        ahead, _ = self._rank(np.append(ranked, 0).astype(np.int32))
        names = ahead.tolist()
        return set(names[: names.index(0)]) if 0 in names else set()

    def _confirm(
        self, rival: int, looks: Sequence[int], confidence: float
    ) -> Generator[Batch, Samples, Comparison | None]:
        """The comparison of one rival with the queried point on samples of its own.

        None where the rival fails: nobody should grow there.
        """
        log_ratios: list[F64] = []
        samples_of_pairs: list[Samples] = []
        comparison: Comparison | None = None
        pairs = 0
        for look in looks:
            if pairs and self._visits_until(1.0, self._contest_warmup_calls) < 2 * (look - pairs):
                break
            while pairs < look:
                count = min(look - pairs, max(6, self._batch_visits() // 2))
                field = np.array([0, rival], dtype=np.int32)
                samples = yield self._batch(
                    [self._rng.permutation(field) for _ in range(count)],
                    self._round,
                    warmup_calls=self._contest_warmup_calls,
                )
                self._round += count
                pairs += count
                self._contested.append(samples)
                samples_of_pairs.append(samples)
                if rival in self._failures:
                    return None
                log_ratios.append(_paired_point_ratios(samples, rival))
            ratios = np.concatenate(log_ratios)
            if not len(ratios):
                return None
            comparison = compare(ratios, confidence)
            margin = self._margin(ratios, samples_of_pairs)
            if comparison.verdict == "faster" and comparison.high >= 1 - margin:
                comparison = replace(comparison, verdict="ambiguous")
            if comparison.verdict != "ambiguous" or comparison.low > 1 - self.WORTHWHILE:
                break
        self._num_confirmations += 0 if comparison is None else comparison.num_pairs
        return comparison

    def _margin(self, log_ratios: F64, confirmation: Sequence[Samples]) -> float:
        """By how much a rival must surely be faster: on a disturbed host, by WORTHWHILE.

        What a neighbour slows down differs by point, so a race beside one tells what holds
        beside it; when it is gone, small gains may be gone, too. The host is disturbed where it
        was as the field was narrowed, or is now: by the spread of the pairs, each of which has
        the noise of two samples, or by samples that could not be taken undisturbed.
        """
        if dict(self._spec.workload.params).get("backend") == "compiled":
            return self.SETTLED_MARGIN
        spread = 1.48 * np.median(np.abs(log_ratios - np.median(log_ratios))) / np.sqrt(2)
        unstable = np.concatenate([samples.unstable for samples in confirmation])
        is_disturbed = (
            max(self.noise, spread) > self.DISTURBED * self.REFERENCE_NOISE
            or np.mean(unstable) > self.MAX_UNSTABLE
        )
        return self.WORTHWHILE if is_disturbed else 0.0

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
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
        best_rival = np.full(n, -1, dtype=np.int32)
        ratio, ratio_low, ratio_high = (np.full(n, np.nan) for _ in range(3))
        if self._is_settled:
            target[0] = 0
        if self._best is not None and self._best[0] not in self._failures:
            rival, comparison = self._best
            best_rival[0] = rival
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
                target=target,
                ratio=ratio,
                ratio_low=ratio_low,
                ratio_high=ratio_high,
                rival=best_rival,
            ),
            measured_at=measured_at,
            failures=dict(self._failures),
            evidence={
                **self._cost(),
                "rounds": self._round,
                "candidates": int(np.count_nonzero(num_samples)) - 1,
                "confirmations": self._num_confirmations,
                "budget_s": round(self._budget_s, 4),
                "cut_short": float(self._is_cut_short),
                "guided": float(self._spec.guide is not None),
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
