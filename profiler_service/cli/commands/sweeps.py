"""`lhp sweep`, `sweeps` and `cancel`: measuring whole grids, and what is being measured.

Uses HTTP only through the client. Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.command_name import command_name
from profiler_service.cli.options import (
    BackendOption,
    BatchOption,
    BudgetOption,
    CallableOption,
    DtypeOption,
    HostOption,
    JsonOption,
    LabelOption,
    ParamOption,
    UrlOption,
    VaryOption,
    read_parameters,
    refuse_with_callable,
)
from profiler_service.cli.terminal import (
    make_console,
    make_table,
    open_client,
    print_json,
    print_table,
    say,
    show,
)
from profiler_service.errors import InvalidRequestError
from profiler_service.processes.exit_codes import DONE, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from profiler_service.cli.asking import SweepOutcome
    from profiler_service.client import ServiceClient


def sweep(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="Kind of workload: `lhp workloads` lists them. With --callable, an argument.",
        ),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RANGE",
            help="FIRST:LAST, FIRST:LAST:STEP or one size. One range for each axis of the kind,"
            " in the order of `lhp workloads`, separated by spaces. With --callable, NAME=RANGE or"
            " NAME=NUMBER for each argument of the function.",
        ),
    ] = None,
    own_code: CallableOption = None,
    vary: VaryOption = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    budget: BudgetOption = None,
    host: HostOption = None,
    label: LabelOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the sweep and don't wait for it.")
    ] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Measure every point of a grid: `lhp sweep matmul 256:512`.

    A kind with several axes takes one range for each: `lhp sweep linear 1190:1210 310:330:2`.
    Ctrl-C stops the sweep and keeps the points measured so far. With --label, every host that has
    the label measures the grid.

    With --callable, this command measures a function of your own on this machine:
    `lhp sweep --callable my_models:build hidden=256:512 layers=6`. The service keeps the curve.
    """
    if own_code is not None:
        refuse_with_callable(
            vary=vary, batch=batch, dtype=dtype, backend=backend, host=host, label=label
        )
        refuse_with_callable(detach=detach)
        words = [] if kind is None else [kind, *(ranges or ())]
        _sweep_own(own_code, words, param, budget=budget, url=url, json=json)
        return
    if kind is None or not ranges:
        missing = "KIND" if kind is None else "RANGE..."
        raise InvalidRequestError(
            f"missing argument '{missing}'", hint="`lhp sweep --help` says what it takes"
        )

    from pydantic import ValidationError

    from profiler_service.cli.asking import run_sweep
    from profiler_service.wire import SweepRequest, parse_range

    try:
        request = SweepRequest(
            workload=kind,
            params=read_parameters(
                vary=vary, batch=batch, dtype=dtype, backend=backend, pairs=param
            ),
            axes=[parse_range(text) for text in ranges],
            host=host,
            budget=budget,
        )
    except ValidationError as error:
        raise InvalidRequestError(
            f"{len(ranges)} ranges are too many", hint="give one range for each axis"
        ) from error
    if label is not None:
        from profiler_service.cli.fleet_sweeps import run_fleet_sweep

        if (code := run_fleet_sweep(request, label, url=url, detach=detach, json=json)) != DONE:
            raise typer.Exit(code)
        return
    with open_client(url) as client:
        if detach:
            started, _ = client.create_sweep(request)
            if json:
                print_json(started)
            else:
                show(f"sweep {started.id} is {started.state} on {started.host}")
                say(
                    "hint: the same command without --detach follows it,"
                    f" `lhp cancel {started.id}` stops it"
                )
            return
        outcome = run_sweep(client, request, console=make_console())
        if json:
            print_json(outcome.sweep)
        else:
            report_outcome(client, outcome)
    exit_unless_done(outcome)


def _sweep_own(
    function: str,
    words: Sequence[str],
    param: list[str] | None,
    *,
    budget: float | None,
    url: str | None,
    json: bool,
) -> None:
    from profiler_service.cli.own_code import read_sweep, run_own_sweep
    from profiler_service.cli.text import parse_params

    spec = read_sweep(function, words, parse_params(param or ()), budget_s=budget)
    with open_client(url) as client:
        outcome = run_own_sweep(client, spec, console=make_console())
        if json:
            print_json(outcome.sweep)
        else:
            report_outcome(client, outcome)
    exit_unless_done(outcome)


def exit_unless_done(outcome: SweepOutcome) -> None:
    """Returns if the sweep is done. Raises typer.Exit."""
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if outcome.sweep.state != "done":
        raise typer.Exit(FAILED)


def report_outcome(client: ServiceClient, outcome: SweepOutcome) -> None:
    """Prints how the sweep ended, and sums up its curve."""
    from profiler_service.cli.text import describe_curve

    sweep = outcome.sweep
    if sweep.state == "failed":
        say(f"error: sweep {sweep.id} failed: {sweep.error}")
    elif sweep.state in ("queued", "running"):
        say(f"sweep {sweep.id} is still {sweep.state}")
        say(f"hint: the same command follows it, `lhp cancel {sweep.id}` stops it")
    elif sweep.state == "cancelled":
        kept = "its measured points are kept" if sweep.curve else "it had measured nothing"
        say(f"sweep {sweep.id} was cancelled: {kept}")
    if sweep.curve:
        header = client.get_curve_header(sweep.curve, host=sweep.host)
        show(*describe_curve(header).splitlines())
        show(f"plot it: {command_name()} plot {sweep.curve}")


def sweeps(
    sweep_id: Annotated[
        str | None,
        typer.Argument(metavar="SWEEP", help="Id of a sweep, or its beginning, to show only it."),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only this state: queued, running, done, cancelled or failed."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Only this mode: race, survey, nearest, largest, grid or kernels."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Only sweeps of this host.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of sweeps to list.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor that the previous page printed.")
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List the sweeps, newest first, also those of questions; or show one and what is ahead."""
    from profiler_service.cli.text import describe_sweep, sweep_row

    now = dt.datetime.now(dt.UTC)
    if sweep_id is not None:
        with open_client(url) as client:
            found = client.get_sweep(sweep_id)
        if json:
            print_json(found)
        else:
            show(*describe_sweep(found, now).splitlines())
        return

    filters = {"state": state, "mode": mode, "host": host}
    given = {name: value for name, value in filters.items() if value is not None}
    paging = {} if cursor is None else {"cursor": cursor}
    with open_client(url) as client:
        page = client.list_sweeps({**given, **paging, "limit": limit})
    if json:
        print_json(page)
        return
    if not page.items:
        say("no sweep is like that: `lhp sweeps` lists them all" if given else "no sweeps yet")
        return
    table = make_table(
        *("ID", "STATE", "DONE", "AHEAD", "MODE", "WORKLOAD", "RANGES", "HOST", "AGE")
    )
    for each in page.items:
        table.add_row(*sweep_row(each, now))
    print_table(table)
    if page.next_cursor:
        say(f"more: add --cursor {page.next_cursor}")


def cancel(
    sweep_id: Annotated[
        str, typer.Argument(metavar="SWEEP", help="Id of a sweep, or its beginning.")
    ],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Stop a sweep that is queued or running. The points measured so far are kept."""
    with open_client(url) as client:
        sweep = client.cancel_sweep(sweep_id)
    if json:
        print_json(sweep)
    elif sweep.state == "cancelled":
        show(f"sweep {sweep.id} is cancelled")
    elif sweep.cancel_requested:
        show(f"sweep {sweep.id} ends after its current batch; its measured points are kept")
