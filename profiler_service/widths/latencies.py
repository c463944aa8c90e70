"""Asks the service what layers take at all candidates of their widths.

Knows no torch. Latencies that the service already has are not measured again.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.client import ServiceClient
from profiler_service.errors import (
    HostStartingError,
    InvalidRequestError,
    MeasurementFailedError,
)
from profiler_service.kinds import get_workload_kind
from profiler_service.widths.choice import Table
from profiler_service.widths.structure import LayerSizes, Structure, separate
from profiler_service.wire import CurveDetail, SweepRequest
from profiler_service.wire.sweeps import GridAxisRange
from profiler_service.workload import Dims, ParamValue

F64 = npt.NDArray[np.float64]

LEAST_S = 1.0
"""Least measuring time of a grid, however many have to share the time."""
FITS = 30
"""Turns of the fit: each one fits the effects of one axis after the other."""
WAIT_S = 600.0
"""How long a grid may wait for the host beyond its own measuring time."""
STARTING_S = 60.0
"""How long a worker may take to start: it imports torch, and looks at its device."""
LOOK_EVERY_S = 0.5
"""How often to look whether it has started."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is measured: a workload over a range of each of its sizes."""

    kind: str
    params: tuple[tuple[str, ParamValue], ...]
    axes: tuple[tuple[str, tuple[int, ...]], ...]
    """Names of the sizes that vary, and their values, as `cover` gives them."""

    @property
    def num_points(self) -> int:
        """How many points it has."""
        return math.prod(len(values) for _, values in self.axes)

    def estimate_flops(self) -> int:
        """Multiplications and additions of a call at its last point."""
        kind = get_workload_kind(self.kind)
        whole = dict(self.params) | {name: values[-1] for name, values in self.axes}
        dims = tuple(int(whole.pop(name)) for name in kind.axes)
        return kind.flops(dims, whole)

    def make_request(self, *, budget_s: float, host: str | None) -> SweepRequest:
        """The request that measures it."""
        return SweepRequest(
            workload=self.kind,
            params={**dict(self.params), "vary": ",".join(name for name, _ in self.axes)},
            axes=[make_range(values) for _, values in self.axes],
            mode="grid",
            host=host,
            budget=budget_s,
        )


def cover(values: Collection[int]) -> tuple[int, ...]:
    """The fewest dims that hold `values` and that a sweep can measure along an axis, ascending.

    They have equal distances, but for the first one, which may be nearer to the second: the width
    now, and multiples above it.
    """
    first, *rest = sorted(set(values))
    step = math.gcd(*(after - before for before, after in itertools.pairwise(rest))) or 1
    if not rest:
        return (first,)
    gap = rest[0] - first
    if len(rest) > 1 and gap < step:
        return (first, *range(rest[0], rest[-1] + 1, step))
    step = math.gcd(step, gap) if len(rest) > 1 else gap
    return tuple(range(first, rest[-1] + 1, step))


def make_range(dims: Sequence[int]) -> GridAxisRange:
    """The range that is exactly `dims`, which `cover` gave."""
    step = dims[-1] - dims[-2] if len(dims) > 1 else 1
    is_nearer = len(dims) > 2 and dims[1] - dims[0] < step
    return GridAxisRange(
        first=dims[0], second=dims[1] if is_nearer else None, last=dims[-1], step=step
    )


def make_grid(layer: LayerSizes, sizes: Sequence[int]) -> Grid:
    """The grid that holds every size that a layer can have; groups have `sizes` candidates."""
    # Of more than two groups, each one's effect is taken with the others as they are now.
    has_now = len(layer.groups) > 2
    axes = []
    for name, number in layer.sizes.items():
        values = set(number.over(tuple(number.changes), sizes).ravel().tolist())
        axes.append((name, cover(values | ({number.now} if has_now else set()))))
    return Grid(kind=layer.kind, params=layer.fixed, axes=tuple(axes))


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """Layers whose latencies the service couldn't give, and why."""

    names: tuple[str, ...]
    reason: str


def fetch_latencies(
    client: ServiceClient,
    structure: Structure,
    *,
    time_s: float,
    host: str | None,
    say: Callable[[str], None],
    fresh: bool = False,
) -> tuple[list[Table], list[NotMeasured]]:
    """The latencies of all layers as tables over the structure's groups, in seconds.

    The grids are measured one after the other, those with little work first. They share `time_s`
    seconds of measuring evenly: what one doesn't need is left to the others. Equal layers are
    measured once. `say` gets a line for each grid. If `fresh`, curves that the service has aren't
    used: samples that chose must not judge.

    A point that the time left unmeasured gets the value of a fit to the others: see `fill`. One
    that can't be measured is infinite. Raises the client's errors, except those about one grid.
    """
    sizes = [len(group.candidates) for group in structure.groups]
    equal: dict[Grid, list[LayerSizes]] = {}
    for layer in structure.layers:
        equal.setdefault(make_grid(layer, sizes), []).append(layer)
    tables: list[Table] = []
    missing: list[NotMeasured] = []
    ordered = sorted(equal, key=lambda grid: grid.estimate_flops() * grid.num_points)
    kept = {} if fresh else _find_kept(client, ordered, host)
    left_s = time_s
    for number, grid in enumerate(ordered):
        sides = " × ".join(f"{name} {values[0]} to {values[-1]}" for name, values in grid.axes)
        say(f"{number + 1} of {len(ordered)}: {grid.kind} {sides}, {grid.num_points} points")
        share_s = max(LEAST_S, left_s / (len(ordered) - number))
        curve = kept.get(grid)
        if curve is None or not _is_enough(curve, share_s):
            try:
                curve = _measure(client, grid, budget_s=share_s, host=host)
            except (InvalidRequestError, MeasurementFailedError) as error:
                names = tuple(layer.name for layer in equal[grid])
                missing.append(NotMeasured(names=names, reason=str(error)))
                continue
            left_s -= curve.evidence.seconds or 0.0
        latency_s = fill(_read(grid, curve))
        for layer in equal[grid]:
            tables += _tabulate(layer, grid, latency_s, sizes)
    return tables, missing


