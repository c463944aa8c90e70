"""Turns domain objects into column values, and rows into domain objects.

Runs no statement. Workloads are rebuilt from what was stored, never through the registry of
kinds, so that curves stay readable when the package that brought their kind is gone.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import sqlalchemy as sa

from profiler_service.analysis.curve import AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.lhp import find_edges
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.plan.learned import Learned
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import (
    Progress,
    RaceTerms,
    SweepSpec,
    SweepState,
    grid_from_json,
    grid_to_json,
    guide_from_json,
)
from profiler_service.plan.turns import Demand, OpenSweep
from profiler_service.storage import blobs
from profiler_service.storage.records import (
    EPHEMERAL_SILENCE_S,
    CurveHeader,
    Fact,
    Host,
    HostStatus,
    Sweep,
)
from profiler_service.workload import Dims, Workload

Row = sa.Row[Any]
Values = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_CURVE_ARRAYS = ("latency_s", "low_s", "high_s", "num_samples", "status")
_ANSWER_ARRAYS = ("target", "ratio", "ratio_low", "ratio_high")
_SAMPLE_ARRAYS = ("point", "round", "time_s", "latency_s", "unstable")
UNKNOWN_S = 3.0
"""Expected time of a sweep whose expected time isn't stored."""


def create_id(now: dt.datetime) -> str:
    """A new id of 32 hexadecimal digits; later ones sort after earlier ones.

    A UUID of version 7 with 12 bits of the time below the millisecond, a step of a quarter
    of a microsecond (Source: RFC 9562, section 5.7 and method 3 of section 6.2).
    """
    microseconds = (now - _EPOCH) // dt.timedelta(microseconds=1)
    milliseconds, below_ns = divmod(1000 * microseconds, 1_000_000)
    number = uuid.uuid4().int & ((1 << 62) - 1)
    number |= milliseconds << 80 | 0x7 << 76 | (below_ns << 12) // 1_000_000 << 64 | 0b10 << 62
    return uuid.UUID(int=number).hex


