"""The latencies of a run's steps, as the service measures them.

Latencies are comparable within one sweep: the host may be faster or slower in the next one. So
each ratio is of one sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from profiler_service.errors import LhpError, PlatformMismatchError
from profiler_service.wire import CurveDetail, GridAxisRange, PlatformInfo
from profiler_service.workload import Dims
from trainer_client.methods.grow_prune.route import find_route
from trainer_client.run.logs import Row

MAX_POINTS = 16
"""Most points of a grid that all steps are measured in at once."""


class GridMeasurer(Protocol):
    """Measures grids, as `HttpLatencyOracle` does."""

    def measure(
        self,
        axes: Sequence[GridAxisRange],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
    ) -> CurveDetail:
        """A new curve over the grid."""

    def get_platform(self, key: str) -> PlatformInfo:
        """The platform with the key that a curve names."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A latency that the service measured."""

    latency_s: float
    low_s: float | None
    """Lower end of the 95 % interval of the median."""
    high_s: float | None
    ratio: float | None
    """Latency divided by that of step (a), from the same sweep; None for a sweep without (a)."""
    ratio_low: float | None = None
    """Lower end of an interval of the ratio, from the ends of both medians' intervals: the true
    one is narrower. None if the ratio is that of (a) itself, or if either has no interval."""
    ratio_high: float | None = None
    curves: list[str]
    platform: str
    host: str
    device: str
    """That platform, described for readers."""
    measured_at: str
    """ISO 8601."""


def measure_steps(
    service: GridMeasurer, config: Mapping[str, Any], rows: Sequence[Row], *, vocabulary: int
) -> dict[str, Latency]:
    """The latency of each step's dims, by step.

    The dims of all H-LSTMs are measured in one sweep, if a grid of at most MAX_POINTS has them
    all. Otherwise those of each step are measured in a sweep with those of step (a). Raises
    PlatformMismatchError if they aren't all from one platform, and the errors of the service's
    client.
    """
    batch, steps = config["latency_batch"], config["latency_steps"]
    dtype, backend = config["latency_dtype"], config["latency_backend"]
    shape: dict[str, int | str] = {"batch": batch, "steps": steps, "vocabulary": vocabulary}
    params = {**shape, "input_size": config["embedding_width"], "dtype": dtype, "backend": backend}
    is_sparse = find_route(config["route"], rows) == "sparse"
    found: dict[str, Latency] = {}
    dense: dict[str, Dims] = {}
    for row in rows:
        step, dims = row["step"], tuple(row["dims"])
        if step == "baseline":
            found[step] = _measure_alone(service, "lstm_lm", dims, {**shape, "dtype": dtype})
        elif step == "weights" and is_sparse:
            sparsity = f"{1 - row['density']:.4f}"
            # Sparse kernels know only this type.
            sparse = {**params, "dtype": "float32", "backend": "csr", "sparsity": sparsity}
            found[step] = _measure_alone(service, "hlstm_lm", dims, sparse)
        else:
            dense[step] = dims
    by_dims = _measure_together(service, list(dict.fromkeys(dense.values())), params)
    found |= {step: by_dims[dims] for step, dims in dense.items()}
    platforms = {each.platform for each in found.values()}
    if len(platforms) > 1:
        raise PlatformMismatchError(
            f"the steps were measured on several platforms: {', '.join(sorted(platforms))}",
            hint="let one host measure all of them: latencies of two hosts can't be compared",
        )
    return {row["step"]: found[row["step"]] for row in rows}


def _measure_together(
    service: GridMeasurer, points: Sequence[Dims], params: Mapping[str, int | str]
) -> dict[Dims, Latency]:
    """The latencies of these dims, the first of which are those of step (a)."""
    if not points:
        return {}
    reference, *others = points
    groups = [points]
    if _num_points(_axes(points)) > MAX_POINTS:
        groups = [[reference, each] for each in others]
    found: dict[Dims, Latency] = {}
    for group in groups:
        curve = service.measure(_axes(group), workload="hlstm_lm", params=params)
        for dims in group:
            # (a)'s of the first sweep stay: every other row's ratio is of its own sweep.
            found.setdefault(dims, _latency_of(service, curve, dims, reference))
    return found


def _measure_alone(
    service: GridMeasurer, workload: str, dims: Dims, params: Mapping[str, int | str]
) -> Latency:
    curve = service.measure(_axes([dims]), workload=workload, params=params)
    return _latency_of(service, curve, dims, None)


def _axes(points: Sequence[Dims]) -> list[GridAxisRange]:
    """The axes of the smallest grid that has all these points."""
    axes = []
    for values in zip(*points, strict=True):
        first = min(values)
        step = math.gcd(*(each - first for each in values)) or 1
        axes.append(GridAxisRange(first=first, last=max(values), step=step))
    return axes


def _num_points(axes: Sequence[GridAxisRange]) -> int:
    return math.prod(1 + (axis.last - axis.first) // axis.step for axis in axes)


def _latency_of(
    service: GridMeasurer, curve: CurveDetail, dims: Dims, reference: Dims | None
) -> Latency:
    """The curve's point at `dims`. Raises LhpError if it couldn't be measured."""
    points = curve.points
    places = {tuple(each): i for i, each in enumerate(points.dims)}
    for needed in (dims, reference or dims):
        if needed not in places:
            reasons = {failure.reason for failure in curve.failures}
            raise LhpError(
                f"{curve.workload} at {list(needed)} could not be measured: "
                f"{'; '.join(sorted(reasons)) or 'the sweep ended before'}",
                hint="look at the worker's log",
            )
    i = places[dims]
    low_s, high_s = points.low_s[i], points.high_s[i]
    ratio = ratio_low = ratio_high = None
    if reference is not None:
        a = places[reference]
        ratio = points.latency_s[i] / points.latency_s[a]
        if dims != reference:
            ratio_low = _quotient(low_s, points.high_s[a])
            ratio_high = _quotient(high_s, points.low_s[a])
    return Latency(
        latency_s=points.latency_s[i],
        low_s=low_s,
        high_s=high_s,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        curves=[curve.id],
        platform=curve.platform,
        host=curve.host,
        device=_tell_device(service.get_platform(curve.platform)),
        measured_at=curve.measured_at.isoformat(timespec="seconds"),
    )


def _quotient(a_s: float | None, b_s: float | None) -> float | None:
    return None if a_s is None or b_s is None else a_s / b_s


def _tell_device(platform: PlatformInfo) -> str:
    """The most important parts of a platform, for readers of the table."""
    threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
    return f"{platform.device_model}, {threads}, {platform.framework}, {platform.driver}"
