"""The window of a question: which points above the asked one may be the answer.

Pure. Knows neither curves nor how a window is measured.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profiler_service.errors import InvalidDimsError, InvalidRequestError, InvalidWorkloadError
from profiler_service.grid import MAX_DIM, Grid
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.spec import MAX_AXIS_POINTS, window_growth
from profiler_service.workload import Dims, Workload, WorkloadKind


@dataclass(frozen=True, kw_only=True)
class WindowLimits:
    """How large windows may be: the operator's settings `LHP_MAX_DIM` and `LHP_MAX_AXIS_POINTS`."""

    max_dim: int = MAX_DIM
    max_axis_points: int = MAX_AXIS_POINTS

    def check_dims(self, workload: Workload, dims: Dims) -> None:
        """Returns if the service and the kind accept all dimensions. Raises InvalidDimsError.

        That is all of `dims`, and those that the workload has as parameters.
        """
        for name, dim, (low, high) in zip(workload.axes, dims, find_bounds(workload), strict=True):
            if not low <= dim <= high:
                raise InvalidDimsError(
                    f"{name}={dim} is outside {low} to {high}",
                    hint=f"{name} takes a whole number from {low} to {high}",
                )
        fixed = get_workload_kind(workload.kind).find_fixed_dims(workload)
        for name, dim in (*zip(workload.axes, dims, strict=True), *fixed.items()):
            if dim > self.max_dim:
                raise InvalidDimsError(
                    f"{name}={dim} is outside 1 to {self.max_dim}",
                    hint=f"the largest dimension accepted is {self.max_dim}; the service's setting"
                    " LHP_MAX_DIM raises it",
                )


