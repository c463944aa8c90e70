"""The points of a curve as arrays, their intervals as they are drawn, and their hover texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.modes import MODES
from profiler_service.plots.figure import TEXT_POINTS, View
from profiler_service.plots.quantities import (
    FLOP_UNITS,
    LATENCY_UNITS,
    choose_unit,
    format_dims,
    format_gain,
    format_gain_interval,
    format_latency,
    format_number,
)
from profiler_service.wire import CurveDetail

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
STATES = {"lhp": "LHP", "edge": "edge: nothing larger measured"}
"""Names of the states of points, if they aren't called as in a curve."""
INTERVAL_SHARE = 0.25
"""How far an interval is drawn from its point at most, as a share of the values' range. A longer
one is cut: it would leave no space for the points."""
ROOM = 0.06
"""Free space beyond the points, as a share of their range."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A curve's points as arrays of equal length."""

    dims: npt.NDArray[np.int64]
    """int64 [points, axes]."""
    latency_s: F64
    low_s: F64
    """Not finite if the interval isn't bounded (a single sample). The same holds for `high_s`."""
    high_s: F64
    num_samples: npt.NDArray[np.int64]
    status: npt.NDArray[np.str_]
    rival: npt.NDArray[np.int64]
    """int64 [points]: number of the best larger point found; -1 if it is unknown."""
    gain: F64
    """How many times as fast the rival is; NaN if it wasn't compared."""
    gain_low: F64
    gain_high: F64
    names: Mapping[int, str]
    """Number → name, if the dims number kernels."""
    decides: bool
    """Whether each point is an LHP, dominated or undecided."""
    asked: int
    """Number of the point whose query the curve answers; -1 for a grid, and if it failed."""

    def where(self, status: str) -> Bools:
        """bool [points]: True for points with that status."""
        chosen: Bools = self.status == status
        return chosen

    def label(self, number: int) -> str:
        """What a point is called: `1197 × 317`, or the name of a kernel."""
        dims = self.dims[number].tolist()
        return self.names.get(dims[0], "") or format_dims(dims)

    def is_confirmed(self, number: int) -> bool:
        """Whether the point's rival is surely faster."""
        return bool(self.rival[number] >= 0 and self.gain_low[number] > 1)

    def texts(self, chosen: Bools | None = None) -> list[str]:
        """The hover text of each chosen point; none at all if there are too many points."""
        if len(self.dims) > TEXT_POINTS:
            return []
        numbers = np.arange(len(self.dims)) if chosen is None else np.flatnonzero(chosen)
        return [self.text(number) for number in numbers.tolist()]

    def text(self, number: int) -> str:
        """What there is to say of a point and its rival, for plotly: `463 → use 464` …"""
        name, rival, status = self.label(number), int(self.rival[number]), str(self.status[number])
        state = STATES.get(status, status) if self.decides or status != "undecided" else "looked at"
        is_dominated = status == "dominated" and rival >= 0
        head = f"{name} → use {self.label(rival)}" if is_dominated else name
        lines = [f"<b>{head}</b>  {state}"]
        gain, low, high = self.gain[number], self.gain_low[number], self.gain_high[number]
        if rival >= 0 and np.isfinite(gain):
            told = f"<b>{format_gain(gain)}</b>"
            if np.isfinite(low) and np.isfinite(high):
                told += f" ({format_gain_interval(gain, low, high)})"
            lines.append(told if is_dominated else f"best larger: {self.label(rival)}, {told}")
        lines.append(f"{name}: {self._interval(number)}")
        if rival >= 0:
            lines.append(f"{self.label(rival)}: {self._interval(rival)}")
        count = int(self.num_samples[number])
        lines.append(f"{count:,} sample{'s' * (count != 1)}")
        return "<br>".join(lines)

    def _interval(self, number: int) -> str:
        text, low, high = (
            format_latency(self.latency_s[number]),
            self.low_s[number],
            self.high_s[number],
        )
        if not np.isfinite(low) or not np.isfinite(high):
            return text
        _, size_s = choose_unit(self.latency_s[number])
        return f"{text} ({format_number(low / size_s)} to {format_number(high / size_s)})"


def invert(ratio: F64) -> F64:
    """float64: one divided by each ratio; infinite for an interval that is open below."""
    with np.errstate(divide="ignore"):
        inverse: F64 = 1 / ratio
    return inverse


