"""Dominance, latency hysteresis points, hysteresis bins, redundancy, and the query.

numpy only; knows neither how latencies were measured nor where curves are kept.
Source: Yin et al., section 3; the statistics are ours (docs/explanation/hysteresis.md).

Point d dominates q when d ≥ q on every axis, d ≠ q and L(d) ≤ L(q): more capacity, no more
time. An LHP is a point that nothing dominates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.analysis.facts import PairEstimate
from profiler_service.workload import Dims

F64 = npt.NDArray[np.float64]
Prefer = Literal["fastest", "nearest", "largest"]


def suffix_argmin(latency: F64) -> npt.NDArray[np.int32]:
    """For every point, the number of the fastest point at or above it on every axis.

    `latency` has one array axis for each grid axis (any number); NaN marks points that can't
    answer. Returns flat row-major numbers in the same shape, -1 if every point at or above is NaN.
    Among equally fast points, the one chosen is exceeded by none of the others. So a point is its
    own argmin exactly when nothing dominates it.

    One running minimum along each reversed axis: O(axes · points), no search.
    """
    value = np.where(np.isnan(latency), np.inf, latency)
    number = np.where(np.isnan(latency), -1, np.arange(latency.size).reshape(latency.shape))
    for axis in reversed(range(latency.ndim)):
        value = np.flip(np.moveaxis(value, axis, -1), -1)
        number = np.flip(np.moveaxis(number, axis, -1), -1)
        running = np.minimum.accumulate(value, axis=-1)
        # Strictly below everything seen so far. Those points are larger, so ties go to the larger
        # one.
        fresh = np.ones_like(value, dtype=bool)
        fresh[..., 1:] = value[..., 1:] < running[..., :-1]
        source = np.maximum.accumulate(np.where(fresh, np.arange(value.shape[-1]), 0), axis=-1)
        number = np.take_along_axis(number, source, axis=-1)
        value = np.moveaxis(np.flip(running, -1), -1, axis)
        number = np.moveaxis(np.flip(number, -1), -1, axis)
    return number.astype(np.int32)


def smallest_above(value: F64) -> F64:
    """For every point, the smallest value among the points above it, without itself.

    `value` has one array axis for each grid axis; NaN counts as absent. Infinity if nothing lies
    above.
    """
    running = np.where(np.isnan(value), np.inf, value)
    for axis in range(value.ndim):
        running = np.flip(np.minimum.accumulate(np.flip(running, axis), axis=axis), axis)
    above = np.full(value.shape, np.inf)
    for axis in range(value.ndim):
        here = [slice(None)] * value.ndim
        there = [slice(None)] * value.ndim
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        above[tuple(here)] = np.minimum(above[tuple(here)], running[tuple(there)])
    return above


def find_lhps(latency: F64) -> npt.NDArray[np.bool_]:
    """Which points of a noise-free curve are LHPs, in the shape of `latency`. NaN is never one."""
    number = np.arange(latency.size).reshape(latency.shape)
    is_lhp: npt.NDArray[np.bool_] = suffix_argmin(latency) == number
    return is_lhp


def find_edges(measured: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which measured points have no larger point that was measured, in the shape of `measured`.

    Such a point is no LHP: nothing says that a larger one would be slower.
    """
    edges: npt.NDArray[np.bool_] = measured & np.isinf(
        smallest_above(np.where(measured, 0.0, np.nan))
    )
    return edges