def read_multiples(text: str | None, workload: Workload) -> Dims | None:
    """What an answer's dims must be multiples of, one number for each axis, from `64` or `1,64`.

    None if every point of the window may be the answer. Raises InvalidRequestError.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    given = tuple(int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part))
    multiples = given * len(workload.axes) if len(parts) == 1 else given
    if len(multiples) != len(workload.axes) or len(given) != len(parts) or 0 in multiples:
        axes = ",".join(workload.axes)
        raise InvalidRequestError(
            f"multiple_of={text[:80]!r} isn't one whole number from 1 up for each axis of {axes}",
            hint="give one number for all axes, 64, or one for each, 1,64; 1 allows any dimension",
        )
    return multiples if max(multiples) > 1 else None


_build_grid = functools.lru_cache(maxsize=16_384)(Grid.window)
"""The same grid for the same window: many questions are about it."""


def build_window(
    workload: Workload,
    dims: Dims,
    *,
    max_growth: float,
    multiple_of: Dims | None = None,
    limits: WindowLimits | None = None,
) -> Grid:
    """The window above `dims`: its candidates are `dims`, and the multiples above.

    Where the kind itself allows only multiples, these are multiples of both.

    Raises InvalidDimsError for dims beyond the limits; InvalidWorkloadError if the kind refuses
    them; InvalidRequestError if `multiple_of` leaves no point but `dims`.
    """
    limits = limits or WindowLimits()
    limits.check_dims(workload, dims)
    kind = get_workload_kind(workload.kind)
    kind.check_point(workload, dims)
    needed_by_kind = kind.find_multiples(workload)
    asked = multiple_of or (1,) * len(dims)
    both = tuple(map(math.lcm, asked, needed_by_kind))
    steps = both if max(both) > 1 else None
    reach = window_growth(dims, max_growth, steps, limits.max_axis_points)
    growth = tuple(
        min(grow, limits.max_dim - dim, high - dim)
        for dim, grow, (_, high) in zip(dims, reach, find_bounds(workload), strict=True)
    )
    window = _build_grid(dims, growth, steps)
    if multiple_of is None:
        return window
    needed = [multiple - dim % multiple for dim, multiple in zip(dims, both, strict=True)]
    shares = [_find_share(dim, grow) for dim, grow in zip(dims, needed, strict=True)]
    axes = range(len(dims))
    lacking = [n for n in axes if dims[n] % both[n] and window.axes[n].count == 1]
    if not lacking and window.num_candidates == 1:
        # Every dimension asked about is a multiple itself. It is enough if one of them grows.
        lacking = [min(axes, key=shares.__getitem__)]
    if lacking:
        share = max(shares[n] for n in lacking)
        end = [dim + grow for dim, grow in zip(dims, growth, strict=True)]
        raise InvalidRequestError(
            f"multiple_of={','.join(map(str, multiple_of))} leaves no dims but"
            f" {','.join(map(str, dims))}, up to {','.join(map(str, end))}"
            + (
                f"; {workload.kind} itself needs multiples of {','.join(map(str, needed_by_kind))}"
                if max(needed_by_kind) > 1
                else ""
            ),
            hint="next: "
            + ", ".join(f"{workload.axes[n]}={dims[n] + needed[n]}" for n in lacking)
            + (
                f", which max_growth={share:g} reaches"
                if share <= 1
                else ", which no max_growth up to 1 reaches; ask for smaller multiples"
            ),
        )
    return window


def find_bounds(workload: Workload) -> tuple[tuple[int, int], ...]:
    """The smallest and the largest dimension that the kind allows on each axis."""
    return get_workload_kind(workload.kind).find_bounds(workload)


def find_refused(workload: Workload, grid: Grid) -> npt.NDArray[np.int32]:
    """Numbers of the points that the kind refuses, ascending. They are never measured.

    These are combinations of parameters that vary, and dims that aren't the multiples needed.
    """
    kind = get_workload_kind(workload.kind)
    if not kind.depends_on_point(workload):
        return np.zeros(0, dtype=np.int32)
    # What the kind says depends on its parameters alone: each of its own axes is tried once.
    is_own = [name in kind.axes for name in workload.axes]
    is_refused = np.zeros(grid.shape, dtype=np.bool_)
    tried = [range(1) if own else range(n) for own, n in zip(is_own, grid.shape, strict=True)]
    for place in itertools.product(*tried):
        point = [axis.dims[i] for axis, i in zip(grid.axes, place, strict=True)]
        at = tuple(slice(None) if own else i for own, i in zip(is_own, place, strict=True))
        is_refused[at] = _refuse_dims(kind, workload, grid, point)
    return np.flatnonzero(is_refused).astype(np.int32)


def _refuse_dims(
    kind: WorkloadKind, workload: Workload, grid: Grid, point: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Which dims of the kind's own axes it refuses, with the parameters of one point.

    One axis for each of them that varies, in the workload's order.
    """
    varying = [name for name in workload.axes if name in kind.axes]
    shape = [n for name, n in zip(workload.axes, grid.shape, strict=True) if name in varying]
    own, params = kind.unfold(point, dict(workload.params))
    try:
        if kind.check is not None:
            kind.check(params)
    except InvalidWorkloadError:
        return np.ones(shape, dtype=np.bool_)
    is_refused = np.zeros(shape, dtype=np.bool_)
    if kind.multiples is None:
        return is_refused
    for name, dim, multiple in zip(kind.axes, own, kind.multiples(params), strict=True):
        if name not in varying:
            is_refused |= dim % multiple != 0
            continue
        dims = np.array(grid.axes[workload.axes.index(name)].dims)
        others = [n for n in range(len(varying)) if n != varying.index(name)]
        is_refused |= np.expand_dims(dims % multiple != 0, others)
    return is_refused


def _find_share(dim: int, grow: int) -> float:
    """The smallest `max_growth`, rounded up to four decimals, that lets `dim` grow by `grow`."""
    ten_thousandths = math.ceil(10_000 * grow / dim)
    while int(dim * (ten_thousandths / 10_000)) < grow:
        ten_thousandths += 1
    return ten_thousandths / 10_000
