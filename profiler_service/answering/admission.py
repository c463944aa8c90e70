"""Checks what a host is asked to measure, once: is it allowed, possible, and short enough?

Every sweep is checked only here. Knows neither questions nor how a sweep is carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from profiler_service.analysis.samples import Platform
from profiler_service.answering.duration import (
    check_duration,
    expect_duration,
    find_least_call_s,
)
from profiler_service.errors import OwnCodeError, UnsupportedOnHostError, WindowTooLargeError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import CALLABLE, get_workload_kind
from profiler_service.kinds.backends import find_missing_backend
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import WindowLimits, find_refused
from profiler_service.settings import Settings
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A sweep that its host may measure. Only `Admission.admit` makes one."""

    spec: SweepSpec
    host: Host
    expected_s: float
    """Measuring time that it is expected to take."""
    is_awaited: bool
    """Whether a question waits for it."""


class Admission:
    """Admits the sweeps that the host can measure within the operator's bounds."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        refuse_unless_usable: Callable[[], None] = lambda: None,
    ) -> None:
        """`refuse_unless_usable` raises StoreError if samples couldn't be stored."""
        self._refuse_unless_usable = refuse_unless_usable
        self._store = store
        self._settings = settings
        self.limits = WindowLimits(
            max_dim=settings.max_dim, max_axis_points=settings.max_axis_points
        )

    async def admit(
        self, spec: SweepSpec, host: Host, *, for_question: bool, is_awaited: bool | None = None
    ) -> Admitted:
        """The sweep, admitted to the host.

        `for_question`: it has the bounds of a question. `is_awaited`: whether a question waits for
        it; None means that it does if it has a question's bounds.

        Raises InvalidDimsError, InvalidWorkloadError, WindowTooLargeError, UnsupportedOnHostError,
        OwnCodeError, StoreError. Allocates nothing.
        """
        refuse_own_code(spec)
        self._refuse_unless_usable()
        self.check_bounds(spec, for_question=for_question)
        await asyncio.to_thread(check_values, spec)
        platform = await asyncio.to_thread(self._store.get_platform, host.platform_key)
        check_affordable(
            spec.workload,
            spec.grid,
            host,
            platform,
            max_operand_bytes=self._settings.max_operand_bytes,
        )
        call_s = await asyncio.to_thread(
            find_least_call_s, self._store, spec.workload, spec.grid, host
        )
        if spec.budget_s is None:
            check_duration(spec, host, call_s, max_sweep_s=self._settings.max_sweep_s)
        return Admitted(
            spec=spec,
            host=host,
            expected_s=expect_duration(spec, call_s),
            is_awaited=for_question if is_awaited is None else is_awaited,
        )

    def check_bounds(self, spec: SweepSpec, *, for_question: bool) -> None:
        """Returns if the operator allows dims as large, and so many points.

        Raises InvalidDimsError, WindowTooLargeError.
        """
        self.limits.check_dims(spec.workload, spec.grid.first)
        self.limits.check_dims(spec.workload, spec.grid.last)
        mode, grid = MODES[spec.mode], spec.grid
        settings = self._settings
        limits = {"LHP_MAX_POINTS": settings.max_points}
        if for_question or mode.is_race:
            limits = {"LHP_MAX_WINDOW_POINTS": settings.max_window_points}
            if mode.visits_every_point:
                limits["LHP_MAX_SURVEY_POINTS"] = settings.max_survey_points
        for name, max_points in limits.items():
            if grid.num_candidates > max_points:
                raise WindowTooLargeError(
                    f"{grid.num_candidates:,} points are asked for; at most {max_points:,} are"
                    " measured at once",
                    hint="ask for fewer: smaller dims, a smaller max_growth, multiple_of, or larger"
                    f" steps; the service's setting {name} allows more",
                )
        if mode.is_race and max(grid.shape) > settings.max_axis_points:
            raise WindowTooLargeError(
                f"an axis of {max(grid.shape):,} points is too long to be raced over;"
                f" at most {settings.max_axis_points:,} are",
                hint="ask for fewer: a smaller range, or larger steps; the service's setting"
                " LHP_MAX_AXIS_POINTS allows more",
            )


def is_own_code(spec: SweepSpec) -> bool:
    """Whether only the user's own command can measure it."""
    return spec.workload.kind == CALLABLE.name


def refuse_own_code(spec: SweepSpec) -> None:
    """Returns if hosts measure such a workload. Raises OwnCodeError, which names the command."""
    if not is_own_code(spec):
        return
    workload = spec.workload
    function = str(workload.param("function"))
    is_question = MODES[spec.mode].is_race
    words = [
        f"{name}={axis.first}" if is_question else f"{name}={_range(axis)}"
        for name, axis in zip(workload.axes, spec.grid.axes, strict=True)
    ]
    words += [
        f"--param {name}={value}"
        for name, value in workload.params
        if name not in ("function", "source", "vary")
    ]
    command = "query" if is_question else "sweep"
    raise OwnCodeError(
        f"{function} isn't measured here, and no host can do that: its code is on your machine",
        hint=f"measure it there: `lhp {command} --callable {function} {' '.join(words)}`; if that"
        " was done on another platform, name it: `platform`, or `host`",
    )


def _range(axis: GridAxis) -> str:
    return f"{axis.first}:{axis.last}" + (f":{axis.step}" if axis.step > 1 else "")


def check_values(spec: SweepSpec) -> None:
    """Returns if the kind allows what must be measured. Raises InvalidWorkloadError.

    That is every point of a grid, and the first point of a window: the others need not be
    candidates.
    """
    kind, mode = get_workload_kind(spec.workload.kind), MODES[spec.mode]
    kind.check_point(spec.workload, spec.grid.first)
    if mode.decides_every_point:
        for point in find_refused(spec.workload, spec.grid)[:1]:
            kind.check_point(spec.workload, spec.grid.dims(int(point)))


def check_affordable(
    workload: Workload, grid: Grid, host: Host, platform: Platform, *, max_operand_bytes: int
) -> None:
    """Returns if `host` can multiply operands as large as those of the grid's largest point.

    Raises UnsupportedOnHostError, WindowTooLargeError. Allocates nothing.
    """
    dtype = dict(workload.params).get("dtype")
    if dtype is not None and dtype not in host.dtypes:
        raise UnsupportedOnHostError(
            f"host {host.name!r} ({platform.device_model}) doesn't multiply {dtype}",
            hint=f"choose dtype from: {', '.join(host.dtypes)}; or another host",
        )
    kind = get_workload_kind(workload.kind)
    if missing := find_missing_backend(kind, dict(workload.params), host.backends):
        backend, having = missing
        raise UnsupportedOnHostError(
            f"host {host.name!r} ({platform.device_model}) has no {backend} {kind.name} of {dtype}",
            hint=f"choose backend from: {', '.join(having)}; or another dtype or host",
        )
    size_bytes = kind.operand_bytes(*kind.unfold(grid.last, dict(workload.params)))
    limit_bytes = min(max_operand_bytes, platform.memory_bytes // 4)
    if size_bytes > limit_bytes:
        lifted = (
            "the service's setting LHP_MAX_OPERAND_BYTES allows more"
            if limit_bytes == max_operand_bytes
            else "a quarter of the host's memory is the limit"
        )
        raise WindowTooLargeError(
            f"operands at {','.join(map(str, grid.last))} take {size_bytes / 2**20:,.0f} MiB;"
            f" on host {host.name!r} at most {limit_bytes / 2**20:,.0f} MiB are measured",
            hint="ask for smaller dims, less growth, a smaller batch or a narrower dtype;"
            f" {lifted}",
        )
