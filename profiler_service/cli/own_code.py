"""`lhp sweep --callable` and `lhp query --callable`: measures the user's own code, here.

The measuring is that of `processes.own_code`, and the service keeps what was measured. Only the
name of the function is sent.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from profiler_service.cli.asking import SweepOutcome
from profiler_service.cli.posting import Posting
from profiler_service.cli.progress import Report, show_progress
from profiler_service.cli.terminal import load_settings, print_line
from profiler_service.cli.text import parse_params
from profiler_service.client import ServiceClient
from profiler_service.errors import (
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    OwnCodeError,
    UnknownPlatformError,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import CALLABLE
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, RaceTerms, SweepSpec
from profiler_service.plan.window import build_window, read_multiples
from profiler_service.processes.own_code import OwnBench, find_source, measure, open_bench
from profiler_service.settings import Settings
from profiler_service.wire import GridAxisRange, LhpAnswer, parse_range, parse_share
from profiler_service.wording import format_seconds
from profiler_service.workload import Dims, Workload

_TOLD_WAIT_S = 2.0
"""A wait for a turn is shown only after this time: a batch of the worker is shorter."""

_AWAY = "the service doesn't answer, waiting for it"

Params = Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class OwnQuestion:
    """Which larger dims of the user's function cost no more time?"""

    workload: Workload
    dims: Dims
    options: Mapping[str, str | float]
    """Further parameters of `GET /lhp`."""
    spec: SweepSpec
    """The sweep that answers it."""
    is_fresh: bool
    """Whether to measure in any case."""


def read_sweep(
    function: str, words: Sequence[str], params: Params, *, budget_s: float | None
) -> SweepSpec:
    """The grid that `hidden=256:512 layers=6` describes: ranges vary, numbers are fixed.

    Raises InvalidRequestError, InvalidDimsError, InvalidWorkloadError.
    """
    given = _read_words(words, "hidden=256:512")
    ranges = {name: parse_range(text) for name, text in given.items() if ":" in text}
    fixed = {name: text for name, text in given.items() if name not in ranges}
    if not ranges:
        raise InvalidRequestError(
            "no argument of the function varies", hint="give one a range: hidden=256:512"
        )
    workload = _describe(function, [*ranges], {**params, **fixed}, twice=params.keys() & given)
    grid = Grid(axes=tuple(_grid_axis(each) for each in ranges.values()))
    return SweepSpec(workload=workload, mode="grid", grid=grid, budget_s=budget_s)


def read_question(
    function: str,
    words: Sequence[str],
    params: Params,
    options: Mapping[str, str | float],
    *,
    is_fresh: bool,
) -> OwnQuestion:
    """The question that `hidden=300` asks with the `options` of `lhp query`.

    Raises InvalidRequestError, InvalidDimsError, InvalidWorkloadError.
    """
    given = _read_words(words, "hidden=300")
    if ranged := [name for name, text in given.items() if ":" in text]:
        raise InvalidRequestError(
            f"{ranged[0]}={given[ranged[0]]} is a range",
            hint=f"ask about one size: {ranged[0]}=300; `lhp sweep --callable` measures ranges",
        )
    for name, text in given.items():
        if re.fullmatch("[0-9]{1,20}", text) is None:
            raise InvalidRequestError(
                f"{name}={text[:80]} is no size to ask about",
                hint=f"write a whole number from 1 up: {name}=300",
            )
    workload = _describe(function, [*given], params, twice=params.keys() & given)
    dims = workload.check_dims([int(text) for text in given.values()])
    prefer, effort = options["prefer"], options["effort"]
    if prefer not in ("fastest", "nearest", "largest") or effort not in ("quick", "thorough"):
        raise InvalidRequestError(
            f"there is no prefer={prefer} with effort={effort}",
            hint="prefer is fastest, nearest or largest; effort is quick or thorough",
        )
    mode: Mode = "race"
    if prefer == "nearest" or prefer == "largest":
        mode = prefer  # type: ignore[assignment]
    elif effort == "thorough":
        mode = "survey"
    multiple_of = options.get("multiple_of")
    window = build_window(
        workload,
        dims,
        max_growth=float(options.get("max_growth", 0.125)),
        multiple_of=None if multiple_of is None else read_multiples(str(multiple_of), workload),
    )
    budget_s = options.get("budget")
    spec = SweepSpec(
        workload=workload,
        mode=mode,
        grid=window,
        budget_s=None if budget_s is None else float(budget_s),
        terms=_read_terms(options),
    )
    return OwnQuestion(workload=workload, dims=dims, options=options, spec=spec, is_fresh=is_fresh)


def run_own_sweep(client: ServiceClient, spec: SweepSpec, *, console: Console) -> SweepOutcome:
    """The outcome of the sweep, measured here. Ctrl-C ends it and keeps what was measured.

    Raises what `processes.own_code.measure` and the client raise.
    """
    settings = load_settings()
    client.list_platforms()  # no service, or no token: say so before anything is measured
    with show_progress(console) as report, _bench(settings, report) as bench:
        return _measure(client, spec, bench, settings.host, report, console)


