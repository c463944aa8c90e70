"""Turns domain objects into the resources that the API sends: one function for each.

Knows no HTTP and doesn't use the store.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.kernel_names import KernelNames
from profiler_service.analysis.samples import Platform
from profiler_service.answering.own_worker import OwnWorker
from profiler_service.answering.settling import read_terms
from profiler_service.errors import InvalidDimsError, InvalidRequestError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import RaceTerms, SweepSpec
from profiler_service.plan.turns import Place
from profiler_service.storage.store import CurveHeader, Fact, Host, Sweep
from profiler_service.wire import (
    AxisRange,
    CurveInfo,
    EvidenceInfo,
    FactInfo,
    GridAxisRange,
    KernelPoints,
    ParameterInfo,
    PlatformInfo,
    ProgressInfo,
    SweepInfo,
    SweepRequest,
    WorkerInfo,
    WorkloadInfo,
)
from profiler_service.workload import WorkloadKind


def axis_ranges(grid: Grid) -> list[AxisRange]:
    """The grid's axes as a resource."""
    return [
        AxisRange(first=axis.first, last=axis.last, step=axis.step, second=axis.second)
        for axis in grid.axes
    ]


def sweep_info(sweep: Sweep, place: Place | None = None) -> SweepInfo:
    """The sweep as a resource; `place` is its place in its host's queue, while it is open."""
    progress = sweep.progress
    return SweepInfo(
        id=sweep.id,
        state=sweep.state.value,
        mode=sweep.spec.mode,
        workload=sweep.spec.workload.key,
        axes=axis_ranges(sweep.spec.grid),
        num_points=sweep.spec.grid.size,
        host=sweep.host,
        created_at=sweep.created_at,
        started_at=sweep.started_at,
        finished_at=sweep.finished_at,
        cancel_requested=sweep.cancel_requested,
        progress=None
        if progress is None
        else ProgressInfo(
            fraction=progress.fraction,
            stage=progress.stage,
            num_samples=progress.num_samples,
            seconds=progress.seconds,
        ),
        ahead=None if place is None else place.ahead,
        expected_wait_s=None if place is None else round(place.wait_s, 1),
        expected_s=None if place is None else round(place.left_s, 1),
        error=sweep.error,
        curve=sweep.curve_id,
        request_id=sweep.request_id,
    )


def read_sweep_request(request: SweepRequest) -> SweepSpec:
    """The sweep that a request asks for. Checked, except for what its host can do.

    Raises UnknownWorkloadError, InvalidWorkloadError, InvalidDimsError, InvalidRequestError.
    """
    workload = get_workload_kind(request.workload).describe(request.params)
    grid = Grid(axes=tuple(_grid_axis(axis) for axis in request.axes))
    workload.check_dims(grid.first)
    return SweepSpec(
        workload=workload,
        mode=request.mode,
        grid=grid,
        budget_s=request.budget,
        terms=_read_terms(request),
    )


def _read_terms(request: SweepRequest) -> RaceTerms:
    """The terms of a request. Raises InvalidRequestError for one that its mode doesn't have."""
    races = [mode for mode in MODES.values() if mode.is_race]
    having = {
        "margin": [mode.name for mode in races if mode.prefer == "fastest"],
        "settle": [mode.name for mode in races],
        "slack": [mode.name for mode in races if mode.prefer != "fastest"],
    }
    for name, modes in having.items():
        if getattr(request, name) is not None and request.mode not in modes:
            raise InvalidRequestError(
                f"a sweep of the mode {request.mode} has no {name}",
                hint=f"leave it out, or choose a mode that has it: {', '.join(modes)}",
            )
    return read_terms(margin=request.margin, settle_s=request.settle, slack=request.slack)


def _grid_axis(axis: GridAxisRange) -> GridAxis:
    if axis.last < axis.first:
        raise InvalidDimsError(
            f"the range from {axis.first} to {axis.last} is empty",
            hint="last is included in the range, and must not be below first",
        )
    steps_from = axis.first if axis.second is None else axis.second
    count = (axis.last - steps_from) // axis.step + 1 + (axis.second is not None)
    return GridAxis(first=axis.first, count=count, step=axis.step, second=axis.second)


@functools.lru_cache(maxsize=4096)
def evidence_info(evidence: Evidence) -> EvidenceInfo:
    """The evidence of a curve as a resource: what it took to measure it."""
    return EvidenceInfo(**vars(evidence))  # its fields are plain: `asdict` would copy them slowly


