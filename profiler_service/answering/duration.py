"""Estimates how long a sweep takes, from curves that its host has measured.

Knows neither HTTP nor how a sweep is carried out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.errors import WindowTooLargeError
from profiler_service.grid import Grid
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.base import FIRST_VISITS
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Dims, Workload

MAX_CALL_S: Final = 60.0
"""A point whose call takes longer is a failure, and isn't measured again."""
MAX_HEADERS: Final = 64
MAX_CURVES: Final = 4
MAX_CURVE_POINTS: Final = 65_536
"""Number and size of the newest curves that are read: the check must be fast."""
GUESSED_FLOPS_PER_S: Final = 1e10
"""Operations a second of a host of which no curve of the workload is known: few, so that what may
be long isn't taken for short."""
OTHER_WORK_S: Final = 1.0
"""Time of a sweep besides its long calls, unless it is a race."""
_MAX_POINTS: Final = 64
"""Number of points that represent a whole grid or curve."""


def expect_duration(spec: SweepSpec, call_s: float | None) -> float:
    """The measuring time that the sweep is expected to take, seconds: its place in the queue.

    `call_s` is the time of a call, or None if nothing is known of it. A race calls its first point
    a few times to calibrate, and then goes on for as long as it may. Other sweeps call every point
    several times. (Source: ours. Sweeps are only put in order by it, and their own progress soon
    says more.)
    """
    mode = MODES[spec.mode]
    if call_s is None:
        kind, params = get_workload_kind(spec.workload.kind), dict(spec.workload.params)
        call_s = kind.flops(*kind.unfold(spec.grid.last, params)) / GUESSED_FLOPS_PER_S
    calls = float(FIRST_VISITS)
    if mode.visits_every_point:
        calls += mode.count_least_calls(spec.grid.num_candidates)
    # Each visit has a warm-up call, too.
    expected_s = 2 * calls * call_s + (spec.terms.settle_s if mode.is_race else OTHER_WORK_S)
    return expected_s if spec.budget_s is None else min(expected_s, spec.budget_s)


def check_duration(
    spec: SweepSpec, host: Host, call_s: float | None, *, max_sweep_s: float
) -> None:
    """Returns if the sweep may end within `max_sweep_s`, or if there is no estimate.

    `call_s` is what `find_least_call_s` gives. Raises WindowTooLargeError with the estimate.
    """
    workload, grid = spec.workload, spec.grid
    calls = MODES[spec.mode].count_least_calls(grid.num_candidates)
    if call_s is None or calls * MAX_CALL_S <= max_sweep_s:
        return  # however long a call takes
    sweep_s = calls * call_s
    if sweep_s > max_sweep_s:
        raise WindowTooLargeError(
            f"{grid.num_candidates:,} points of {workload.kind}, at {call_s:.3g} s per call"
            f" according to curves of {host.name!r}, take {sweep_s / 3600:,.1f} h at least;"
            f" at most {max_sweep_s / 3600:,.1f} h are allowed for one sweep",
            hint="ask for fewer points: a smaller window, or larger steps; the service's setting"
            " LHP_MAX_SWEEP_S allows more",
        )


def find_least_call_s(store: Store, workload: Workload, grid: Grid, host: Host) -> float | None:
    """The least mean time of a call over the grid; None if nothing is known.

    From the host's own curves of the same workload, by two assumptions (Source: ours). A call
    takes at least as long as a measured one with no more operations. It takes at least as long an
    operation as a measured one with more of them, since small calls use a device worse. Both give
    a low estimate: a sweep isn't refused for a guess.
    """
    headers = store.find_curves(
        workload.key, host.platform_key, host.protocol_key, limit=MAX_HEADERS
    )
    kind, params = get_workload_kind(workload.kind), dict(workload.params)

    def flops_at(dims: Dims) -> int:
        return kind.flops(*kind.unfold(dims, params))

    asked = _some(np.arange(grid.size))
    asked_flops = np.array([flops_at(grid.dims(int(n))) for n in asked], dtype=float)
    least_s = np.zeros(len(asked))
    small = [header for header in headers if header.grid.size <= MAX_CURVE_POINTS]
    for header in small[:MAX_CURVES]:
        curve = store.load_curve(header.id)
        measured = _some(np.flatnonzero(curve.num_samples))
        flops = np.array([flops_at(curve.grid.dims(int(n))) for n in measured], dtype=float)
        least_s = np.maximum(least_s, _scaled(curve, measured, flops, asked_flops))
    mean_s = float(least_s.mean())
    return mean_s if mean_s > 0 else None


def _scaled(
    curve: LatencyCurve,
    measured: npt.NDArray[np.intp],
    flops: npt.NDArray[np.float64],
    asked_flops: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """The least time for each of `asked_flops`, from the measured points; 0 if there are none."""
    share = np.minimum(1.0, asked_flops[:, None] / np.maximum(flops, 1))
    least_s: npt.NDArray[np.float64] = np.max(
        share * curve.latency_s[measured], axis=1, initial=0.0
    )
    return least_s


def _some(numbers: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """At most _MAX_POINTS of the numbers, evenly spread."""
    if len(numbers) <= _MAX_POINTS:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, _MAX_POINTS).astype(np.intp)]