def ask_own(
    client: ServiceClient, question: OwnQuestion, *, console: Console
) -> LhpAnswer | SweepOutcome:
    """The answer, measured here unless it is known; or the sweep that Ctrl-C has ended.

    Raises MeasurementFailedError if the function can't be measured at these dims.
    """
    settings = load_settings()
    client.list_platforms()
    with show_progress(console) as report, _bench(settings, report) as bench:
        platform = bench.measurer.platform.key
        answer = None if question.is_fresh else _find(client, question, platform)
        if answer is not None:
            return answer
        outcome = _measure(client, question.spec, bench, settings.host, report, console)
    if outcome.interrupted or outcome.sweep.state != "done":
        return outcome
    answer = _find(client, question, platform, but_not=("max_age",))
    if answer is None:
        wanted = ", ".join(
            f"{name}={dim}" for name, dim in zip(question.workload.axes, question.dims, strict=True)
        )
        raise MeasurementFailedError(
            f"sweep {outcome.sweep.id} could not measure {wanted}",
            hint=f"`lhp curves {outcome.sweep.curve}` lists what failed, and why",
        )
    return answer


def _read_words(words: Sequence[str], example: str) -> dict[str, str]:
    """The arguments by name. Raises InvalidRequestError for a word that isn't one."""
    if not words:
        raise InvalidRequestError("no argument of the function is given", hint=f"add {example}")
    for word in words:
        if "=" not in word:
            raise InvalidRequestError(
                f"{word[:80]!r} names no argument of the function", hint=f"write {example}"
            )
    return parse_params(words)


def _describe(function: str, axes: Sequence[str], fixed: Params, *, twice: set[str]) -> Workload:
    if twice:
        raise InvalidRequestError(
            f"parameter {min(twice)!r} is given twice", hint=f"drop --param {min(twice)}=…"
        )
    with _importing_from_here():
        source = find_source(function)
    own = {"function": function, "source": source, "vary": ",".join(axes)}
    if taken := own.keys() & fixed.keys():
        raise InvalidRequestError(
            f"{min(taken)!r} is no parameter to give", hint="name the function with --callable"
        )
    return CALLABLE.describe({**fixed, **own})


def _grid_axis(range_: GridAxisRange) -> GridAxis:
    count = (range_.last - range_.first) // range_.step + 1
    return GridAxis(first=range_.first, count=count, step=range_.step)


def _read_terms(options: Mapping[str, str | float]) -> RaceTerms:
    """As the service reads them. Raises InvalidRequestError."""
    margin, settle_s, slack = (options.get(name) for name in ("margin", "settle", "slack"))
    is_fastest = options["prefer"] == "fastest"
    if slack is not None and is_fastest:
        raise InvalidRequestError(
            "slack is for the nearest or the largest dims; the fastest need none",
            hint="add --prefer nearest or --prefer largest, or leave --slack out",
        )
    default = RaceTerms()
    return RaceTerms(
        margin=_read_share(str(margin), "margin") if margin and is_fastest else None,
        settle_s=default.settle_s if settle_s is None else float(settle_s),
        slack=default.slack if slack is None else _read_share(str(slack), "slack"),
    )


def _read_share(text: str, name: str) -> float:
    """The share with nine decimals, as it is sent: the service must read the very same number."""
    return parse_share(f"{parse_share(text, name=name):.9f}", name=name)


@contextlib.contextmanager
def _importing_from_here() -> Iterator[None]:
    """In this context, modules of the working directory are found first, also by children."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


@contextlib.contextmanager
def _bench(settings: Settings, report: Report) -> Iterator[OwnBench]:
    report("starting the measuring process")
    with _importing_from_here(), open_bench(settings) as bench:
        yield bench


def _find(
    client: ServiceClient,
    question: OwnQuestion,
    platform: str,
    *,
    but_not: Sequence[str] = (),
) -> LhpAnswer | None:
    """The answer from what the service has stored; None if it can't answer."""
    workload = question.workload
    query = {
        **dict(workload.params),
        **{name: value for name, value in question.options.items() if name not in but_not},
        "dims": ",".join(map(str, question.dims)),
        "workload": workload.kind,
        "platform": platform,
    }
    try:
        return client.ask_lhp(query, wait_s=0)
    except (OwnCodeError, UnknownPlatformError):
        return None


def _measure(
    client: ServiceClient,
    spec: SweepSpec,
    bench: OwnBench,
    machine: str,
    report: Report,
    console: Console,
) -> SweepOutcome:
    """The outcome of the sweep. Raises what `measure` and the client raise, with what is kept."""
    posting = Posting(client, spec, bench, machine, on_away=lambda: report(_AWAY))

    def on_progress(done: Progress) -> None:
        report(done.stage, fraction=done.fraction, rate=f"{done.num_samples} samples")

    def on_wait(pid: int, waited_s: float) -> None:
        if waited_s >= _TOLD_WAIT_S:
            who = f"process {pid}" if pid else "a process of a container"
            report(f"waiting for {who}, which measures, for {format_seconds(waited_s)}")

    interrupted = False
    try:
        is_done = measure(spec, bench, posting.keep, on_progress=on_progress, on_wait=on_wait)
    except KeyboardInterrupt:
        if not posting.is_open:
            print_line(console, "interrupted: nothing was measured yet")
            raise
        print_line(console, "interrupted: ending the sweep and keeping what it measured")
        is_done, interrupted = False, True
    except LhpError as error:
        posting.explain(error)
        raise
    try:
        sweep = posting.end("done" if is_done else "cancelled")
    except LhpError as error:
        posting.explain(error)
        raise
    return SweepOutcome(sweep=sweep, interrupted=interrupted)
