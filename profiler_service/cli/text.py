"""Reads parameters as people type them, and writes answers as people read them.

Pure. Knows neither HTTP nor terminals.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from profiler_service.errors import InvalidRequestError
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plots.text import format_redundancy, format_undecided
from profiler_service.printable import printable
from profiler_service.wire import (
    CrossoverAnswer,
    CurveInfo,
    EvidenceInfo,
    FactInfo,
    LhpAnswer,
    RepeatabilityInfo,
    SweepInfo,
)
from profiler_service.wording import (
    format_age,
    format_dims,
    format_range,
    format_ratio,
    format_seconds,
)


def describe_separators(dims: str) -> str:
    """How dims such as `1,197` are read, which may be meant as one number; empty for others.

    A number from 100 up before the comma is a common dimension (`512,768`), and says nothing.
    """
    if re.fullmatch(r"[1-9][0-9]?(,[0-9]{3})+", dims) is None:
        return ""
    count = dims.count(",") + 1
    return (
        f"note: {dims} is read as {count} dimensions, {dims.replace(',', ' and ')};"
        f" the number {dims.replace(',', '')} is written without commas"
    )


def parse_params(pairs: Sequence[str]) -> dict[str, str]:
    """Parameters by name from texts such as `dtype=bfloat16`.

    The service checks the values, because it knows the workload. Raises InvalidRequestError
    for a text that is no pair, or a name given twice.
    """
    params: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InvalidRequestError(
                f"{pair[:80]!r} is no parameter", hint="write --param NAME=VALUE: --param batch=32"
            )
        if name in params:
            raise InvalidRequestError(f"parameter {name!r} is given twice", hint="give it once")
        params[name] = value
    return params


def describe_answer(answer: LhpAnswer, now: dt.datetime, *, mode: Mode | None = None) -> str:
    """The answer in a few short lines for people.

    `mode` is the mode of the answer's curve: only a grid sweep has compared every larger point.
    """
    asked, best = format_dims(answer.dims), format_dims(answer.lhp)
    if answer.lhp != answer.dims and answer.verdict != "faster":
        high, low = (100 * (1 / ratio - 1) for ratio in answer.speedup_interval)
        lines = [
            f"{best}  at most {100 * answer.slack:g} % slower than {asked}"
            f" (95 % interval {low:+.1f} to {high:+.1f} %), grow by {format_dims(answer.grow_by)}",
            f"{format_seconds(answer.lhp_latency_s)} instead of {format_seconds(answer.latency_s)}",
        ]
    elif answer.lhp != answer.dims:
        percent, low, high = (
            100 * (ratio - 1) for ratio in (answer.speedup, *answer.speedup_interval)
        )
        lines = [
            f"{best}  {percent:.1f} % faster than {asked}"
            f" (95 % interval {low:.1f} to {high:.1f} %), grow by {format_dims(answer.grow_by)}",
            f"{format_seconds(answer.lhp_latency_s)} instead of {format_seconds(answer.latency_s)}",
        ]
    elif answer.cut_short:
        lines = [
            f"{asked}  keep it: the budget ended before anything larger could be judged",
            format_seconds(answer.latency_s),
        ]
    elif answer.is_lhp and mode is not None and MODES[mode].decides_every_point:
        lines = [
            f"{asked}  keep it: it is an LHP, every larger point is slower",
            format_seconds(answer.latency_s),
        ]
    elif answer.is_lhp:
        lines = [
            f"{asked}  keep it: the best larger rival found is slower",
            format_seconds(answer.latency_s),
        ]
    elif answer.slack:
        lines = [
            f"{asked}  keep it: nothing larger is confidently at most {100 * answer.slack:g} %"
            " slower",
            format_seconds(answer.latency_s),
        ]
    else:
        lines = [
            f"{asked}  keep it: nothing larger is confidently faster",
            format_seconds(answer.latency_s),
        ]
    lines[-1] += (
        f" · {answer.workload} on {answer.host}"
        f" · measured {format_age(answer.measured_at, now)} · curve {answer.curve}"
    )
    if answer.evidence.settled is not None:
        lines.append(_describe_margin(answer))
    if answer.why:
        lines.append(f"why: {answer.why}")
    if answer.edge:
        lines.append(f"{best} ends the window: a larger --max-growth may find something better")
    if answer.contradicts:
        count = len(answer.contradicts)
        facts = "an earlier fact" if count == 1 else f"{count} earlier facts"
        lines.append(f"{facts} said otherwise: `lhp facts --dims {asked}` lists them")
    if answer.evidence.confirmations is not None:
        lines.append(_describe_race(answer.evidence))
    if (faster := answer.faster_backend) is not None:
        percent, low, high = (
            100 * (ratio - 1) for ratio in (faster.speedup, *faster.speedup_interval)
        )
        lines.append(
            f"another kernel is {percent:.0f} % faster at {asked} (95 % interval {low:.0f} to"
            f" {high:.0f} %): --backend {faster.backend}"
        )
    elif answer.comparing_backends:
        lines.append("other kernels are compared in the background: ask again in a few seconds")
    lines += answer.caveats
    if answer.stale:
        lines.append(_describe_staleness(answer))
    return "\n".join(map(printable, lines))


def _describe_margin(answer: LhpAnswer) -> str:
    """Whether the answer is settled, in plain words."""
    if answer.prefer != "fastest":
        return _describe_risk(answer)
    if answer.margin is None:
        return "not settled: it isn't known how much faster anything else in this window may be"
    margin = f"{100 * answer.margin:.1f} % faster (95 %)"
    if not answer.settled:
        return (
            f"not settled: something larger in this window may be up to {margin};"
            " a larger --settle goes on for longer"
        )
    text = f"settled: nothing larger in this window is more than {margin}"
    if answer.unseen_risk is not None:
        chance = f"{100 * answer.unseen_risk:.0f}" if answer.unseen_risk >= 0.01 else "below 1"
        text += f"; that something never compared is: {chance} % by the model"
    return text


def _describe_risk(answer: LhpAnswer) -> str:
    """Whether the nearest or the largest is settled, in plain words."""
    nearer = "nearer" if answer.prefer == "nearest" else "larger"
    text = "settled" if answer.settled else "not settled: a larger --settle goes on for longer"
    if answer.unseen_risk is None:
        return text
    chance = f"{100 * answer.unseen_risk:.0f}" if answer.unseen_risk >= 0.01 else "below 1"
    return f"{text}; that something {nearer} is no slower: {chance} % by the model"


def _describe_staleness(answer: LhpAnswer | CrossoverAnswer) -> str:
    because = f" ({'; '.join(answer.stale_because)})" if answer.stale_because else ""
    return (
        f"stale: the host's platform, or its way of timing, has changed since{because}; this"
        f" describes platform {answer.platform}"
    )


def _describe_race(evidence: EvidenceInfo) -> str:
    return (
        f"a race of {evidence.calls or 0:,} calls in {format_seconds(evidence.seconds or 0.0)}:"
        f" {evidence.candidates or 0:,} larger points seen,"
        f" {evidence.confirmations or 0:,} pairs to confirm"
    )


def describe_crossover(answer: CrossoverAnswer, now: dt.datetime) -> str:
    """The answer in a few short lines for people: the verdict, then each dense kernel's."""
    layer = f"{format_dims(answer.dims)} at batch {answer.batch} in {answer.dtype}"
    if answer.bias == "yes":
        layer += " with bias"
    if answer.sparsity is None:
        verdict = f"never: not even at 99 % zeros is csr faster than {answer.best}, the best dense"
    elif answer.sparsity == 0:
        verdict = f"always: csr is faster than {answer.best}, the best dense, even without zeros"
    else:
        verdict = f"from {_percent(answer.sparsity)} zeros on csr is faster than {answer.best}"
        verdict += f", the best dense ({_percents(answer.sparsity_interval)})"
    lines = [f"{layer}: {verdict}"]
    for kernel in answer.kernels:
        since = "never" if kernel.sparsity is None else f"from {_percent(kernel.sparsity)} on"
        lines.append(
            f"  {kernel.backend:<8}  {format_seconds(kernel.latency_s):>8}  csr faster {since}"
            f" ({_percents(kernel.sparsity_interval)})"
        )
    lines += [f"  {name:<8}  failed: {reason}" for name, reason in answer.failures.items()]
    lines.append(
        f"on {answer.host} · measured {format_age(answer.measured_at, now)} · curve {answer.curve}"
    )
    lines += answer.caveats
    if answer.stale:
        lines.append(_describe_staleness(answer))
    return "\n".join(map(printable, lines))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _percents(interval: tuple[float | None, float | None]) -> str:
    low, high = (None if share is None else f"{100 * share:.0f}" for share in interval)
    if low is None:
        return "95 % interval above 99 %"
    return f"95 % interval {low} to {high} %" if high else f"95 % interval {low} % to never"


