"""Figs. 2 and 3 of Yin et al.: latency over a width, with its LHPs.

Fig. 2 is a square weight times a batch of 16, Fig. 3 a whole DeepSpeech2. Both are grid sweeps with
the service's own planner and measuring process. They are drawn as by `lhp plot`,
once per call and once per operation. Measures on the device on which the service would measure.

Doesn't know how points are planned or how LHPs are found.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures.paper import FIGURES, MEASURED_ON_CPU, describe
from benchmarks.png import shrink
from benchmarks.provenance import heading
from profiler_service.analysis.curve import F64, LatencyCurve, PointStatus
from profiler_service.analysis.lhp import redundancy
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.answering.curve_formats import csv_chunks, json_chunks
from profiler_service.answering.resources import curve_info, platform_info
from profiler_service.errors import MeasurementFailedError
from profiler_service.kinds import get_workload_kind
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import pin_away
from profiler_service.plan.base import Batch
from profiler_service.plan.grid import GridPlanner
from profiler_service.plan.spec import SweepSpec
from profiler_service.plots.figure import View
from profiler_service.plots.files import save_plot
from profiler_service.plots.quantities import format_latency
from profiler_service.plots.text import format_redundancy
from profiler_service.storage.records import CurveHeader
from profiler_service.wire import CurveDetail

ABOUT_FRAMES = (
    "Sequences have 33 frames. The convolutions turn them into two time steps, so a call takes"
    " tens of milliseconds. With 300 frames, it has 135 steps and takes seconds. Each step is the"
    " same products again. The inputs of all steps are multiplied at once, before the first."
)
MULTIPLES = (4, 8, 16, 32)
MOST_GAINS = 10
NOISE_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A point, and the larger one that answers it."""

    dim: int
    answer: int
    latency_s: float
    answer_latency_s: float
    speedup: float
    low: float
    """Lower end of the 95 % interval on `speedup`."""
    high: float


def sweep(
    spec: SweepSpec,
    measure: Callable[[Batch], Samples],
    *,
    platform: Platform,
    protocol: TimingProtocol,
) -> LatencyCurve:
    """The curve that the service would store of the sweep. Shows progress on stderr.

    Raises MeasurementFailedError if its budget ended before every point was measured once.
    """
    planner = GridPlanner(spec)
    while (batch := planner.next_batch()) is not None:
        planner.record(measure(batch))
        progress = planner.progress()
        print(f"{progress.fraction:5.0%}, {progress.stage:<60}", end="\r", file=sys.stderr)
    print(file=sys.stderr)
    curve = planner.build_curve(platform, protocol, dt.datetime.now(dt.UTC))
    if curve.num_measured + len(curve.failures) < curve.grid.size:
        raise MeasurementFailedError(
            f"time for {curve.num_measured:,} of {curve.grid.size:,} points only",
            hint="take another machine",
        )
    return curve


def as_detail(curve: LatencyCurve) -> CurveDetail:
    """The curve as `GET /curves/{id}` would send it."""
    header = CurveHeader(
        id="",
        sweep_id="",
        host="",
        workload=curve.workload,
        platform_key=curve.platform.key,
        protocol_key=curve.protocol.key,
        grid=curve.grid,
        mode="grid",
        num_measured=curve.num_measured,
        num_lhps=curve.num_lhps,
        num_undecided=curve.num_undecided,
        num_failures=len(curve.failures),
        measured_at=curve.measured_at,
        evidence=curve.evidence,
    )
    chunks = json_chunks(curve, curve_info(header, stale=False))
    return CurveDetail.model_validate_json(b"".join(chunks))


def find_gains(curve: LatencyCurve) -> list[Gain]:
    """For every answer, the other point that surely gains most by it.

    Largest first. Ranked by the lower ends of the intervals, because the largest of many ratios is
    likely to be too large.
    """
    answers, dims = curve.answers, curve.grid.all_dims()[:, 0]
    moved = np.flatnonzero((answers.target >= 0) & (answers.target != np.arange(len(dims))))
    best: dict[int, int] = {}
    for point in moved[np.argsort(answers.ratio_high[moved], kind="stable")].tolist():
        best.setdefault(int(answers.target[point]), point)
    return [
        Gain(
            dim=int(dims[point]),
            answer=int(dims[target]),
            latency_s=float(curve.latency_s[point]),
            answer_latency_s=float(curve.latency_s[target]),
            speedup=float(1 / answers.ratio[point]),
            low=float(1 / answers.ratio_high[point]),
            high=float(1 / answers.ratio_low[point]),
        )
        for target, point in best.items()
    ]


