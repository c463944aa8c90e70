"""The paper's Table 1 for one run: what each step changed, and its latency from the service.

All latencies come from the service. It measures each step's dims as `hlstm_lm`, in one sweep with
the dims of step (a). The grid has two values on each axis, so that both are measured in the same
rounds. On the sparse route, the last step is measured as `csr`, at the sparsity reached, with zeros
at random places. The baseline is measured as `lstm_lm`, in its own sweep.

Doesn't know how a run was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from profiler_service.errors import LhpError, NotFoundError, PlatformMismatchError
from profiler_service.wire import CurveDetail, GridAxisRange, PlatformInfo
from trainer_client.checkpoint import read_checkpoint, write_whole
from trainer_client.route import find_route
from trainer_client.run_files import CHECKPOINT, EPOCHS_LOG, STEPS_LOG, Row, to_lines

LATENCIES = "latencies.json"
NAMES: Mapping[str, str] = {
    "baseline": "baseline: stacked LSTM",
    "growth": "(a) weight growth",
    "units": "(b) row/column pruning",
    "lhp": "(c) row/column growth to the LHP",
    "weights": "(d) weight pruning",
}


class UnreadableRunError(LhpError):
    """The logs of a run can't be read."""


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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the report of a run contains."""

    config: Mapping[str, Any]
    is_finished: bool
    rows: Sequence[Row]
    latencies: Mapping[str, Latency]
    """By step; empty if the service was never asked."""
    digests: Mapping[str, str]
    """SHA-256 of the run's logs, by name."""


def make_report(directory: Path, service: GridMeasurer | None) -> Report:
    """The report of the run in `directory`; also writes it there, as JSON, Markdown and a plot.

    With a service, all latencies are measured again. Without one, those of an earlier report are
    shown. Raises NotFoundError, UnreadableRunError, and the service's errors.
    """
    saved = read_checkpoint(directory / CHECKPOINT)
    config, rows = saved["config"], saved["rows"]
    if not rows:
        raise NotFoundError(
            f"no step of the run in {directory} has ended yet", hint="let it run for longer"
        )
    kept = directory / LATENCIES
    if service is not None:
        latencies = measure_steps(service, config, rows, vocabulary=saved["text"][1])
        told = {
            row["step"]: {"row": _digest_of(row), **asdict(latencies[row["step"]])} for row in rows
        }
        write_whole(kept, json.dumps(told, indent=1).encode())
    else:
        latencies = _read_latencies(kept, rows) if kept.exists() else {}
    logs = [directory / name for name in (STEPS_LOG, EPOCHS_LOG)]
    report = Report(
        config=config,
        is_finished=saved["step"] == "done",
        rows=rows,
        latencies=latencies,
        digests={
            log.name: hashlib.sha256(log.read_bytes()).hexdigest() for log in logs if log.exists()
        },
    )
    write_whole(directory / "report.json", json.dumps(asdict(report), indent=1).encode())
    write_whole(directory / "report.md", to_markdown(report).encode())
    draw(report, directory / "report.png")
    return report


def _digest_of(row: Row) -> str:
    return hashlib.sha256(to_lines([row])).hexdigest()


def _read_latencies(path: Path, rows: Sequence[Row]) -> dict[str, Latency]:
    """The latencies in the file that belong to exactly these rows. Raises UnreadableRunError."""
    found = {}
    try:
        told = json.loads(path.read_text())
        for row in rows:
            each = dict(told.get(row["step"], {}))
            if each.pop("row", None) == _digest_of(row):
                found[row["step"]] = Latency(**each)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableRunError(
            f"{path} can't be read: {error}", hint="remove it, and name the service again"
        ) from error
    return found


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