def is_stale(header: CurveHeader | Fact, host: Host | None) -> bool:
    """Whether the host of the curve or fact has another platform now, or another protocol."""
    return host is None or (host.platform_key, host.protocol_key) != (
        header.platform_key,
        header.protocol_key,
    )


def curve_info(header: CurveHeader, *, stale: bool) -> CurveInfo:
    """The curve without its points."""
    is_decided = MODES[header.mode].decides_every_point
    num_decided = header.num_measured - header.num_undecided
    num_decidable = header.grid.num_candidates - header.num_failures
    return CurveInfo(
        id=header.id,
        sweep=header.sweep_id,
        host=header.host,
        workload=header.workload.key,
        axis_names=list(header.workload.axes),
        axes=axis_ranges(header.grid),
        mode=header.mode,
        platform=header.platform_key,
        protocol=header.protocol_key,
        num_points=header.grid.size,
        num_measured=header.num_measured,
        num_failures=header.num_failures,
        num_lhps=header.num_lhps,
        num_undecided=header.num_undecided,
        undecided=1 - num_decided / num_decidable if is_decided and num_decidable else None,
        redundancy=1 - header.num_lhps / header.num_measured
        if is_decided and header.num_measured
        else None,
        measured_at=header.measured_at,
        stale=stale,
        evidence=evidence_info(header.evidence),
    )


def kernel_points(names: KernelNames) -> list[KernelPoints]:
    """The kernels at points of a curve as resources, the one of most points first."""
    points: dict[str, list[list[int]]] = {}
    for dims, name in sorted(names.items()):
        points.setdefault(name, []).append(list(dims))
    found = [KernelPoints(kernel=name, dims=dims) for name, dims in points.items()]
    return sorted(found, key=lambda each: -len(each.dims))


def fact_info(fact: Fact, host: Host | None, *, contradicts: Sequence[str]) -> FactInfo:
    """The fact as a resource; `host` is its host as it is now, if it is registered."""
    pair = fact.pair
    return FactInfo(
        id=fact.id,
        dims=list(pair.dims),
        rival=list(pair.rival),
        verdict=pair.verdict,
        ratio=pair.ratio,
        ratio_interval=(pair.low, pair.high),
        num_pairs=pair.num_pairs,
        num_children=pair.num_children,
        num_arenas=pair.num_arenas,
        between_arenas=pair.between_arenas,
        measured_at=fact.measured_at,
        workload=fact.workload.key,
        axis_names=list(fact.workload.axes),
        platform=fact.platform_key,
        protocol=fact.protocol_key,
        host=fact.host,
        sweep=fact.sweep_id,
        curve=fact.curve_id,
        stale=is_stale(fact, host),
        repeats=fact.repeats,
        contradicts=list(contradicts),
        overruled_by=fact.overruled_by,
    )


def own_worker_info(worker: OwnWorker, *, host: str) -> WorkerInfo:
    """The service's own worker, which measures for `host`, as a resource."""
    wrong = worker.describe()
    return WorkerInfo(
        host=host,
        state=worker.state,
        since=worker.since,
        pid=worker.pid,
        num_ends=worker.num_ends,
        last_exit=worker.last_exit,
        reason=worker.reason,
        next_try_at=worker.next_try_at,
        detail=f"the worker of host {host!r} {wrong}" if wrong else "",
        hint=worker.hint if wrong else "",
    )


def platform_info(platform: Platform) -> PlatformInfo:
    """The platform as a resource."""
    return PlatformInfo(
        key=platform.key,
        device=platform.device,
        device_model=platform.device_model,
        memory_bytes=platform.memory_bytes,
        driver=platform.driver,
        framework=platform.framework,
        libraries=dict(platform.libraries),
        threads=platform.threads,
        cpus=platform.cpus,
        flags=dict(platform.flags),
    )


def workload_info(kind: WorkloadKind) -> WorkloadInfo:
    """The workload kind as a resource."""
    return WorkloadInfo(
        name=kind.name,
        description=kind.description,
        axes=list(kind.axes),
        parameters=[
            ParameterInfo(
                name=parameter.name,
                default=parameter.default,
                description=parameter.description,
                choices=list(parameter.choices),
                minimum=None if parameter.choices else parameter.minimum,
                maximum=None if parameter.choices else parameter.maximum,
                can_vary=parameter.can_vary,
            )
            for parameter in kind.parameters
        ],
    )
