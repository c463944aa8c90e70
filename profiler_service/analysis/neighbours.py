"""Comparing samples that were taken one soon after the other.

numpy only. The host changes its state every few milliseconds: its clock, and what its neighbours
do. Two samples taken within a few visits of each other mostly met the same state, so their
difference is sharp. If the state changed between them, it is far off. So every sample is compared
with its neighbours in time, and differences that are far off count little. No model of the states
is needed.

All values are log latencies. Legend: [samples] in order of time, [pairs] of neighbours. Derivation:
docs/explanation/hysteresis.md, "Neighbours in time". Source: ours; the weights are those of
Cauchy's distribution, the intervals those of Fisher's randomization test.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import F64, Comparison, judge

Ints = npt.NDArray[np.intp]

REACH = 8
"""Samples at most so many visits apart are neighbours."""
_SHARES = (1.0, 2.0)
"""Widths of the centre that are tried, as shares of the median distance of neighbours."""
_SHARES_OF_TWO = (0.5, *_SHARES)
"""The same for two points with many samples each. With few of each point, so sharp a centre misses
points whose samples happened to meet other states."""
_LEAST_WIDTH = 0.005
"""Processes and arenas differ by less than this. So all of them count, however small the noise."""
_TINY = 1e-9
_WIDTH_PASSES = 3
"""Passes of a fit that learn the width; then it stays, so that the levels converge."""
_MAX_PASSES = 30
_CONVERGED = 1e-5
_STEPS = 12
"""Steps in which the end of an interval is searched for."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise of samples, as far as it matters for differences of levels."""

    width: float
    """Width of the sharp centre of the differences of neighbours."""
    deviation: float
    """A level from n samples has the standard error `deviation` / √n."""