def to_markdown(report: Report) -> str:
    """The report as Markdown: the table, and notes on how its numbers were measured."""
    config = report.config
    lines = [
        f"# Grow-and-prune on {config['corpus']}, preset {config['preset']}",
        "",
        "| step | dims | recurrent parameters | density | perplexity (validation) | (test) |"
        f" latency, {config['latency_steps']} words, batch {config['latency_batch']} | of (a)'s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        latency = report.latencies.get(row["step"])
        density = f"{row['density']:.1%}" if "density" in row else "dense"
        cells = [
            NAMES[row["step"]],
            " / ".join(map(str, row["dims"])),
            f"{row['recurrent_parameters']:,}",
            density,
            f"{row['valid_perplexity']:.2f}",
            f"{row['test_perplexity']:.2f}",
            "not measured" if latency is None else _format_latency(latency),
            "" if latency is None or latency.ratio is None else f"{latency.ratio:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_notes(report)]
    return "\n".join(lines) + "\n"


def _format_latency(latency: Latency) -> str:
    text = f"{latency.latency_s * 1e3:.3f} ms"
    if latency.low_s is not None and latency.high_s is not None:
        text += f" ({latency.low_s * 1e3:.3f} to {latency.high_s * 1e3:.3f})"
    return text


def _notes(report: Report) -> list[str]:
    config = report.config
    notes = [] if report.is_finished else ["- The run has not ended yet."]
    if report.latencies:
        one = next(iter(report.latencies.values()))
        hosts = sorted({each.host for each in report.latencies.values()})
        notes += [
            f"- Latencies: of dense networks of these dims, by the service on host"
            f" {', '.join(hosts)}, {one.measured_at}, platform {one.platform} ({one.device});"
            " medians with 95 % intervals."
            " Each step's dims were measured in one sweep with those of step (a): compare the"
            " ratios. The baseline was measured in its own sweep: a difference of a few percent"
            " between it and the steps may come from changes of the host."
            + (
                " On this route, (d) was measured with sparse kernels, in its own sweep,"
                " at its sparsity and with zeros at random places."
                if find_route(config["route"], report.rows) == "sparse"
                else ""
            ),
            "- Curves: "
            + "; ".join(
                f"{step} {', '.join(each.curves)}" for step, each in report.latencies.items()
            )
            + ".",
        ]
    notes += _tell_origin(report.rows[0])
    for row in report.rows:
        if "route" in row:
            reached = [each["density"] for each in report.rows if each["step"] == "weights"]
            notes.append(_tell_route(row["route"], reached))
        if "threshold" in row:
            kept = "kept" if row["kept_threshold"] else "NOT kept"
            notes.append(
                f"- {NAMES[row['step']]}: {row['rounds_accepted']} of {row['rounds']} rounds"
                f" accepted; the threshold of {row['threshold']:.2f},"
                f" {row.get('threshold_of', 'of an earlier version')}, was {kept}."
            )
        if "answer" in row:
            notes.append(f"- {NAMES['lhp']}: {_tell_answer(row['answer'])}")
    own = [row for row in report.rows if "taken_from" not in row]
    notes.append(
        f"- Training took {sum(row['seconds'] for row in own) / 60:.1f} minutes or more: for a"
        " step that was resumed, only the time after that counts."
    )
    changed = ", ".join(f"{name}={value}" for name, value in report.config.items())
    notes.append(f"- Configuration: {changed}.")
    notes += [f"- SHA-256 of {name}: {digest}" for name, digest in report.digests.items()]
    return notes


def _tell_origin(row: Row) -> list[str]:
    """The note on the run that the first steps come from, if it is another one."""
    if "taken_from" not in row:
        return []
    origin = row["taken_from"]
    logs = "; ".join(
        f"the first {origin[name]['lines']} lines of its {name} have SHA-256"
        f" {origin[name]['sha256']}"
        for name in (STEPS_LOG, EPOCHS_LOG)
    )
    return [
        f"- The baseline and (a) were not trained anew, but taken from the run"
        f" `{origin['run']}`: {logs}."
    ]


def _tell_route(route: Mapping[str, Any], densities: Sequence[float]) -> str:
    """The note on how a measured route was chosen, and which sparsity was expected and reached."""
    text = f"- Route: {route['chosen']}. One round of (d) was expected to leave"
    text += f" {route['expected_sparsity']:.1%} zeros"
    if route["products"] is None:
        text += "; no service said from which sparsity on sparse kernels are faster"
    for each in route["products"] or ():
        share = each["sparsity_interval"][1]
        text += (
            f"; {' × '.join(map(str, each['dims']))} at batch {each['batch']} is confidently faster"
            f" sparse than {each['best']}"
            f" {'at no sparsity' if share is None else f'from {share:.0%} on'}"
            f" (curve {each['curve']}{', stale' if each['stale'] else ''})"
        )
    return text + "".join(f". (d) left {1 - each:.1%}" for each in densities) + "."


def _tell_answer(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "skipped, because no service answered."
    low, high = answer["speedup_interval"]
    return (
        f"asked for {answer['dims']}, the {answer['source']} answered {answer['lhp']}"
        f" ({answer['verdict']}): {answer['speedup']:.4f} times as fast (95 % interval"
        f" {low:.4f} to {high:.4f}; {answer['latency_s'] * 1e3:.3f} ms against"
        f" {answer['lhp_latency_s'] * 1e3:.3f} ms), curve {answer['curve']}"
        f"{', stale' if answer['stale'] else ''}, platform {answer['platform']}."
    )


def draw(report: Report, path: Path) -> None:
    """Writes the picture: perplexity and latency over the number of parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2 if report.latencies else 1, squeeze=False)[0]
    for row in report.rows:
        name = NAMES[row["step"]]
        axes[0].plot(row["recurrent_parameters"], row["valid_perplexity"], "o", label=name)
    axes[0].set(xscale="log", xlabel="recurrent parameters", ylabel="validation perplexity")
    axes[0].legend(fontsize="small")
    if report.latencies:
        for row in report.rows:
            latency = report.latencies.get(row["step"])
            if latency is not None:
                axes[1].plot(latency.latency_s * 1e3, row["valid_perplexity"], "o")
        axes[1].set(xlabel="latency of the dense network, ms", ylabel="validation perplexity")
    figure.savefig(path, dpi=120)