def least_id(moment: dt.datetime) -> str:
    """No id that was created at that time or later is smaller."""
    milliseconds = max((moment - _EPOCH) // dt.timedelta(milliseconds=1), 0)
    return f"{min(milliseconds, (1 << 48) - 1) << 80:032x}"


def host_from_row(row: Row) -> Host:
    """The host in a row of `hosts` with the database's time, `now`."""
    silent_s = (row.now - row.last_seen_at).total_seconds()
    return Host(
        name=row.name,
        platform_key=row.platform_key,
        protocol_key=row.protocol_key,
        dtypes=tuple(row.dtypes),
        # NULL is from before there was a choice.
        backends={"dense": tuple(row.dtypes)}
        if row.backends is None
        else {name: tuple(dtypes) for name, dtypes in row.backends.items()},
        registered_at=row.registered_at,
        last_seen_at=row.last_seen_at,
        silent_s=silent_s,
        labels=dict(row.labels),
        status=_status(row, silent_s),
        machine=row.machine,
        is_ephemeral=row.is_ephemeral,
        findings=dict(row.findings),
        role=row.role,
        offered_platform_key=row.offered_platform_key,
        clock_skew_s=row.clock_skew_s,
    )


def _status(row: Row, silent_s: float) -> HostStatus:
    if row.is_ephemeral and silent_s > EPHEMERAL_SILENCE_S:
        return HostStatus.RETIRED
    if row.status == HostStatus.APPROVED and row.offered_platform_key is not None:
        return HostStatus.QUARANTINED
    return HostStatus(row.status)


def workload_to_values(workload: Workload) -> Values:
    """The columns that both sweeps and curves keep of a workload."""
    return {
        "kind": workload.kind,
        "params": dict(workload.params),
        "axes": list(workload.axes),
    }


def workload_from_row(row: Row) -> Workload:
    """The workload in a row of `sweeps` or `curves`."""
    return Workload(kind=row.kind, params=tuple(sorted(row.params.items())), axes=tuple(row.axes))


def sweep_to_values(
    spec: SweepSpec, *, host: str, demand: Demand | None, now: dt.datetime
) -> Values:
    """The row of `sweeps` for a sweep that was asked for just now."""
    return {
        "id": create_id(now),
        "host": host,
        "spec_key": spec.key,
        **workload_to_values(spec.workload),
        "mode": spec.mode,
        "grid": grid_to_json(spec.grid),
        "seed": spec.seed,
        "budget_s": spec.budget_s,
        "guide": None if spec.guide is None else [list(axis) for axis in spec.guide],
        "learned": None if spec.learned is None else spec.learned.to_json(),
        "terms": spec.terms.to_json() or None,
        "tau": spec.tau,
        "expected_s": None if demand is None else demand.expected_s,
        "is_awaited": None if demand is None else demand.is_awaited,
        "client": None if demand is None else demand.client,
        "request_id": None if demand is None else demand.request_id,
        "traceparent": None if demand is None else demand.traceparent,
        "state": SweepState.QUEUED,
        "cancel_requested": False,
        "created_at": now,
        "error": "",
    }


def sweep_from_row(row: Row) -> Sweep:
    """The sweep in a row of `sweeps` with its `curve_id`."""
    return Sweep(
        id=row.id,
        host=row.host,
        spec=SweepSpec(
            workload=workload_from_row(row),
            mode=row.mode,
            grid=grid_from_json(row.grid),
            seed=row.seed,
            budget_s=row.budget_s,
            guide=guide_from_json(row.guide),
            learned=Learned.from_json(row.learned),
            terms=RaceTerms(**(row.terms or {})),
            tau=row.tau,
        ),
        state=SweepState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancel_requested=row.cancel_requested,
        progress=None if row.progress is None else Progress(**row.progress),
        error=row.error,
        curve_id=row.curve_id,
        request_id=row.request_id,
        traceparent=row.traceparent,
    )


def open_sweep_from_row(row: Row) -> OpenSweep:
    """What the turn of the sweep in a row of `sweeps` depends on."""
    return OpenSweep(
        id=row.id,
        # NULL is from before there were turns, or of a caller that says nothing of it.
        expected_s=UNKNOWN_S if row.expected_s is None else row.expected_s,
        is_awaited=MODES[row.mode].is_race if row.is_awaited is None else row.is_awaited,
        progress=None if row.progress is None else Progress(**row.progress),
        is_ending=row.cancel_requested,
        request_id=row.request_id,
        traceparent=row.traceparent,
    )


def progress_to_json(progress: Progress) -> dict[str, float | int | str]:
    """The `progress` column of `sweeps`."""
    return {
        "fraction": float(progress.fraction),
        "stage": progress.stage,
        "num_samples": int(progress.num_samples),
        "seconds": float(progress.seconds),
        "others_s": float(progress.others_s),
        "watched_s": float(progress.watched_s),
    }


def samples_to_values(samples: Samples) -> Values:
    """The columns of a batch except its time. Every bit of the samples is stored.

    A resumed sweep replays them, and must come to the same decisions as the first time.
    """
    return {
        "num_samples": len(samples),
        # the driver doesn't take numpy's numbers
        "calls": int(samples.calls),
        "num_discarded": int(samples.num_discarded),
        "seconds": float(samples.seconds),
        "child": int(samples.child),
        "failures": _failures_to_json(samples.failures),
        "arrays": blobs.pack(_sample_columns(samples)),
    }


def _sample_columns(samples: Samples) -> dict[str, Any]:
    optional = {"lost_s": samples.lost_s, "clock_hz": samples.clock_hz}
    recorded = {name: array for name, array in optional.items() if array is not None}
    return {name: getattr(samples, name) for name in _SAMPLE_ARRAYS} | recorded


def samples_from_row(row: Row) -> Samples:
    """The samples in a row of `batches`."""
    arrays: dict[str, Any] = blobs.unpack(row.arrays)
    return Samples(
        calls=row.calls,
        num_discarded=row.num_discarded,
        seconds=row.seconds,
        child=row.child,
        failures=_failures_from_json(row.failures),
        **arrays,
    )


def curve_to_values(curve: LatencyCurve, *, now: dt.datetime) -> Values:
    """The columns of `curves` whose values come from the curve itself, and its new id."""
    return {
        "id": create_id(now),
        "workload_key": curve.workload.key,
        **workload_to_values(curve.workload),
        "platform_key": curve.platform.key,
        "protocol_key": curve.protocol.key,
        "protocol": asdict(curve.protocol),
        "grid": grid_to_json(curve.grid),
        "num_measured": curve.num_measured,
        "num_lhps": curve.num_lhps,
        "num_undecided": curve.num_undecided,
        "num_failures": len(curve.failures),
        "measured_at": curve.measured_at,
        "evidence": curve.evidence.to_json(),
    }


def curve_arrays_to_values(curve: LatencyCurve) -> Values:
    """The columns of `curve_arrays` for the curve; seconds and ratios are float32.

    float32 rounds by 6e-8 of the value, while timers and noise change it by 1e-3.
    """
    columns = {name: getattr(curve, name) for name in _CURVE_ARRAYS}
    columns |= {name: getattr(curve.answers, name) for name in _ANSWER_ARRAYS}
    if curve.answers.rival is not None:
        columns["rival"] = curve.answers.rival
    return {
        "failures": _failures_to_json(curve.failures),
        "arrays": blobs.pack(
            {
                name: column.astype(np.float32) if column.dtype == np.float64 else column
                for name, column in columns.items()
            }
        ),
    }


def header_from_row(row: Row) -> CurveHeader:
    """The header in a row of `curves`."""
    return CurveHeader(
        id=row.id,
        sweep_id=row.sweep_id,
        host=row.host,
        workload=workload_from_row(row),
        platform_key=row.platform_key,
        protocol_key=row.protocol_key,
        grid=grid_from_json(row.grid),
        mode=row.mode,
        num_measured=row.num_measured,
        num_lhps=row.num_lhps,
        num_undecided=row.num_undecided,
        num_failures=row.num_failures,
        measured_at=row.measured_at,
        evidence=Evidence.from_json(row.evidence),
        generation=row.generation,
    )


def dims_to_text(dims: Sequence[int]) -> str:
    """The columns `raced_from`, `dims` and `rival`: a point, `1197,317`."""
    return ",".join(map(str, dims))


def dims_from_text(text: str) -> Dims:
    """The inverse of `dims_to_text`."""
    return tuple(map(int, text.split(",")))


def fact_to_values(pair: ConfirmedPair, *, now: dt.datetime) -> Values:
    """The columns of `facts` whose values come from the pair itself, and its new id."""
    return {
        **asdict(pair),
        "id": create_id(now),
        "dims": dims_to_text(pair.dims),
        "rival": dims_to_text(pair.rival),
    }


def fact_from_row(row: Row) -> Fact:
    """The fact in a row of `facts`."""
    return Fact(
        id=row.id,
        curve_id=row.curve_id,
        sweep_id=row.sweep_id,
        host=row.host,
        workload=workload_from_row(row),
        platform_key=row.platform_key,
        protocol_key=row.protocol_key,
        pair=ConfirmedPair(
            dims=dims_from_text(row.dims),
            rival=dims_from_text(row.rival),
            verdict=row.verdict,
            ratio=row.ratio,
            low=row.low,
            high=row.high,
            num_pairs=row.num_pairs,
            num_children=row.num_children,
            num_arenas=row.num_arenas,
            between_arenas=row.between_arenas,
            noise=row.noise,
            tau=row.tau,
        ),
        tau=row.tau,
        worker=row.worker,
        measured_at=row.measured_at,
        repeats=row.repeats,
        overruled_by=row.overruled_by,
    )


def curve_from_row(row: Row) -> LatencyCurve:
    """The curve in a row of `curves`, `curve_arrays` and the `fields` of `platforms`."""
    columns: dict[str, Any] = {
        name: column.astype(np.float64) if column.dtype == np.float32 else column
        for name, column in blobs.unpack(row.arrays).items()
    }
    grid = grid_from_json(row.grid)
    # Curves that were kept before there were edges call them LHPs.
    edges = find_edges(columns["num_samples"].reshape(grid.shape) > 0).ravel()
    columns["status"] = columns["status"].copy()
    columns["status"][edges & (columns["status"] == PointStatus.LHP)] = PointStatus.EDGE
    return LatencyCurve(
        workload=workload_from_row(row),
        platform=Platform.from_json(row.fields),
        protocol=TimingProtocol(**row.protocol),
        grid=grid,
        answers=AnswerTable(
            **{name: columns.pop(name) for name in _ANSWER_ARRAYS},
            rival=columns.pop("rival", None),
        ),
        measured_at=row.measured_at,
        failures=_failures_from_json(row.failures),
        evidence=Evidence.from_json(row.evidence),
        **columns,
    )


def _failures_to_json(failures: Any) -> dict[str, str]:
    return {str(point): reason for point, reason in failures.items()}


def _failures_from_json(failures: Any) -> dict[int, str]:
    return {int(point): reason for point, reason in failures.items()}
