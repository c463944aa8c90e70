"""Draws the curves of `docs/results` again from their data, and renews the reports beside them.

Nothing is measured. A CSV has the points, but not what was measured where: that is in the table
here, as the reports' headings say it.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.figures import hysteresis
from benchmarks.figures.paper import MEASURED_ON_CPU
from profiler_service.analysis.curve import F64, AnswerTable, LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind
from profiler_service.workload import ParamValue, Workload

XEON = Platform(
    device="cpu",
    device_model="Intel(R) Xeon(R) Processor",
    memory_bytes=24 << 30,
    driver="",
    framework="torch 2.13.0+cpu",
    libraries=(),
    threads=1,
    cpus=2,
    flags=(),
)
PROTOCOL = TimingProtocol(timer="perf_counter")
HEADING_LINES = 8
"""Lines of a report that say how it was measured. They stay."""


@dataclass(frozen=True, kw_only=True)
class StoredFigure:
    """What a CSV of `docs/results` doesn't say of its curve."""

    kind: str
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    measured_at: dt.datetime = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    has_report: bool = True
    """Whether it is a figure of the paper, with a report. Else, it is drawn once, per call."""


FIGURES = {
    "fig2": StoredFigure(
        kind="matmul", evidence=Evidence(rounds=169, seconds=380.0, asked_budget_s=380.0)
    ),
    "fig3": StoredFigure(
        kind="deepspeech2",
        params=MEASURED_ON_CPU,
        evidence=Evidence(rounds=14, seconds=380.0, asked_budget_s=380.0),
    ),
    "matmul-256-512": StoredFigure(kind="matmul", has_report=False),
}


def redraw(folder: Path, *, ending: str = ".png") -> None:
    """Writes the pictures of FIGURES beside their data, and renews their reports."""
    for name, stored in FIGURES.items():
        curve = read_curve(folder / f"{name}.csv", stored)
        if not stored.has_report:
            hysteresis.draw(name, curve, folder, ending=ending, views=("latency",))
            continue
        heading = (folder / f"{name}.md").read_text().splitlines()[:HEADING_LINES]
        hysteresis.draw(name, curve, folder, ending=ending)
        hysteresis.write_report(name, curve, heading, folder)


def read_curve(path: Path, stored: StoredFigure) -> LatencyCurve:
    """The curve of one axis whose points the CSV has, without gaps.

    The last size is an edge: early files call it an LHP. Raises InvalidRequestError if the file
    isn't that of such a curve.
    """
    workload = get_workload_kind(stored.kind).describe(stored.params)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    axis = workload.axes[0]
    if not rows or not {axis, "latency_s", "low_s", "high_s", "num_samples", "status"} <= set(
        rows[0]
    ):
        raise InvalidRequestError(
            f"{path.name} has no curve over {axis}", hint="download one from /curves as CSV"
        )
    dims = [int(row[axis]) for row in rows]
    if dims != list(range(dims[0], dims[0] + len(dims))):
        raise InvalidRequestError(f"{path.name} leaves sizes out", hint="use a whole curve")
    status = [PointStatus[row["status"].upper()] for row in rows]
    if status[-1] is PointStatus.LHP:
        status[-1] = PointStatus.EDGE
    return LatencyCurve(
        workload=workload,
        platform=XEON,
        protocol=PROTOCOL,
        grid=Grid(axes=(GridAxis(first=dims[0], count=len(dims)),)),
        latency_s=_read(rows, "latency_s"),
        low_s=_read(rows, "low_s"),
        high_s=_read(rows, "high_s"),
        num_samples=np.array([int(row["num_samples"]) for row in rows], dtype=np.int32),
        status=np.array(status, dtype=np.int8),
        answers=_read_answers(rows, workload, status),
        measured_at=stored.measured_at,
        evidence=stored.evidence,
    )


def _read(rows: Sequence[Mapping[str, str]], name: str) -> F64:
    """A column of numbers; NaN where there is none."""
    return np.array([float(row.get(name) or "nan") for row in rows])


def _read_answers(
    rows: Sequence[Mapping[str, str]], workload: Workload, status: Sequence[PointStatus]
) -> AnswerTable:
    """Each point's rival, which is its answer if the point is dominated."""
    first, column = int(rows[0][workload.axes[0]]), f"rival_{workload.axes[0]}"
    rival = np.array(
        [int(row[column]) - first if row.get(column) else -1 for row in rows], dtype=np.int32
    )
    moves = (np.array(status) == PointStatus.DOMINATED) & (rival >= 0)
    return AnswerTable(
        target=np.where(moves, rival, np.arange(len(rows))).astype(np.int32),
        ratio=_read(rows, "ratio"),
        ratio_low=_read(rows, "ratio_low"),
        ratio_high=_read(rows, "ratio_high"),
        rival=rival,
    )
