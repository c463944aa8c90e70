"""Kernels side by side, and the sparsity from which on the sparse one wins.

numpy only. Knows neither torch, nor storage, nor wall clocks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Generator, Mapping

import numpy as np

from profiler_service.analysis.comparison import Comparison, column_medians
from profiler_service.analysis.crossover import CHOOSE_EVERY, KernelRounds, find_crossover
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.kinds.kernels import DENSE_BACKENDS, MAX_PERCENT, Kernel, dense_points
from profiler_service.plan.base import MAX_CALLS, Batch, SteppedPlanner


class KernelPlanner(SteppedPlanner):
    """Compares the kernels of a grid (see `kinds.kernels`) in rounds, each visited once in each.

    Of dense kernels alone: ROUNDS rounds, or as many as COMPARING_S allows. With the sparse one: a
    few rounds over SCAN's sparsities show roughly where it passes each dense kernel. Then, for
    each dense kernel, the whole percentages around that place are measured, and the gap closed
    until the last one that isn't faster and the next one stand side by side; those that can't be
    told from equal are measured longest. Latency is taken to fall with sparsity only to decide
    where to look: what was measured counts (`crossover.find_crossover`).
    """

    ROUNDS = 60
    SAMPLE_S = 1e-4
    """Calls are timed together for about this long (MAX_CALLS at most): reading the clock delays
    the next call by about a microsecond, and not every kernel by the same."""
    COMPARING_S = 0.5
    """Comparing dense kernels ends after this long, if there are FEWEST_ROUNDS."""
    FEWEST_ROUNDS = 18
    """6 choose, 12 judge."""
    DEAR_S = 2e-3
    """Calls are dear where one takes longer than this (a whole network)."""
    DEAR_ROUNDS = 9
    """As few rounds, without a warm-up, where calls are dear:
    3 choose, 6 judge, and nothing is sure unless all 6 agree. With the calibration that is 26
    calls, where a race has 100 at least."""
    DEAR_MARGIN = 0.02
    """There no smaller gain is claimed. Without a warm-up the state described at WARMUP_CALLS
    weighs on a network's call, too, if only a little: on one machine ratios were up to 1.7 %
    off those with one warm-up call, on either side."""
    SCAN = (0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95, 99)
    SCAN_ROUNDS = 6
    LOOK_ROUNDS = 12
    WARMUP_CALLS = 8
    """Untimed calls at each visit. What a kernel makes of a weight beforehand leaves caches and
    address translation in a state of its own: on one machine the second call after it was still
    up to twice as slow as the tenth, the ninth within 2 %."""
    MAX_LOOKS = 24
    SEARCH_S = 10.0
    """The search ends after this long, if the crossovers have been closed in on."""
    MARGIN = 1
    """Percentages measured on either side of where the crossover is expected."""
    PRECISION = 0.01
    """A kernel within ± this of another, surely, needn't be told from it."""

    _round = 0
    _first_batch = 0
    _warmup_calls = WARMUP_CALLS
    _margin = 0.0

    def _plan(self) -> Generator[Batch, Samples, None]:
        for anchor in self._dense_points():
            if (yield from self._calibrate(anchor)):
                break
        else:
            return
        self._first_batch = len(self._batches)
        call_s = float(np.median(self._calibration_s))
        self._calls = int(np.clip(np.ceil(self.SAMPLE_S / call_s), 1, MAX_CALLS))
        if self._num_points <= len(DENSE_BACKENDS):
            yield from self._compare_dense(is_dear=call_s > self.DEAR_S)
            return
        self._advance(0.1, f"looking at {len(self.SCAN)} sparsities")
        yield from self._meet(self.SCAN, self.SCAN_ROUNDS)
        for look in range(self.MAX_LOOKS):
            doubtful, is_open = self._find_doubtful()
            if not doubtful or (self._seconds > self.SEARCH_S and not is_open):
                return
            self._advance(0.3 + 0.7 * look / self.MAX_LOOKS, f"{len(doubtful)} sparsities in doubt")
            yield from self._meet(doubtful, self.LOOK_ROUNDS)

    def _compare_dense(self, *, is_dear: bool) -> Generator[Batch, Samples, None]:
        """The rounds that compare dense kernels alone."""
        self._advance(0.1, "comparing kernels")
        if is_dear:
            self._warmup_calls, self._margin = 0, self.DEAR_MARGIN
            fewest, more = self.DEAR_ROUNDS, CHOOSE_EVERY
        else:
            fewest, more = self.FEWEST_ROUNDS, self.LOOK_ROUNDS
        yield from self._meet((), fewest)
        # The first visit may have taken seconds for compiling; long calls count from the first.
        started_s = 0.0 if is_dear else self._seconds
        while self._round < self.ROUNDS and self._seconds - started_s < self.COMPARING_S:
            self._advance(self._round / self.ROUNDS, "comparing kernels")
            yield from self._meet((), more)

    def _dense_points(self) -> range:
        return dense_points(self._num_points)

    def _meet(self, percents: Collection[int], rounds: int) -> Generator[Batch, Samples, None]:
        """More rounds of all dense kernels and the sparse one at these percentages."""
        last = self._round + rounds
        while self._round < last:
            field = [*self._dense_points(), *(Kernel("csr", p).point for p in percents)]
            field = [point for point in field if point not in self._failures]
            if not field:
                return
            count = min(max(1, self._batch_visits() // len(field)), last - self._round)
            order = np.array(field, dtype=np.int32)
            samples = yield self._batch(
                [self._rng.permutation(order) for _ in range(count)],
                self._round,
                warmup_calls=self._warmup_calls,
            )
            self._learn_visit_s(samples)
            self._round += count

    def _rounds(self) -> KernelRounds:
        rounds = KernelRounds(self._batches[self._first_batch :], self._num_points)
        rounds.forget(list(self._failures))
        return rounds

    def _find_doubtful(self) -> tuple[list[int], bool]:
        """The percentages to measure more; and whether a crossover isn't closed in on yet."""
        rounds = self._rounds()
        doubtful: set[int] = set()
        is_open = False
        for dense in rounds.dense_points():
            compared = rounds.compare_sparse(dense)
            gap = self._find_gap(compared)
            is_open |= bool(gap)
            doubtful |= gap or self._find_ambiguous(compared)
        return sorted(doubtful), is_open

    def _find_gap(self, compared: Mapping[int, Comparison]) -> set[int]:
        """Percentages never measured where this crossover must lie; empty once there are none."""
        crossover = find_crossover(compared)
        if crossover is None or crossover.percent is None or crossover.percent == min(compared):
            return set()
        last = crossover.percent - 1
        after = min(p for p in compared if p > last)
        if after == last + 1:
            return set()
        slower, faster = compared[last].ratio, compared[after].ratio
        expected = last + (after - last) * (slower - 1) / (slower - faster)
        near = range(round(expected) - self.MARGIN, round(expected) + self.MARGIN + 1)
        return {
            p for p in near if last < p < after and Kernel("csr", p).point not in self._failures
        }

    def _find_ambiguous(self, compared: Mapping[int, Comparison]) -> set[int]:
        """Percentages measured, around this crossover, that may lie on either side of it."""
        crossover = find_crossover(compared)
        if crossover is None:
            return set()
        end = MAX_PERCENT + 1 if crossover.high is None else crossover.high
        return {
            p
            for p in compared
            if crossover.low <= p < end
            and compared[p].verdict == "ambiguous"
            and not 1 - self.PRECISION < compared[p].low <= compared[p].high < 1 + self.PRECISION
        }

    def _is_hopeless(self) -> bool:
        """Without a dense kernel there is nothing to compare with."""
        return set(self._dense_points()) <= set(self._failures)

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve: every kernel's latency, and how the best dense one compares with it.

        The answer table names the best dense kernel as every kernel's rival, whichever of the
        two has the larger number: numbers of kernels are no sizes.
        """
        rounds = self._rounds()
        found = rounds.find_best_dense()
        if found is None:
            raise self._first_failure()
        best, compared = found
        medians = column_medians(rounds.log)
        n = self._num_points
        ratio, low, high = (np.full(n, np.nan) for _ in range(3))
        for point, comparison in compared.items():
            # The rival's latency over the point's: the comparison the other way round.
            ratio[point] = 1 / comparison.ratio
            low[point] = 1 / comparison.high
            high[point] = 1 / comparison.low if comparison.low else np.inf
        measured = medians.count > 0
        own = np.arange(n, dtype=np.int32)
        target = np.where(high < 1 - self._margin, best, own)  # NaN compares false
        return LatencyCurve(
            workload=self._spec.workload,
            platform=platform,
            protocol=protocol,
            grid=self._spec.grid,
            latency_s=np.exp(medians.center),
            low_s=np.exp(medians.low),
            high_s=np.exp(medians.high),
            num_samples=medians.count,
            status=np.where(measured, PointStatus.UNDECIDED, PointStatus.UNMEASURED).astype(
                np.int8
            ),
            answers=AnswerTable(
                target=np.where(measured, target, -1).astype(np.int32),
                ratio=ratio,
                ratio_low=low,
                ratio_high=high,
                rival=np.where(np.isnan(ratio), -1, best).astype(np.int32),
            ),
            measured_at=measured_at,
            failures=dict(self._failures),
            evidence={**self._cost(), "rounds": self._round},
        )
