"""Keeps what was measured, as it comes: if measuring is broken off, everything so far is there.

`samples.jsonl.gz` has a line for each batch, `curves.jsonl` one for each curve that is done, and
`report.md` a table of these. Numbers have DIGITS digits.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import sparse
from profiler_service.analysis.comparison import column_medians
from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol

SAMPLES, CURVES = "samples.jsonl.gz", "curves.jsonl"
DIGITS = 7
MULTIPLES = (8, 16, 32, 64, 128)


class Results:
    """A folder that fills while measuring goes on. Raises FileExistsError if it has results."""

    def __init__(
        self, folder: Path, *, command: str, platform: Platform, protocol: TimingProtocol
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for name in (SAMPLES, CURVES):
            (folder / name).touch(exist_ok=False)
        about = {"command": command, "platform": platform.to_json(), "protocol": protocol.key}
        (folder / "machine.json").write_text(json.dumps(about, indent=1) + "\n")
        self._heading = [
            f"# Curves of {platform.device_model}",
            "",
            f"    {command}",
            "",
            f"- {platform.framework}, driver {platform.driver}, protocol {protocol.key}",
            f"- flags: {', '.join(f'{name}={value}' for name, value in platform.flags)}",
            "",
            "| what | points | latency of a call | redundancy | LHPs that are multiples |"
            " largest gain | discarded, unstable | clock |",
            "|---|---:|---|---|---|---|---|---|",
        ]
        self._rows: list[str] = []
        self._more: list[str] = []

    def keep_batch(self, job: str, samples: Samples) -> None:
        """Adds the samples of a batch."""
        columns: dict[str, Any] = {
            "point": samples.point,
            "round": samples.round,
            "time_s": samples.time_s,
            "latency_s": samples.latency_s,
            "unstable": samples.unstable,
            "clock_hz": samples.clock_hz,
        }
        line = {name: None if c is None else _plain(c) for name, c in columns.items()}
        about = {
            "job": job,
            "child": samples.child,
            "calls": samples.calls,
            "num_discarded": samples.num_discarded,
            "failures": {str(point): reason for point, reason in samples.failures.items()},
        }
        with gzip.open(self._folder / SAMPLES, "at") as file:  # ends with this batch
            file.write(json.dumps(about | line, allow_nan=False) + "\n")

    def keep_curve(self, job: str, curve: LatencyCurve, clocks_hz: list[float]) -> None:
        """Adds a curve, and its row in the report. `clocks_hz` are those of its samples."""
        answers = curve.answers
        self._append(
            {
                "job": job,
                "workload": curve.workload.key,
                "axes": list(curve.workload.axes),
                "dims": curve.grid.all_dims().tolist(),
                "latency_s": _plain(curve.latency_s),
                "low_s": _plain(curve.low_s),
                "high_s": _plain(curve.high_s),
                "num_samples": curve.num_samples.tolist(),
                "status": [PointStatus(each).name.lower() for each in curve.status.tolist()],
                "target": answers.target.tolist(),
                "ratio": _plain(answers.ratio),
                "ratio_low": _plain(answers.ratio_low),
                "ratio_high": _plain(answers.ratio_high),
                "failures": {str(point): reason for point, reason in curve.failures.items()},
                "evidence": curve.evidence.to_json(),
                "measured_at": curve.measured_at.isoformat(),
            },
        )
        self._rows.append(_row(job, curve, clocks_hz))
        self._write_report()

    def keep_fig1(self, curves: sparse.Curves) -> None:
        """Adds Fig. 1: medians of every kernel, and the comparisons in words."""
        medians = {name: column_medians(log) for name, log in curves.log.items()}
        self._append(
            {
                "job": "fig1",
                "sizes": list(curves.sizes),
                **{name: _plain(np.exp(each.center)) for name, each in medians.items()},
            },
        )
        self._more += ["", "## Fig. 1", "", *sparse.say(curves), "", *sparse.table(curves)]
        self._write_report()

    def keep_failure(self, job: str, reason: str) -> None:
        """Adds that a job has no result, and why."""
        self._append({"job": job, "failed": reason})
        self._rows.append(f"| {job} | 0 | {reason} | | | | | |")
        self._write_report()

    def _append(self, fields: Mapping[str, object]) -> None:
        with (self._folder / CURVES).open("a") as file:
            file.write(json.dumps(fields, allow_nan=False) + "\n")

    def _write_report(self) -> None:
        lines = [*self._heading, *self._rows, *self._more]
        (self._folder / "report.md").write_text("\n".join(lines) + "\n")


def _plain(array: Any) -> list[Any]:
    """The values with DIGITS digits, None in place of NaN."""
    values = np.asarray(array)
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [None if math.isnan(x) else float(f"{x:.{DIGITS}g}") for x in values.tolist()]


def _row(job: str, curve: LatencyCurve, clocks_hz: list[float]) -> str:
    measured = curve.num_samples > 0
    latency_s = curve.latency_s[measured]
    lhps = curve.grid.all_dims()[curve.status == PointStatus.LHP]
    high = curve.redundancy
    low = high - curve.num_undecided / max(1, curve.num_measured)
    evidence = curve.evidence
    clock = f"{np.median(clocks_hz) / 1e6:.0f} MHz" if clocks_hz else "not shown"
    cells = [
        job,
        f"{curve.num_measured:,} of {curve.grid.size:,}",
        f"{1e6 * latency_s.min():,.1f} to {1e6 * latency_s.max():,.1f} µs",
        # A race knows nothing of most of its points.
        f"{low:.1%} to {high:.1%}" if len(lhps) else "",
        ", ".join(f"{np.mean(lhps % m == 0):.0%} of {m}" for m in MULTIPLES) if len(lhps) else "",
        _largest_gain(curve),
        f"{evidence.discarded}, {evidence.unstable}",
        clock,
    ]
    return f"| {' | '.join(cells)} |"


def _largest_gain(curve: LatencyCurve) -> str:
    """The answer that surely gains most, or that of a race's first point."""
    answers, number = curve.answers, np.arange(curve.grid.size)
    moved = np.flatnonzero((answers.target >= 0) & (answers.target != number))
    if not len(moved):
        return "no point moves"
    point = int(moved[np.argmin(answers.ratio_high[moved])])
    dims = curve.grid.all_dims()
    before, after = (
        ",".join(map(str, dims[each].tolist())) for each in (point, int(answers.target[point]))
    )
    return (
        f"{before} → {after}: {1 / answers.ratio[point]:.3f}"
        f" ({1 / answers.ratio_high[point]:.3f} to {1 / answers.ratio_low[point]:.3f})"
        " times as fast"
    )