def say(curve: LatencyCurve) -> list[str]:
    """Markdown lines: the redundancy, its uncertainty, and what the answers save."""
    n, num_dominated = curve.num_measured, int(np.sum(curve.status == PointStatus.DOMINATED))
    lhps = curve.grid.all_dims()[curve.status == PointStatus.LHP, 0]
    lines = [
        f"- **Redundancy** (1 − #LHPs / #points): {format_redundancy(as_detail(curve))}. Of {n:,}"
        f" points, {curve.num_lhps} are surely LHPs, {num_dominated:,} surely not, and"
        f" {curve.num_undecided:,} undecided ({curve.num_undecided / n:.1%}). The lower end counts"
        " the undecided ones as LHPs, the upper end doesn't. The medians alone, with their noise,"
        " show"
        f" {redundancy(curve.latency_s):.1%}. A curve without any step, with the same noise, would"
        f" show {expect_from_noise(curve):.1%}.",
        f"- {_say_how_sure(curve)}",
    ]
    if len(lhps):
        shares = (f"{np.mean(lhps % m == 0):.0%} of {m}" for m in MULTIPLES)
        lines.append(f"- Of the LHPs, these are multiples: {', '.join(shares)}.")
    if num_dominated:
        speedup = 1 / curve.answers.ratio[curve.status == PointStatus.DOMINATED]
        lines.append(
            f"- The {num_dominated:,} points with a surely faster larger one gain by it:"
            f" {np.median(speedup):.2f} times as fast in the median,"
            f" {np.quantile(speedup, 0.9):.2f} for one in ten."
        )
    return lines


def _say_how_sure(curve: LatencyCurve) -> str:
    evidence = curve.evidence
    is_spent = (evidence.seconds or 0.0) >= (evidence.asked_budget_s or np.inf)
    why = "ended by its budget" if is_spent else "ended by its own stopping rule"
    text = f"{evidence.rounds} rounds, {evidence.seconds:.0f} s of measuring: {why}."
    half = (curve.high_s - curve.low_s) / 2 / curve.latency_s
    half = half[np.isfinite(half)]
    if not len(half):
        return f"{text} Too few rounds for any interval."
    operations = find_rates(curve) * curve.latency_s
    steps = np.diff(operations) / operations[:-1]
    return (
        f"{text} Half of the medians are known within ± {np.median(half):.2%}, nine in ten within"
        f" ± {np.quantile(half, 0.9):.2%}. One step of {curve.workload.axes[0]} adds"
        f" {np.nanmin(steps):.2%} to {np.nanmax(steps):.2%} of operations: neighbours that differ"
        " by no more stay undecided."
    )


def table(curve: LatencyCurve) -> list[str]:
    """Markdown lines: the answers that save most; none if no answer is another point."""
    gains, axis = find_gains(curve)[:MOST_GAINS], curve.workload.axes[0]
    if not gains:
        return []
    lines = [
        "Answers that save most (one point for each answer; latencies are medians of all rounds,"
        " ratios are paired within rounds that did not choose):",
        "",
        f"| {axis} | latency | answer | its latency | times as fast (95 % interval) |",
        "|---:|---:|---:|---:|---|",
    ]
    for gain in gains:
        lines.append(
            f"| {gain.dim} | {format_latency(gain.latency_s)} | {gain.answer}"
            f" | {format_latency(gain.answer_latency_s)}"
            f" | {gain.speedup:.3f} ({gain.low:.3f} to {gain.high:.3f}) |"
        )
    return [*lines, ""]


def _model(platform: Platform) -> str:
    return platform.device_model.partition(" (")[0]


