"""The report of a run as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiler_service.printable import printable
from trainer_client.methods.grow_prune.route import find_route
from trainer_client.report.document import NAMES, Report
from trainer_client.report.step_latencies import Latency
from trainer_client.run.logs import EPOCHS_LOG, STEPS_LOG, Row


def to_markdown(report: Report) -> str:
    """The report as Markdown: the table, and notes on how its numbers were measured."""
    config = report.config
    lines = [
        f"# Grow-and-prune on {config['corpus']}, preset {config['preset']}",
        "",
        "| step | dims | recurrent parameters | density | perplexity (validation) | (test) |"
        f" latency, {config['latency_steps']} words, batch {config['latency_batch']} |"
        " of (a)'s in the same sweep |",
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
            "not measured" if latency is None else _format_latency(latency, report.latencies),
            "" if latency is None else _format_ratio(latency),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_notes(report)]
    return "\n".join(map(printable, lines)) + "\n"


def _format_latency(latency: Latency, latencies: Mapping[str, Latency]) -> str:
    """The latency, if it is of the sweep that (a)'s is of, or of one that (a) has no part in."""
    growth = latencies.get("growth")
    if latency.ratio is not None and (growth is None or latency.curves != growth.curves):
        return "–"
    text = f"{latency.latency_s * 1e3:.3f} ms"
    if latency.low_s is not None and latency.high_s is not None:
        text += f" ({latency.low_s * 1e3:.3f} to {latency.high_s * 1e3:.3f})"
    return text + (", in its own sweep" if latency.ratio is None else "")


def _format_ratio(latency: Latency) -> str:
    if latency.ratio is None:
        return ""
    text = f"{latency.ratio:.3f}"
    if latency.ratio_low is not None and latency.ratio_high is not None:
        text += f" ({latency.ratio_low:.3f} to {latency.ratio_high:.3f})"
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
            " A host may be faster in one sweep than in another. So each ratio comes from one"
            " sweep, which also measured (a). If the milliseconds of (a) are from another sweep,"
            " those of the step are left out (–). Don't compare milliseconds of different sweeps."
            " The interval of a ratio follows from the ends of both medians' intervals."
            + (
                " On this route, (d) was measured with sparse kernels, at its sparsity and with"
                " zeros at random places."
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
        f" {low:.4f} to {high:.4f}), curve {answer['curve']}"
        f"{', stale' if answer['stale'] else ''}, platform {answer['platform']}."
    )
