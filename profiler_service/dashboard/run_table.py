"""What the pages of a training run say: its sentence, and the table of the paper.

Texts of the run's files are made printable here; templates escape them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from profiler_service.dashboard.rendering import count, format_size
from profiler_service.dashboard.run_documents import StepLatency, StepRow
from profiler_service.dashboard.run_folder import TrainingRun
from profiler_service.kinds import workload_kinds
from profiler_service.plots.quantities import format_latency, format_number
from profiler_service.printable import printable

STEPS: Final[Mapping[str, tuple[str, str]]] = {
    "baseline": ("baseline", "baseline: stacked LSTM"),
    "growth": ("(a)", "(a) weight growth"),
    "units": ("(b)", "(b) row/column pruning"),
    "lhp": ("(c)", "(c) row/column growth to the LHP"),
    "weights": ("(d)", "(d) weight pruning"),
}
"""The paper's steps as the trainer names them: how a chart and a table call them."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A step as the table of the paper shows it."""

    name: str
    dims: str
    parameters: str
    density: str
    valid: str
    test: str
    latency: str
    interval: str
    ratio: str
    ratio_interval: str
    note: str


def name_step(step: str) -> str:
    """The step as a table calls it."""
    return STEPS[step][1] if step in STEPS else printable(step)


def shorten_step(step: str) -> str:
    """The step as the axis of a chart calls it."""
    return STEPS[step][0] if step in STEPS else printable(step)[:20]


def name_metric(run: TrainingRun) -> str:
    """The task's metric in words; `metric` if the run names none."""
    return printable(run.metric.replace("_", " ")) or "metric"


def capitalize(text: str) -> str:
    """The text with a large first letter; the others stay as they are: `WER` does."""
    return text[:1].upper() + text[1:]


def format_metric(value: float | None) -> str:
    """The value of a metric with four figures; a dash if it isn't known."""
    return "–" if value is None else format_number(value, 4)


def describe_run(run: TrainingRun) -> str:
    """What the run has reached, as a sentence without a full stop."""
    if not run.steps:
        return "No step has ended yet" if not run.problems else "This run can't be read"
    last = run.steps[-1]
    metric, reached = run.metric, last.measured("valid", run.metric)
    said = f"{capitalize(shorten_step(last.step))} has ended"
    if reached is not None:
        said += f" with a validation {name_metric(run)} of {format_metric(reached)}"
    first = run.steps[0]
    if len(run.steps) == 1 or first.step != "baseline":
        return said
    base = first.measured("valid", metric)
    if reached is not None and base is not None:
        said += f" instead of {format_metric(base)}"
    if first.recurrent_parameters and last.recurrent_parameters is not None:
        share = last.recurrent_parameters / first.recurrent_parameters
        said += f", at {100 * share:.1f} % of the baseline's parameters"
    return said


def tell_state(run: TrainingRun) -> str:
    """Whether the run has ended, in a word or two."""
    if run.is_finished:
        return "finished"
    return "unreadable" if run.problems and not run.steps else "not finished"


def tabulate(run: TrainingRun) -> list[TableRow]:
    """The table of the paper, a row for each step that has ended."""
    latencies = run.latencies
    growth = latencies.get("growth")
    return [_tabulate_step(row, run.metric, latencies.get(row.step), growth) for row in run.steps]


def _tabulate_step(
    row: StepRow, metric: str, latency: StepLatency | None, growth: StepLatency | None
) -> TableRow:
    shown = interval = ratio = ratio_interval = ""
    if latency is not None:
        # Milliseconds of different sweeps aren't comparable: only those of (a)'s sweep are shown,
        # and of sweeps that (a) has no part in.
        is_alone = latency.ratio is None
        if is_alone or growth is None or latency.curves == growth.curves:
            shown = format_latency(latency.latency_s)
            interval = _format_interval(latency.low_s, latency.high_s, format_latency)
            if is_alone:
                interval = ", ".join(filter(None, [interval, "in its own sweep"]))
        if latency.ratio is not None:
            ratio = f"{latency.ratio:.3f}"
            ratio_interval = _format_interval(
                latency.ratio_low, latency.ratio_high, lambda value: f"{value:.3f}"
            )
    return TableRow(
        name=name_step(row.step),
        dims=format_size(row.dims),
        parameters="–" if row.recurrent_parameters is None else f"{row.recurrent_parameters:,}",
        density="dense" if row.density is None else f"{100 * row.density:.1f} %",
        valid=format_metric(row.measured("valid", metric)),
        test=format_metric(row.measured("test", metric)),
        latency=shown or "–",
        interval=interval,
        ratio=ratio or "–",
        ratio_interval=ratio_interval,
        note=_note(row),
    )


def _format_interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def _note(row: StepRow) -> str:
    """What the step did, in words; may be empty."""
    notes = []
    if row.answer is not None:
        asked, best = format_size(row.answer.dims), format_size(row.answer.lhp)
        notes.append(f"asked for {asked}, the service answered {best}")
    if row.rounds is not None and row.rounds_accepted is not None:
        notes.append(f"{row.rounds_accepted} of {count(row.rounds, 'round')} accepted")
    if row.threshold is not None:
        kept = {True: ", kept", False: ", not kept", None: ""}[row.kept_threshold]
        notes.append(f"threshold {format_metric(row.threshold)}{kept}")
    return "; ".join(notes)


def tabulate_epochs(run: TrainingRun) -> list[tuple[str, str, str, str]]:
    """The last epoch of each round: step, epochs so far, metric on validation and training data."""
    ends = [
        (number, row)
        for number, row in enumerate(run.epochs)
        if number + 1 == len(run.epochs)
        or (row.step, row.round) != (run.epochs[number + 1].step, run.epochs[number + 1].round)
    ]
    return [
        (
            name_step(row.step) + (f", round {row.round}" if row.round else ""),
            f"{number + 1:,}",
            format_metric(row.measured("valid", run.metric)),
            format_metric(row.measured("train", run.metric)),
        )
        for number, row in ends
    ]


def describe_call(config: Mapping[str, Any]) -> str:
    """What one measured call was; empty if the report doesn't say it."""
    steps, batch = config.get("latency_steps"), config.get("latency_batch")
    if not isinstance(steps, int) or not isinstance(batch, int):
        return ""
    return f"{count(steps, 'word')}, batch {batch:,}"


def describe_latencies(run: TrainingRun) -> str:
    """Where the latencies come from; empty without any."""
    latencies = run.latencies
    if not latencies:
        return ""
    one = next(iter(latencies.values()))
    hosts = ", ".join(sorted({printable(each.host) for each in latencies.values()}))
    told = [f"on {hosts}", printable(one.device), printable(one.measured_at)]
    return ", ".join(filter(None, told))


def find_axis_names(run: TrainingRun) -> Sequence[str]:
    """What the dims are called: by the workload that the run asked about."""
    for row in run.steps:
        if row.answer is not None:
            kind = workload_kinds().get(row.answer.workload.partition("[")[0])
            if kind is not None and len(kind.axes) == len(row.dims):
                return kind.axes
    return ()


def describe_dims(run: TrainingRun) -> str:
    """How the dims changed, as a sentence without a full stop."""
    if not run.steps:
        return "No step has ended yet"
    first, last = run.steps[0], run.steps[-1]
    if first.dims == last.dims:
        return f"The dims are {format_size(last.dims)}"
    return f"The dims went from {format_size(first.dims)} to {format_size(last.dims)}"