class Neighbours:
    """The pairs of samples that are neighbours in time."""

    def __init__(self, batch: npt.NDArray[np.integer], visit: npt.NDArray[np.integer]) -> None:
        """`batch` and `visit` [samples] say in which batch, and as which visit of it (ascending).

        Samples of different batches are no neighbours: other work lies between them.
        """
        self.size = len(batch)
        firsts, seconds = [], []
        for step in range(1, min(REACH, self.size - 1) + 1):
            is_near = (batch[step:] == batch[:-step]) & (visit[step:] - visit[:-step] <= REACH)
            first = np.flatnonzero(is_near)
            firsts.append(first)
            seconds.append(first + step)
        self.first: Ints = np.concatenate([np.zeros(0, dtype=np.intp), *firsts])
        self.second: Ints = np.concatenate([np.zeros(0, dtype=np.intp), *seconds])

    @classmethod
    def of_lengths(cls, lengths: Sequence[int]) -> Neighbours:
        """Of batches with so many samples, one after the other."""
        count = np.array(lengths, dtype=np.intp)
        starts = np.cumsum(count) - count
        batch = np.repeat(np.arange(len(count)), count)
        return cls(batch, np.arange(len(batch)) - starts[batch])

    def differ(self, value: F64) -> F64:
        """Each first value minus the second, [pairs]."""
        difference: F64 = value[self.first] - value[self.second]
        return difference

    def pull(self, residual: F64, width: float) -> F64:
        """How much its neighbours pull each sample down, [samples]: the sum of the scores."""
        difference = self.differ(residual)
        score = difference / (1 + (difference / width) ** 2)
        return self._sum(score, -score)

    def hold(
        self, residual: F64, width: float, *, among: npt.NDArray[np.bool_] | None = None
    ) -> F64:
        """By how much a sample's pull grows with its value, [samples]: by the pairs `among`."""
        square = (self.differ(residual) / width) ** 2
        slope = (1 - square) / (1 + square) ** 2
        slope = slope if among is None else slope * among
        return self._sum(slope, slope)

    def weigh(self, residual: F64, width: float) -> F64:
        """The weight of each pair, [pairs]: 1 if both residuals are equal."""
        weight: F64 = 1 / (1 + (self.differ(residual) / width) ** 2)
        return weight

    def _sum(self, of_first: F64, of_second: F64) -> F64:
        """What all pairs of each sample add up to, [samples]."""
        total = np.zeros(self.size)
        total += np.bincount(self.first, of_first, self.size)
        total += np.bincount(self.second, of_second, self.size)
        return total

    def find_noise(self, residual: F64, shares: Sequence[float] = _SHARES) -> Noise | None:
        """The noise of the residuals, with the width that makes levels most precise.

        None if there are no pairs, or if their differences have no sharp centre.
        """
        if not len(self.first):
            return None
        difference = self.differ(residual)
        usual = float(np.median(np.abs(difference)))
        found: list[Noise] = []
        for share in shares:
            width = max(share * usual, _LEAST_WIDTH)
            weight = 1 / (1 + (difference / width) ** 2)
            score = difference * weight
            pull = self._sum(score, -score)
            # The slope of a score is (1 - u²) / (1 + u²)² = (2 weight - 1) weight.
            hold = 2 * float(np.sum((2 * weight - 1) * weight)) / self.size
            if hold > 0:
                deviation = math.sqrt(float(np.mean(pull**2))) / hold
                found.append(Noise(width=width, deviation=deviation))
        return min(found, key=lambda each: each.deviation, default=None)

    def remove_states(self, residual: F64) -> F64:
        """Each residual without the host's state: minus the median of it and its neighbours."""
        around = np.full((self.size, 2 * REACH + 1), np.nan)
        around[:, REACH] = residual
        step = self.second - self.first
        around[self.first, REACH + step] = residual[self.second]
        around[self.second, REACH - step] = residual[self.first]
        # Several times as fast as np.nanmedian: NaN is sorted behind all numbers.
        around.sort(axis=1)
        last = np.count_nonzero(~np.isnan(around), axis=1) - 1
        row = np.arange(self.size)
        median: F64 = (around[row, last // 2] + around[row, (last + 1) // 2]) / 2
        return residual - median


def number_rounds(
    batch: npt.NDArray[np.integer], round_number: npt.NDArray[np.integer]
) -> npt.NDArray[np.intp]:
    """A number from 0 for each round of each batch, ascending: arrays [samples]."""
    both = np.stack([batch, round_number])
    number: Ints = np.unique(both, axis=1, return_inverse=True)[1].reshape(-1).astype(np.intp)
    return number


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """The levels of groups of samples; arrays [groups]."""

    level: F64
    """Log latencies, of which only differences are meant: their mean is 0."""
    covariance: F64
    """[groups, groups] The errors of the differences."""
    noise: Noise
    residual: F64
    """[samples] What the levels don't explain: states of the host, and noise."""


def fit_levels(value: F64, group: Ints, round_number: Ints, near: Neighbours) -> Levels:
    """The levels of the groups 0, 1, ... from samples in rounds, each in random order.

    In a round, each group has at most one sample, and any order was as likely as another one. The
    covariance follows from that alone: it is what other orders would have made of the same host.
    Groups that were never neighbours of others, not even through further ones, have any level, and
    large errors.
    """
    count = int(group.max()) + 1 if len(group) else 0
    level: F64 = np.array([np.median(value[group == each]) for each in range(count)])
    level -= level.mean() if count else 0.0
    noise = Noise(width=_LEAST_WIDTH, deviation=0.0)
    first, second = group[near.first], group[near.second]
    difference = near.differ(value)
    laplacian: F64 = np.zeros((count, count))
    for number in range(_MAX_PASSES):
        residual = value - level[group]
        if number < _WIDTH_PASSES:
            noise = near.find_noise(residual) or noise
        weight = near.weigh(residual, noise.width)
        laplacian = _sum_pairs(first, second, weight, count)
        right = np.zeros(count)
        right += np.bincount(first, weight * difference, count)
        right -= np.bincount(second, weight * difference, count)
        before, level = level, np.asarray(_solve(laplacian, right), dtype=np.float64)
        if number >= _WIDTH_PASSES and np.abs(level - before).max(initial=0.0) < _CONVERGED:
            break
    residual = value - level[group]
    pull = near.pull(residual, noise.width)
    hold = near.hold(residual, noise.width)
    weight = near.weigh(residual, noise.width)
    # The slopes of single pairs may be negative. Their usual share of the weight isn't.
    share = max(float(hold.sum()) / (2 * max(float(weight.sum()), 1e-12)), 0.05)
    return Levels(
        level=level,
        covariance=_find_covariance(share * laplacian, _permute(pull, group, round_number, count)),
        noise=noise,
        residual=residual,
    )


def _sum_pairs(first: Ints, second: Ints, weight: F64, count: int) -> F64:
    """The equations of groups [count, count] from weighted differences: a graph's Laplacian."""
    cells = np.bincount(first * count + second, weight, count * count).reshape(count, count)
    cells = cells + cells.T
    np.fill_diagonal(cells, 0.0)
    laplacian: F64 = np.diag(cells.sum(axis=1)) - cells
    return laplacian


def _solve(laplacian: F64, right: F64) -> F64:
    """The solution with mean 0. What isn't determined at all is pulled to 0, very weakly."""
    count, tiny = len(laplacian), _find_tiny(laplacian)
    grounded = laplacian + tiny / _TINY / max(count, 1) + tiny * np.eye(count)
    solution: F64 = np.asarray(np.linalg.solve(grounded, right), dtype=np.float64)
    return solution - (solution.mean(axis=0) if count else 0.0)


def _find_tiny(laplacian: F64) -> float:
    return _TINY * max(float(np.trace(laplacian)) / max(len(laplacian), 1), 1.0)


def _permute(pull: F64, group: Ints, round_number: Ints, count: int) -> F64:
    """Covariance of the groups' sums of `pull`, if each round's order had been another one."""
    _, row = np.unique(round_number, return_inverse=True)
    size = np.bincount(row)
    mean = np.bincount(row, pull) / size
    variance = np.bincount(row, (pull - mean[row]) ** 2) / np.maximum(size - 1, 1)
    member = np.zeros((len(size), count))
    member[row, group] = 1.0
    covariance: F64 = np.diag(variance @ member) - (member * (variance / size)[:, None]).T @ member
    # A group whose samples disagree more than others do is known less well.
    own = np.bincount(group, (pull - mean[row]) ** 2, count)
    usual = np.diag(covariance)
    factor = np.sqrt(np.maximum(own / np.where(usual > 0, usual, np.inf), 1.0))
    scaled: F64 = covariance * np.outer(factor, factor)
    return scaled


def _find_covariance(laplacian: F64, of_sums: F64) -> F64:
    # What isn't determined at all has a very large error.
    half = _solve(laplacian, of_sums + _find_tiny(laplacian) ** 2 * np.eye(len(laplacian)))
    covariance: F64 = _solve(laplacian, half.T)
    return (covariance + covariance.T) / 2


class NearPair:
    """Two points that met in rounds: by how much the rival's log latency is larger.

    Each round visited both once, in random order. If the rival's values are lowered by the true
    difference, either order was as likely as the other. So each round could as well have had the
    opposite sign, whatever the host did: that gives the interval (Fisher's randomization test).
    """

    def __init__(
        self, value: F64, is_rival: npt.NDArray[np.bool_], round_number: Ints, near: Neighbours
    ) -> None:
        """Arrays [samples]; each round has one sample of each point.

        Raises ValueError without a round, or if the two points were never neighbours.
        """
        if not len(value):
            raise ValueError("no pairs to compare")
        self._near = near
        self._is_rival = is_rival
        self._value = value
        # Each round's two samples, rival first.
        order = np.lexsort((~is_rival, round_number))
        self._rival, self._other = order[::2], order[1::2]
        self.num_pairs = len(self._rival)
        self.center = self._find_center()
        self.pull, self._hold = self._sum_rounds(self._value - self.center * is_rival)

    @property
    def error(self) -> float:
        """Standard error of the centre; infinite if the samples don't determine it."""
        hold = float(self._hold.sum())
        return math.sqrt(float(np.sum(self.pull**2))) / hold if hold > 0 else math.inf

    def compare(self, confidence: float, *, between: float = 0.0) -> Comparison:
        """The comparison, with the interval that the randomization test leaves.

        `between` is half the width of an interval for what all pairs share, such as the processes
        that took them: independent of the noise, so the two add up in squares.
        """
        z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
        below, above = self._find_end(z, -1.0), self._find_end(z, 1.0)
        return judge(
            self.center,
            self.center - math.hypot(below, between),
            self.center + math.hypot(above, between),
            num_pairs=self.num_pairs,
        )

    def find_group_centers(self, group: Ints) -> tuple[F64, F64]:
        """Centre and squared error for each group of rounds: arrays [groups].

        `group` [rounds], from 0, in the order of the rounds. Only neighbours within a group count.
        NaN where a group determines none, as one of a single round.
        """
        of_sample: Ints = np.zeros(self._near.size, dtype=np.intp)
        of_sample[self._rival] = of_sample[self._other] = group
        first, second = of_sample[self._near.first], of_sample[self._near.second]
        sign = self._is_rival.astype(np.float64)
        shift = self._near.differ(sign)
        is_mine = (shift != 0) & (first == second)
        difference = (self._near.differ(self._value) * shift)[is_mine]
        number = np.bincount(group)
        center: F64 = np.full(len(number), self.center)
        for _ in range(_MAX_PASSES):
            residual = self._value - center[of_sample] * sign
            weight = self._near.weigh(residual, self.width)[is_mine]
            total = np.bincount(first[is_mine], weight, len(number))
            moved = np.bincount(first[is_mine], weight * difference, len(number))
            before, center = center, moved / np.where(total > 0, total, np.nan)
            if np.nanmax(np.abs(center - before), initial=0.0) < _CONVERGED:
                break
        residual = self._value - center[of_sample] * sign
        pull, hold = self._sum_rounds(residual)
        # As in `fit_levels`: a group's own slope may be near zero. The usual share of it isn't.
        share = max(float(hold.sum()) / max(float(weight.sum()), 1e-12), 0.05)
        squares = np.bincount(group, pull**2) * number / np.where(number > 1, number - 1, np.nan)
        return np.where(number > 1, center, np.nan), squares / (share * total) ** 2

    def _find_center(self) -> float:
        center = float(np.median(self._value[self._rival] - self._value[self._other]))
        sign = self._is_rival.astype(np.float64)
        shift = self._near.differ(sign)
        is_cross = shift != 0
        if not is_cross.any():
            raise ValueError("no samples of the two points are neighbours")
        difference = (self._near.differ(self._value) * shift)[is_cross]
        self.width = _LEAST_WIDTH
        for number in range(_MAX_PASSES):
            residual = self._value - center * sign
            if number < _WIDTH_PASSES:
                noise = self._near.find_noise(residual, _SHARES_OF_TWO)
                self.width = self.width if noise is None else noise.width
            weight = self._near.weigh(residual, self.width)[is_cross]
            before, center = center, float(weight @ difference / weight.sum())
            if number >= _WIDTH_PASSES and abs(center - before) < _CONVERGED:
                break
        return center

    def _sum_rounds(self, residual: F64) -> tuple[F64, F64]:
        """What each round says against a centre with this residual, and its slope: [rounds]."""
        pull = self._near.pull(residual, self.width)
        is_rival = self._is_rival
        is_cross = is_rival[self._near.first] != is_rival[self._near.second]
        hold = self._near.hold(residual, self.width, among=is_cross)
        each = pull[self._rival] - pull[self._other]
        return each / 2, (hold[self._rival] + hold[self._other]) / 2

    def _score(self, center: float) -> float:
        """By how many standard deviations the rounds speak against this centre."""
        residual = self._value - center * self._is_rival
        pull = self._near.pull(residual, self.width)
        each = pull[self._rival] - pull[self._other]
        deviation = math.sqrt(float(each @ each))
        return float(each.sum()) / deviation if deviation > 0 else 0.0

    def _find_end(self, z: float, side: float) -> float:
        """How far from the centre the interval ends; infinity if no distance is ruled out."""
        step = z * self.error
        if not 0 < step < 1:
            step = self.width
        inside, outside = 0.0, step
        for _ in range(_STEPS):
            if -side * self._score(self.center + side * outside) >= z:
                break
            inside, outside = outside, 1.5 * outside
        else:
            return math.inf
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            if -side * self._score(self.center + side * middle) >= z:
                outside = middle
            else:
                inside = middle
            if outside - inside < 0.01 * outside:
                break
        return outside