def describe_curve(curve: CurveInfo) -> str:
    """The curve in two short lines for people."""
    ranges = " × ".join(
        f"{name} {format_range(axis)}"
        for name, axis in zip(curve.axis_names, curve.axes, strict=True)
    )
    measured = f"{curve.num_measured} of {curve.num_points} points measured"
    if curve.num_failures:
        measured += f", {curve.num_failures} failed"
    if MODES[curve.mode].decides_every_point:
        found = f"{curve.num_lhps} LHPs, {format_undecided(curve)} undecided"
        found += f", redundancy {format_redundancy(curve)}"
    elif MODES[curve.mode].is_race:
        asked = format_dims([axis.first for axis in curve.axes])
        prefer = MODES[curve.mode].prefer
        if prefer == "fastest":
            found = f"in a {curve.mode} for {asked}"
        else:
            found = f"in a search for the {prefer} no slower than {asked}"
    else:
        found = "each of them a kernel of one product"
    heading = f"curve {curve.id}: {curve.workload}, {ranges}, on {curve.host}"
    return "\n".join(map(printable, (heading, f"{measured}, {found}")))


def sweep_row(sweep: SweepInfo, now: dt.datetime) -> tuple[str, ...]:
    """The sweep as a row of `lhp sweeps`."""
    return (
        sweep.id,
        sweep.state + (", cancelling" if sweep.cancel_requested and not sweep.is_final else ""),
        "–" if sweep.progress is None else f"{sweep.progress.fraction:.0%}",
        "–" if sweep.ahead is None else str(sweep.ahead),
        sweep.mode,
        sweep.workload,
        " ".join(map(format_range, sweep.axes)),
        sweep.host,
        format_age(sweep.created_at, now),
    )


