"""Comparisons of kernels, and the sparsity from which on the sparse kernel is faster.

numpy only. Knows neither torch, nor storage, nor wall clocks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Generator, Mapping
from dataclasses import replace

import numpy as np

from profiler_service.analysis.comparison import Comparison, column_medians
from profiler_service.analysis.crossover import CHOOSE_EVERY, LOOKS, KernelRounds, find_crossover
from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.kinds.kernels import DENSE_BACKENDS, MAX_PERCENT, Kernel, dense_points
from profiler_service.plan.base import MAX_CALLS, Batch, SteppedPlanner


class KernelPlanner(SteppedPlanner):
    """Compares the kernels of a grid (see `kinds.kernels`). Each round visits each kernel.

    A grid of dense kernels alone has ROUNDS rounds, or as many as fit into COMPARING_S.

    With the sparse kernel, a few rounds over the sparsities of SCAN show roughly from which
    sparsity on it is faster than each dense kernel. Then the whole percentages around that sparsity
    are measured, until the last one that isn't faster and the first one that is faster are
    neighbours. Percentages that stay ambiguous are measured longest. Each comparison is judged at
    `crossover.LOOKS` only, so that looking often makes no verdict. The planner assumes that latency
    falls with sparsity only when it chooses what to measure. The crossover follows from
    measurements alone (`crossover.find_crossover`).
    """

    ROUNDS = 60
    SAMPLE_S = 1e-4
    """Calls are timed together for about this long (MAX_CALLS at most). Reading the clock delays
    the next call by about a microsecond. The delay differs between kernels."""
    COMPARING_S = 0.5
    """Comparing dense kernels ends after this long, if there are FEWEST_ROUNDS."""
    FEWEST_ROUNDS = 18
    """6 rounds choose, 12 judge."""
    DEAR_S = 2e-3
    """A call that takes longer than this (a whole network) is *long*."""
    DEAR_ROUNDS = 9
    """Number of rounds if calls are long. 3 choose, 6 judge, and there is a verdict only if all 6
    agree. With the calibration and the warm-ups that is 40 calls; a race has 100 at least."""
    DEAR_WARMUP_CALLS = 1
    """Untimed calls at each visit if calls are long, as in all other modes."""
    DEAR_MARGIN = 0.02
    """If calls are long, a gain must surely be more than this. A few rounds are one batch or two of
    one process. Ratios differ from process to process and from arena to arena by 0.4 % each, so by
    up to 1.96 · √(0.4² + 0.4²) % = 1.1 %, and one warm-up call leaves some of the effect described
    at WARMUP_CALLS."""
    SCAN = (0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95, 99)
    SCAN_ROUNDS = LOOKS[0]
    MORE_ROUNDS = 12
    """Rounds at a time after the first ones, if only dense kernels are compared."""
    WARMUP_CALLS = 8
    """Untimed calls at each visit. Each kernel prepares the weight in its own way, which leaves
    caches and address translation in different states. On one machine the second call after that
    was up to twice as slow as the tenth; the ninth was within 2 %."""
    MAX_ROUNDS = LOOKS[-1] + SCAN_ROUNDS
    SEARCH_S = 10.0
    """The search ends after this long, if no percentage is missing around a crossover."""
    MARGIN = 1
    """Number of percentages measured on either side of the expected crossover."""
    PRECISION = 0.01
    """If a kernel's ratio to another surely lies within 1 ± this, their order doesn't matter."""

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
        while self._round < self.MAX_ROUNDS:
            doubtful, is_open = self._find_doubtful()
            if not doubtful or (self._seconds > self.SEARCH_S and not is_open):
                return
            done = 0.3 + 0.7 * self._round / self.MAX_ROUNDS
            self._advance(done, f"{len(doubtful)} sparsities in doubt")
            yield from self._meet(doubtful, self._rounds().count_to_look(doubtful))

    def _compare_dense(self, *, is_dear: bool) -> Generator[Batch, Samples, None]:
        """The rounds that compare only dense kernels."""
        self._advance(0.1, "comparing kernels")
        if is_dear:
            self._warmup_calls, self._margin = self.DEAR_WARMUP_CALLS, self.DEAR_MARGIN
            fewest, more = self.DEAR_ROUNDS, CHOOSE_EVERY
        else:
            fewest, more = self.FEWEST_ROUNDS, self.MORE_ROUNDS
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
        """The percentages to measure more, and whether one is missing around a crossover."""
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
        """Percentages between which this crossover must lie and that aren't measured yet."""
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
        """Measured percentages around this crossover that may lie on either side of it."""
        crossover = find_crossover(compared)
        if crossover is None:
            return set()
        end = MAX_PERCENT + 1 if crossover.high is None else crossover.high
        return {
            p
            for p in compared
            if crossover.low <= p < end
            and compared[p].verdict == "ambiguous"
            and compared[p].num_pairs < LOOKS[-1]
            and not 1 - self.PRECISION < compared[p].low <= compared[p].high < 1 + self.PRECISION
        }

    def _is_hopeless(self) -> bool:
        """Without a dense kernel there is nothing to compare with."""
        return set(self._dense_points()) <= set(self._failures)

    def build_curve(
        self, platform: Platform, protocol: TimingProtocol, measured_at: dt.datetime
    ) -> LatencyCurve:
        """The curve: every kernel's latency, and how the best dense one compares with it.

        In the answer table, the best dense kernel is the rival of every kernel, even of one with a
        larger number: numbers of kernels are no sizes.
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
            # The rival's latency divided by the point's: the inverse of the comparison's ratio.
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
            evidence=replace(self._cost(), rounds=self._round),
        )