def _find_kept(
    client: ServiceClient, grids: Sequence[Grid], host: str | None
) -> Mapping[Grid, CurveDetail]:
    """The curves that the host has measured of these grids on the platform that it is on now."""
    hosts = [each for each in client.list_hosts() if host in (None, each.name) and each.present]
    if len(hosts) != 1:
        return {}  # the service chooses, or says what is wrong with `host`
    found: dict[Grid, CurveDetail] = {}
    for grid in grids:
        request = grid.make_request(budget_s=LEAST_S, host=host)
        query = {
            "workload": grid.kind,
            "platform": hosts[0].platform,
            "mode": "grid",
            **{name: str(value) for name, value in request.params.items()},
        }
        try:
            page = client.list_curves(query)
        except InvalidRequestError:
            continue  # no such layer is measured: its request will say why
        axes = [each.dims for each in request.axes]
        alike = [
            each
            for each in page.items
            if [axis.dims for axis in each.axes] == axes and not each.stale
        ]
        if alike:
            longest = max(alike, key=lambda each: each.evidence.seconds or 0.0)
            found[grid] = client.get_curve(longest.id)
    return found


def _measure(
    client: ServiceClient, grid: Grid, *, budget_s: float, host: str | None
) -> CurveDetail:
    """The grid's curve. Waits for a worker that is starting. Raises the client's errors."""
    request = grid.make_request(budget_s=budget_s, host=host)
    until_s = time.monotonic() + STARTING_S
    while True:
        try:
            return client.measure(request, wait_s=budget_s + WAIT_S)
        except HostStartingError:
            if time.monotonic() > until_s:
                raise
            time.sleep(LOOK_EVERY_S)


def _is_enough(curve: CurveDetail, share_s: float) -> bool:
    """Whether measuring the grid again for `share_s` seconds would hardly tell more."""
    is_complete = curve.num_measured + curve.num_failures == curve.num_points
    return is_complete or (curve.evidence.seconds or 0.0) >= share_s


def _read(grid: Grid, curve: CurveDetail) -> F64:
    """The latency of each point, seconds: infinite if it failed, NaN if it wasn't measured."""
    latency_s = np.full(tuple(len(values) for _, values in grid.axes), np.nan)

    def place(dims: Sequence[int]) -> Dims:
        return tuple(values.index(dim) for (_, values), dim in zip(grid.axes, dims, strict=True))

    for dims, each_s in zip(curve.points.dims, curve.points.latency_s, strict=True):
        latency_s[place(dims)] = each_s
    for failed in curve.failures:
        latency_s[place(failed.dims)] = math.inf
    return latency_s


def fill(latency_s: F64) -> F64:
    """`latency_s`, with NaN replaced by an additive fit of the logarithms of the other points.

    Each position of each axis has a factor of its own. One that no measured point has is as its
    neighbours are, on a straight line between them. Raises MeasurementFailedError if nothing was
    measured.
    """
    known = np.isfinite(latency_s)
    if not known.any():
        raise MeasurementFailedError("none of the points could be measured")
    filled = np.where(known, np.log(np.where(known, latency_s, 1.0)), np.nan)
    center = float(np.nanmean(filled))
    effects = [np.zeros(size) for size in latency_s.shape]
    for _ in range(FITS):
        for axis, effect in enumerate(effects):
            rest = (
                filled
                - center
                - sum(
                    _along(other, place, filled.ndim)
                    for place, other in enumerate(effects)
                    if place != axis
                )
            )
            others = tuple(place for place in range(filled.ndim) if place != axis)
            count = np.isfinite(rest).sum(axis=others)
            means = np.nansum(rest, axis=others) / np.maximum(count, 1)
            places = np.arange(len(effect))
            effects[axis] = np.interp(places, places[count > 0], means[count > 0])
    fit = center + sum(_along(each, place, filled.ndim) for place, each in enumerate(effects))
    result: F64 = np.where(np.isnan(latency_s), np.exp(fit), latency_s)
    return result


def _along(effect: F64, axis: int, ndim: int) -> F64:
    """`effect` along one of `ndim` axes."""
    return effect.reshape([-1 if place == axis else 1 for place in range(ndim)])


def _tabulate(layer: LayerSizes, grid: Grid, latency_s: F64, sizes: Sequence[int]) -> list[Table]:
    """The layer's latencies over its groups."""

    def over(groups: tuple[int, ...]) -> F64:
        places = [
            np.searchsorted(values, number.over(groups, sizes))
            for number, (_, values) in zip(layer.sizes.values(), grid.axes, strict=True)
        ]
        found: F64 = latency_s[tuple(places)]
        return found

    return [Table(groups=groups, values=values) for groups, values in separate(layer.groups, over)]