def find_confirmed_lhps(
    low: F64, high: F64, measured: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which points are confidently below every larger one: `high` below the `low` of all of them.

    All arrays have one array axis for each grid axis. A measured point without an interval
    (NaN) could have any latency, so nothing below it is confirmed. A point that was not measured
    is not a rival: an edge is below all of its rivals, as it has none.
    """
    unsure = np.where(measured & np.isnan(low), -np.inf, low)
    confirmed: npt.NDArray[np.bool_] = high < smallest_above(unsure)  # NaN compares false
    return confirmed


@dataclass(frozen=True, kw_only=True)
class HysteresisBin:
    """The dimensions after one LHP, up to and including the next: `first` to `last`.

    Every dimension of the bin is best grown to `last`.
    """

    first: int
    last: int


def hysteresis_bins(
    dims: Sequence[int] | npt.NDArray[np.int32], is_lhp: Sequence[bool] | npt.NDArray[np.bool_]
) -> list[HysteresisBin]:
    """The bins of a one-axis curve with ascending `dims`; points after the last LHP are in none."""
    values, last = np.asarray(dims), np.flatnonzero(is_lhp)
    first = np.append(0, last + 1)[:-1]
    return [
        HysteresisBin(first=low, last=high)
        for low, high in zip(values[first].tolist(), values[last].tolist(), strict=True)
    ]


def redundancy(latency: F64) -> float:
    """1 − #LHPs / #points of a noise-free curve. Source: Yin et al., Fig. 3."""
    measured = np.count_nonzero(~np.isnan(latency))
    return 1 - float(np.count_nonzero(find_lhps(latency))) / measured


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a query: the larger point that costs no more."""

    dims: Dims
    lhp: Dims
    """The dims to use; equal to `dims` if nothing larger is confidently faster (with slack: is no
    slower)."""
    is_lhp: bool
    """Whether `dims` is itself an LHP. From a grid curve: every larger point is confidently
    slower. From a race: its best rivals are."""
    verdict: Verdict
    """The verdict on the best larger point, compared with `dims`: `faster` if it is the answer,
    otherwise `slower` or `ambiguous`. With slack, the answer may have any of them."""
    prefer: Prefer
    latency_s: float
    latency_interval_s: tuple[float, float]
    """95 % interval on `latency_s`; NaN for fewer than 6 samples."""
    lhp_latency_s: float
    speedup: float
    """Latency of `dims` divided by latency of `lhp`; 1 if they are the same."""
    speedup_interval: tuple[float, float]
    """95 % interval on `speedup`; (1, 1) if they are the same."""
    num_samples: int
    """Samples of `dims` and `lhp` together."""

    @property
    def grow_by(self) -> Dims:
        """`lhp` minus `dims`, per axis."""
        return tuple(b - a for a, b in zip(self.dims, self.lhp, strict=True))

    @property
    def has_moved(self) -> bool:
        """Whether larger dims are the answer."""
        return self.lhp != self.dims


@dataclass(frozen=True, kw_only=True)
class _Rival:
    """A larger point, with its latency ratio to the point asked for."""

    index: int
    ratio: float
    low: float
    high: float


def find_answer(
    curve: LatencyCurve,
    dims: Sequence[int],
    *,
    prefer: Prefer,
    growth: Sequence[int],
    multiple_of: Sequence[int] | None = None,
    slack: float = 0.0,
    is_race: bool = False,
) -> Answer | None:
    """The answer that `curve` has for `dims`, or None if it has none.

    `growth` is how far the answer may lie above `dims`, per axis (inclusive). With `multiple_of`,
    it is a multiple of these numbers, one for each axis, unless it is `dims`.

    `fastest` is read from the curve's table of answers, and so is every answer if the curve
    `is_race`: it looked for that preference. If the point in the table lies beyond `growth`, or is
    no multiple, the curve doesn't know which point is the answer within `growth`, and there is
    none. Neither is there one if the pair's interval has no lower end (earlier versions kept such).
    From a grid, `nearest` and `largest` are chosen among the points whose whole interval lies below
    that of the queried point, times 1 + `slack`. This is stricter than the paired comparison of the
    table, since both intervals count.
    """
    asked = curve.grid.find_index(dims)
    if asked is None or curve.answers.target[asked] < 0:
        return None
    table = curve.answers
    target = int(table.target[asked])
    tabled = _Rival(
        index=target,
        ratio=float(table.ratio[asked]),
        low=float(table.ratio_low[asked]),
        high=float(table.ratio_high[asked]),
    )
    if target != asked and tabled.low == 0:
        return None
    limit = [dim + grow for dim, grow in zip(dims, growth, strict=True)]
    multiples = multiple_of or (1,) * len(dims)
    within = target == asked or all(
        d <= most and d % multiple == 0
        for d, most, multiple in zip(curve.grid.dims(target), limit, multiples, strict=True)
    )
    is_lhp = bool(curve.status[asked] == PointStatus.LHP)
    if prefer == "fastest" or is_race:
        if not within:
            return None
        chosen = tabled if target != asked else None
    else:
        is_lhp, rivals = _window_rivals(curve, asked, limit, multiples, slack)
        if within and target != asked:
            rivals.append(tabled)
        chosen = _choose(curve, asked, rivals, prefer)
    return _build_answer(curve, asked, chosen, prefer, is_lhp, slack)


def build_answer(curve: LatencyCurve, dims: Sequence[int], fastest: PairEstimate) -> Answer:
    """The answer that the facts about a pair give; `curve` has latencies of both of its points."""
    asked, index = curve.grid.find_index(dims), curve.grid.find_index(fastest.rival)
    assert asked is not None and index is not None
    rival = _Rival(index=index, ratio=fastest.ratio, low=fastest.low, high=fastest.high)
    return _build_answer(curve, asked, rival, "fastest", is_lhp=False)


def keep_asked(curve: LatencyCurve, dims: Sequence[int], *, are_all_slower: bool) -> Answer:
    """The answer that is the queried point; `are_all_slower` says so of all its known rivals."""
    asked = curve.grid.find_index(dims)
    assert asked is not None
    return _build_answer(curve, asked, None, "fastest", is_lhp=are_all_slower)


def _window_rivals(
    curve: LatencyCurve,
    asked: int,
    limit: Sequence[int],
    multiples: Sequence[int],
    slack: float,
) -> tuple[bool, list[_Rival]]:
    """Whether the point is an LHP of its window, and the window's points that are no slower.

    The interval of such a point must lie wholly below that of the asked point, times 1 + `slack`.
    Points that aren't `multiples` don't count.
    """
    grid = curve.grid
    window = tuple(
        slice(int(first), int(np.searchsorted(axis.dims, bound, side="right")))
        for first, axis, bound in zip(
            np.unravel_index(asked, grid.shape), grid.axes, limit, strict=True
        )
    )
    number = np.arange(grid.size).reshape(grid.shape)[window]
    low, high = (values.reshape(grid.shape)[window] for values in (curve.low_s, curve.high_s))
    measured = curve.num_samples.reshape(grid.shape)[window] > 0
    for place, (axis, part, multiple) in enumerate(zip(grid.axes, window, multiples, strict=True)):
        shape = [-1 if each == place else 1 for each in range(len(window))]
        is_multiple = np.array(axis.dims)[part] % multiple == 0
        measured = measured & (is_multiple.reshape(shape) | (number == asked))
    low = np.where(measured, low, np.nan)
    high = np.where(measured, high, np.nan)
    lhps = find_confirmed_lhps(low, high, measured)
    beats = measured & (number != asked) & (high < (1 + slack) * curve.low_s[asked])
    return bool(lhps.flat[0] and not find_edges(measured).flat[0]), [
        _Rival(
            index=index,
            ratio=float(curve.latency_s[index] / curve.latency_s[asked]),
            low=float(curve.low_s[index] / curve.high_s[asked]),
            high=float(curve.high_s[index] / curve.low_s[asked]),
        )
        for index in number[beats].tolist()
    ]


def find_costs(
    prefer: Prefer, asked: Sequence[int], dims: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """A number for each of `dims` [points, axes]; the point with the smallest one is preferred.

    `nearest`: the growth above `asked`, as a share of each dimension, summed. `largest`: the
    capacity, which is the product of the dimensions, with a minus. `fastest`: the same for all.
    """
    if prefer == "nearest":
        growth: F64 = ((dims - np.array(asked)) / np.array(asked)).sum(axis=1)
        return growth
    if prefer == "largest":
        capacity: F64 = dims.astype(np.float64).prod(axis=1)
        return -capacity
    return np.zeros(len(dims))


def _choose(
    curve: LatencyCurve, asked: int, rivals: Sequence[_Rival], prefer: Prefer
) -> _Rival | None:
    """The rival that `prefer` asks for; among equals, the fastest."""
    if not rivals:
        return None
    dims = np.array([curve.grid.dims(rival.index) for rival in rivals])
    costs = find_costs(prefer, curve.grid.dims(asked), dims).tolist()
    return min(zip(costs, rivals, strict=True), key=lambda each: (each[0], each[1].ratio))[1]


def _build_answer(
    curve: LatencyCurve,
    asked: int,
    chosen: _Rival | None,
    prefer: Prefer,
    is_lhp: bool,
    slack: float = 0.0,
) -> Answer:
    dims = curve.grid.dims(asked)
    latency_s = float(curve.latency_s[asked])
    verdict: Verdict
    if chosen is not None and slack:
        verdict = "faster" if chosen.high < 1 else "slower" if chosen.low > 1 else "ambiguous"
    elif chosen is not None:
        verdict = "faster"
    elif is_lhp:
        verdict = "slower"
    else:
        verdict = "ambiguous"
    best = asked if chosen is None else chosen.index
    return Answer(
        dims=dims,
        lhp=curve.grid.dims(best),
        is_lhp=chosen is None and is_lhp,
        verdict=verdict,
        prefer=prefer,
        latency_s=latency_s,
        latency_interval_s=(float(curve.low_s[asked]), float(curve.high_s[asked])),
        lhp_latency_s=float(curve.latency_s[best]),
        speedup=1.0 if chosen is None else 1 / chosen.ratio,
        speedup_interval=(1.0, 1.0) if chosen is None else (1 / chosen.high, 1 / chosen.low),
        num_samples=int(curve.num_samples[asked])
        + (0 if chosen is None else int(curve.num_samples[best])),
    )