def describe_sweep(sweep: SweepInfo, now: dt.datetime) -> str:
    """The sweep in a few short lines for people: what it measures, and how far it is."""
    ranges = " × ".join(map(format_range, sweep.axes))
    state = "paused" if sweep.error and sweep.state == "running" else sweep.state
    lines = [
        f"sweep {sweep.id}: {sweep.mode} of {sweep.workload}, {ranges}, on {sweep.host}",
        f"{state}{f': {sweep.error}' if sweep.error else ''}"
        f" · asked for {format_age(sweep.created_at, now)}",
    ]
    if (done := sweep.progress) is not None:
        lines.append(
            f"{done.fraction:.0%} done, {done.stage}: {done.num_samples:,} samples in"
            f" {format_seconds(done.seconds)}"
        )
    if sweep.cancel_requested and not sweep.is_final:
        lines.append("it was asked to stop, and ends after its current batch")
    if sweep.ahead is not None:
        itself = "" if sweep.expected_s is None else f"; itself about {sweep.expected_s:,.0f} s"
        lines.append((describe_queue(sweep) if sweep.ahead else "nothing is ahead of it") + itself)
    if sweep.curve is not None:
        lines.append(f"curve {sweep.curve}: `lhp curves {sweep.curve}` shows it")
    return "\n".join(map(printable, lines))


def describe_queue(sweep: SweepInfo) -> str:
    """What is measured before the sweep, which may have begun: `behind 2 sweeps, about 12 s`."""
    ahead = "1 sweep" if sweep.ahead == 1 else f"{sweep.ahead:,} sweeps"
    about = "" if sweep.expected_wait_s is None else f", about {sweep.expected_wait_s:,.0f} s"
    return f"behind {ahead}{about}"


def fact_row(fact: FactInfo, now: dt.datetime) -> tuple[str, ...]:
    """The fact as a row of `lhp facts`."""
    ratio, interval = format_ratio(fact.ratio, *fact.ratio_interval)
    return (
        fact.id,
        format_dims(fact.dims),
        format_dims(fact.rival),
        fact.verdict,
        ratio,
        interval,
        str(fact.num_pairs),
        fact.workload,
        fact.host,
        format_age(fact.measured_at, now)
        + (", stale" if fact.stale else "")
        + (", overruled" if fact.overruled_by else ""),
    )


def describe_repeatability(found: RepeatabilityInfo) -> str:
    """In a line: how much ratios of the same pair differ between processes."""
    source = f"{found.num_repeats} repeated pairs" if found.num_repeats else "assumed"
    text = (
        f"{found.workload} on platform {found.platform}: the same ratio differs by"
        f" {100 * found.tau:.2f} % between processes ({source})"
    )
    if found.tau_between_arenas is not None:
        text += f", by {100 * found.tau_between_arenas:.2f} % between arenas"
    return printable(text)