def build_columns(
    curve: CurveDetail,
    names: Mapping[int, str] | None = None,
    *,
    asked: Sequence[int] | None = None,
) -> Columns:
    """The curve's points as arrays. `asked`: see `Columns.asked`; None: what its race was about."""
    points = curve.points
    dims = np.asarray(points.dims, dtype=np.int64).reshape(-1, len(curve.axes))
    numbers = {tuple(each): number for number, each in enumerate(points.dims)}
    ratio, ratio_low, ratio_high = (
        np.asarray(column, dtype=np.float64)
        for column in (points.ratio, points.ratio_low, points.ratio_high)
    )
    if asked is None and MODES[curve.mode].is_race:
        asked = [axis.first for axis in curve.axes]
    return Columns(
        dims=dims,
        latency_s=np.asarray(points.latency_s, dtype=np.float64),
        low_s=np.asarray(points.low_s, dtype=np.float64),
        high_s=np.asarray(points.high_s, dtype=np.float64),
        num_samples=np.asarray(points.num_samples, dtype=np.int64),
        status=np.asarray(points.status, dtype=np.str_),
        rival=np.asarray(
            [-1 if rival is None else numbers.get(tuple(rival), -1) for rival in points.rival],
            dtype=np.int64,
        ),
        gain=invert(ratio),
        gain_low=invert(ratio_high),
        gain_high=invert(ratio_low),
        names=names or {},
        decides=MODES[curve.mode].decides_every_point,
        asked=-1 if asked is None else numbers.get(tuple(asked), -1),
    )


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a chart shows of each point: a latency, or one relative to something."""

    name: str
    """Name and unit for the axis."""
    value: F64
    low: F64
    """As it is drawn: at most INTERVAL_SHARE of the range from the value; NaN if it isn't known."""
    high: F64
    is_cut_low: Bools
    """bool [points]: True if the interval goes on below `low`. Likewise for `is_cut_high`."""
    is_cut_high: Bools

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends of a linear axis: around the values and their intervals as they are drawn."""
        if not self.value.size:
            return 0.0, 1.0
        least, most = (
            float(np.fmin(self.value, self.low).min()),
            float(np.fmax(self.value, self.high).max()),
        )
        room = ROOM * ((most - least) or most)
        return max(0.0, least - room), most + room


def build_values(curve: CurveDetail, columns: Columns, view: View) -> Values:
    """The values of a view, in a unit that suits the largest.

    Raises InvalidRequestError for a view `per_flop` of a workload whose operations aren't known.
    """
    latency_s = columns.latency_s
    units: Sequence[tuple[str, float]] = LATENCY_UNITS
    if view == "per_flop":
        divisor, what, units = count_flops(curve), "time per operation", FLOP_UNITS
    elif view == "relative":
        divisor, what, units = least_at_or_above(latency_s), "", ()
    else:
        divisor, what = np.ones(len(latency_s)), "latency of one call"
    values_s = latency_s / divisor
    unit, size_s = choose_unit(float(values_s.max()), units) if units and len(values_s) else ("", 1)
    name = f"{what}, {unit}" if units else "× the least latency at or above"
    value, low, high = (
        each / divisor / size_s for each in (latency_s, columns.low_s, columns.high_s)
    )
    low, high = (np.where(np.isfinite(each), each, np.nan) for each in (low, high))
    reach = INTERVAL_SHARE * (np.ptp(value) or value.max()) if value.size else 0.0
    return Values(
        name=name,
        value=value,
        low=np.maximum(low, value - reach),
        high=np.minimum(high, value + reach),
        is_cut_low=low < value - reach,  # NaN compares false
        is_cut_high=high > value + reach,
    )


def least_at_or_above(latency_s: F64) -> F64:
    """float64 [points]: the least latency of each point and the larger ones of its one axis."""
    least: F64 = np.minimum.accumulate(latency_s[::-1])[::-1]
    return least


def count_flops(curve: CurveDetail) -> F64:
    """float64 [points]: floating-point operations of one call at each point.

    Raises InvalidRequestError if the workload's kind isn't known here.
    """
    name, _, rest = curve.workload.partition("[")
    try:
        kind = get_workload_kind(name)
        params = _read_params(rest.removesuffix("]"))
        workload = kind.describe(params)
        unfolded = (kind.unfold(dims, dict(workload.params)) for dims in curve.points.dims)
        flops = np.array([kind.flops(*each) for each in unfolded], dtype=np.float64)
        if not flops.all():
            raise InvalidRequestError("nobody knows what it computes")
        return flops
    except LhpError as error:
        raise InvalidRequestError(
            f"the operations of {curve.workload} aren't known here: {error}",
            hint="draw its latency",
        ) from error


def _read_params(text: str) -> dict[str, object]:
    """The parameters of a workload's key. `vary` may list several names."""
    params: dict[str, object] = {}
    name = ""
    for part in text.split(","):
        key, is_new, value = part.partition("=")
        if is_new:
            name, params[key] = key, value
        else:
            params[name] = f"{params[name]},{part}"
    return params