def expect_from_noise(curve: LatencyCurve) -> float:
    """The redundancy that medians with this noise show if latency only grows.

    Source: ours. Latency is assumed to be a smooth function of the operations (a cubic in
    logarithms), and each median to have noise as its interval says. NaN without intervals.
    """
    known = np.isfinite(curve.high_s)
    if not known.any():
        return float("nan")
    log_flops = np.log(find_rates(curve) * curve.latency_s)[known]
    log_flops -= log_flops.mean()
    smooth = np.polyval(np.polyfit(log_flops, np.log(curve.latency_s[known]), 3), log_flops)
    scatter = np.log(curve.high_s / curve.low_s)[known] / (2 * 1.96)
    rng = np.random.default_rng(0)
    draws = (redundancy(np.exp(rng.normal(smooth, scatter))) for _ in range(NOISE_DRAWS))
    return float(np.mean(list(draws)))


def find_rates(curve: LatencyCurve) -> F64:
    """GFLOP/s of every point, NaN if it wasn't measured. Zeros of a weight don't count."""
    kind, params = get_workload_kind(curve.workload.kind), dict(curve.workload.params)
    flops = np.array([kind.flops(dims, params) for dims in curve.grid], dtype=np.float64)
    rates: F64 = flops / curve.latency_s / 1e9
    return rates


def draw(
    name: str,
    curve: LatencyCurve,
    out: Path,
    *,
    ending: str = ".png",
    views: Sequence[View] = ("latency", "per_flop"),
) -> None:
    """Writes the pictures of `lhp plot` into `out`: the latency, and the time per operation.

    Over a wide range of widths, the growth of the latency hides its steps. The other shows them.
    """
    detail, platform = as_detail(curve), platform_info(curve.platform)
    for view in views:
        file = f"{name}{'' if view == 'latency' else '-per-flop'}{ending}"
        save_plot(detail, out / file, platform=platform, view=view)
        if ending == ".png":
            (out / file).write_bytes(shrink((out / file).read_bytes()))


def write(name: str, curve: LatencyCurve, lines: list[str], out: Path) -> str:
    """The report, which begins with `lines`. Also writes it into `out`, with the data."""
    (out / f"{name}.csv").write_bytes(b"".join(csv_chunks(curve)))
    return write_report(name, curve, lines, out)


def write_report(name: str, curve: LatencyCurve, lines: list[str], out: Path) -> str:
    """The report, which begins with `lines`. Also writes it into `out`."""
    figure, platform, axis = FIGURES[name], curve.platform, curve.workload.axes[0]
    params = ", ".join(f"{key}={value}" for key, value in curve.workload.params)
    first, last = (format_latency(f(curve.latency_s)) for f in (np.nanmin, np.nanmax))
    lines = [
        *lines,
        f"`{figure.kind}` ({params}), {axis} {figure.grid.first[0]:,} to"
        f" {figure.grid.last[0]:,} in steps of {figure.grid.axes[0].step}, on {_model(platform)},"
        f" {platform.threads} thread{'s' * (platform.threads != 1)}; {first} to {last} a"
        " call.",
        "",
        *(
            [ABOUT_FRAMES, ""]
            if MEASURED_ON_CPU.items() <= dict(curve.workload.params).items()
            else []
        ),
        f"![latency over {axis}, LHPs marked]({name}.png)",
        "",
        f"![time per operation over {axis}]({name}-per-flop.png)",
        "",
        *say(curve),
        f"- {figure.paper}",
        "",
        *table(curve),
        f"Data: [{name}.csv]({name}.csv).",
    ]
    text = "\n".join(lines) + "\n"
    (out / f"{name}.md").write_text(text)
    return text


def draw_figure(name: str, out: Path, *, seconds: float) -> None:
    """Measures and draws `fig2` or `fig3`: `NAME.csv`, `NAME.md` and two pictures."""
    figure = FIGURES[name]
    lines = heading(figure.title, "benchmarks.figures", "torch", "numpy")
    with Measurer() as measurer:
        pin_away(measurer.measured_cpus)
        spec = describe(figure, device=measurer.platform.device, seconds=seconds)
        curve = sweep(
            spec,
            functools.partial(measurer.measure, spec.workload, spec.grid),
            platform=measurer.platform,
            protocol=measurer.protocol,
        )

    print(write(name, curve, lines, out))
    draw(name, curve, out)
