"""The latencies of a run's steps, as the service measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from profiler_service.errors import LhpError, PlatformMismatchError
from profiler_service.wire import CurveDetail, GridAxisRange, PlatformInfo
from trainer_client.route import find_route
from trainer_client.run_files import Row


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

    Raises PlatformMismatchError if they aren't all from one platform, and the errors of the
    service's client.
    """
    batch, steps = config["latency_batch"], config["latency_steps"]
    params: dict[str, int | str] = {
        "batch": batch,
        "steps": steps,
        "input_size": config["embedding_width"],
        "vocabulary": vocabulary,
    }
    found: dict[str, Latency] = {}
    by_dims: dict[tuple[int, ...], Latency] = {}
    reference = next((tuple(row["dims"]) for row in rows if row["step"] == "growth"), None)
    for row in rows:
        dims = tuple(row["dims"])
        if row["step"] == "baseline":
            shape = {"batch": batch, "steps": steps, "vocabulary": vocabulary}
            found["baseline"] = _measure_one(service, "lstm_lm", dims, shape)
            continue
        assert reference is not None
        if find_route(config["route"], rows) == "sparse" and row["step"] == "weights":
            sparsity = f"{1 - row['density']:.4f}"
            found["weights"] = _measure_one(
                service, "hlstm_lm", dims, {**params, "backend": "csr", "sparsity": sparsity}
            )
            continue
        if dims not in by_dims:
            axes = [_both(a, b) for a, b in zip(reference, dims, strict=True)]
            curve = service.measure(axes, workload="hlstm_lm", params=params)
            by_dims[dims] = _latency_of(service, curve, dims, reference)
        found[row["step"]] = by_dims[dims]
    platforms = {each.platform for each in found.values()}
    if len(platforms) > 1:
        raise PlatformMismatchError(
            f"the steps were measured on several platforms: {', '.join(sorted(platforms))}",
            hint="let one host measure all of them: latencies of two hosts can't be compared",
        )
    return found


def _measure_one(
    service: GridMeasurer, workload: str, dims: Sequence[int], params: Mapping[str, int | str]
) -> Latency:
    axes = [GridAxisRange(first=dim, last=dim) for dim in dims]
    curve = service.measure(axes, workload=workload, params=params)
    return _latency_of(service, curve, dims, None)


def _both(a: int, b: int) -> GridAxisRange:
    """An axis with these two dimensions; with one if they are equal."""
    return GridAxisRange(first=min(a, b), last=max(a, b), step=abs(a - b) or 1)


def _latency_of(
    service: GridMeasurer,
    curve: CurveDetail,
    dims: Sequence[int],
    reference: Sequence[int] | None,
) -> Latency:
    """The curve's point at `dims`. Raises LhpError if it couldn't be measured."""
    points = curve.points
    places = {tuple(each): i for i, each in enumerate(points.dims)}
    for needed in (dims, reference or dims):
        if tuple(needed) not in places:
            reasons = {failure.reason for failure in curve.failures}
            raise LhpError(
                f"{curve.workload} at {list(needed)} could not be measured: "
                f"{'; '.join(sorted(reasons)) or 'the sweep ended before'}",
                hint="look at the worker's log",
            )
    i = places[tuple(dims)]
    ratio = None
    if reference is not None:
        ratio = points.latency_s[i] / points.latency_s[places[tuple(reference)]]
    return Latency(
        latency_s=points.latency_s[i],
        low_s=points.low_s[i],
        high_s=points.high_s[i],
        ratio=ratio,
        curves=[curve.id],
        platform=curve.platform,
        host=curve.host,
        device=_tell_device(service.get_platform(curve.platform)),
        measured_at=curve.measured_at.isoformat(timespec="seconds"),
    )


def _tell_device(platform: PlatformInfo) -> str:
    """The most important parts of a platform, for readers of the table."""
    threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
    return f"{platform.device_model}, {threads}, {platform.framework}, {platform.driver}"
