"""`lhp curves`, `compare`, `facts` and `plot`: what is measured, and how it looks.

Uses HTTP only through the client. Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.options import (
    BackendOption,
    BatchOption,
    DtypeOption,
    JsonOption,
    ParamOption,
    UrlOption,
    read_parameters,
)
from profiler_service.cli.terminal import (
    make_table,
    open_client,
    print_json,
    print_table,
    say,
    show,
)
from profiler_service.errors import InvalidRequestError
from profiler_service.plan.modes import MODES
from profiler_service.printable import file_name

if TYPE_CHECKING:
    from profiler_service.wire import CurveDetail


def curves(
    curve_id: Annotated[
        str | None,
        typer.Argument(
            metavar="CURVE",
            help="Id of a curve, or its beginning, to list its undecided points.",
        ),
    ] = None,
    workload: Annotated[str | None, typer.Option(help="Only this kind of workload.")] = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    mode: Annotated[
        str | None, typer.Option(help="Only this mode of sweep: grid, race, kernels, …")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Only curves measured by this host.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="Only this platform: its key, or the beginning of it.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was measured then or later: 2026-03-01.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what was measured before: 2026-04-01.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Only curves with these words in workload, host, mode or platform."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="kept, measured, workload, host, platform, points, lhps or redundancy; with a"
            " minus before it, the largest or latest first (default: -kept)."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of curves, or undecided points, to list.")
    ] = 20,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor that the previous page printed.")
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List the measured curves, newest first by default; or show one and its undecided points."""
    from profiler_service.plots.text import format_redundancy, format_undecided
    from profiler_service.wording import format_age, format_range

    if curve_id is not None:
        with open_client(url) as client:
            curve = client.get_curve(curve_id)
        if json:
            print_json(curve)
        else:
            _print_curve(curve, limit=limit)
        return

    filters = {
        "workload": workload,
        "mode": mode,
        "host": host,
        "platform": platform,
        "since": since,
        "until": until,
        "search": search,
        **read_parameters(batch=batch, dtype=dtype, backend=backend, pairs=param),
    }
    given = {name: value for name, value in filters.items() if value is not None}
    paging = {"limit": limit, "sort": sort, "cursor": cursor}
    with open_client(url) as client:
        page = client.list_curves(given | {k: v for k, v in paging.items() if v is not None})
    if json:
        print_json(page)
        return
    if not page.items:
        if given:
            say("no curve is like that: `lhp curves` lists them all")
        else:
            say("no curves: measure one with `lhp sweep matmul 256:320`")
        return
    now = dt.datetime.now(dt.UTC)
    table = make_table(
        *("ID", "WORKLOAD", "RANGES", "MODE", "HOST", "POINTS", "LHPS", "UNDECIDED"),
        *("REDUNDANCY", "AGE"),
    )
    for header in page.items:
        table.add_row(
            header.id,
            header.workload,
            " ".join(map(format_range, header.axes)),
            header.mode,
            header.host,
            f"{header.num_measured}/{header.num_points}",
            str(header.num_lhps),
            format_undecided(header),
            format_redundancy(header),
            format_age(header.measured_at, now)
            + (", stale" if header.stale else "")
            + (", disturbed" if header.evidence.disturbed else ""),
        )
    print_table(table)
    if page.next_cursor:
        say(f"more: add --cursor {page.next_cursor}")


def compare(
    curve_ids: Annotated[
        list[str],
        typer.Argument(metavar="CURVE…", help="Ids of two to six curves, or their beginnings."),
    ],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Compare curves of one workload kind with the first of them.

    They may differ in platform, host, time and fixed parameters.
    """
    from profiler_service.wording import format_ratio

    with open_client(url) as client:
        found = client.compare_curves(curve_ids)
    if json:
        print_json(found)
        return
    show(found.finding)
    for difference in found.differs:
        values = ", ".join("–" if value is None else value for value in difference.values)
        show(f"{difference.name}: {values}")
    table = make_table(
        *("CURVE", "LABEL", "RATIO", "95 % INTERVAL", "POINTS", "FASTER", "SLOWER", "UNDECIDED")
    )
    for each in found.curves:
        if (summary := each.summary) is None:
            table.add_row(each.curve.id, each.label, "1", *("–",) * 5)
            continue
        table.add_row(
            each.curve.id,
            each.label,
            *format_ratio(summary.ratio, *summary.ratio_interval),
            *map(str, (summary.num_points, summary.num_faster, summary.num_slower)),
            str(summary.num_undecided),
        )
    print_table(table)
    if found.intervals == "independent":
        say("independent intervals: each curve was measured in a sweep of its own")


def facts(
    workload: Annotated[
        str | None, typer.Option(help="Only this kind of workload: `lhp workloads` lists them.")
    ] = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    dims: Annotated[
        str | None, typer.Option(help="Only what is larger than these dimensions: 1197,317.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Only this verdict: faster, slower or ambiguous.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was measured then or later: 2026-03-01.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Only facts measured by this host.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="Only this platform: its key, or the beginning of it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of facts to list.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor that the previous page printed.")
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List the pairs of points that races confirmed, newest first."""
    from profiler_service.cli.text import describe_repeatability, fact_row

    filters = {
        "workload": workload,
        "dims": dims,
        "verdict": verdict,
        "since": since,
        "host": host,
        "platform": platform,
        **read_parameters(batch=batch, dtype=dtype, backend=backend, pairs=param),
    }
    given = {name: value for name, value in filters.items() if value is not None}
    paging = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
    with open_client(url) as client:
        page = client.list_facts(given | paging)
    if json:
        print_json(page)
        return
    if not page.items:
        say("no fact is like that: `lhp facts` lists them all" if given else "no facts yet")
        return
    now = dt.datetime.now(dt.UTC)
    table = make_table(
        *("ID", "DIMS", "LARGER", "VERDICT", "RATIO", "95 % INTERVAL", "PAIRS"),
        *("WORKLOAD", "HOST", "AGE"),
    )
    for fact in page.items:
        table.add_row(*fact_row(fact, now))
    print_table(table)
    for each in page.repeatability:
        say(describe_repeatability(each))
    if page.next_cursor:
        say(f"more: add --cursor {page.next_cursor}")


def _print_curve(curve: CurveDetail, *, limit: int) -> None:
    """Prints the curve's summary, and up to `limit` undecided points with their rivals."""
    from profiler_service.cli.text import describe_curve
    from profiler_service.wording import format_dims, format_ratio

    show(*describe_curve(curve).splitlines())
    if not MODES[curve.mode].decides_every_point or not curve.num_undecided:
        return
    points = curve.points
    undecided = [n for n, status in enumerate(points.status) if status == "undecided"]
    table = make_table("UNDECIDED", "MAY BE DOMINATED BY", "RATIO", "95 % INTERVAL")
    for n in undecided[:limit]:
        rival = points.rival[n]
        table.add_row(
            format_dims(points.dims[n]),
            "–" if rival is None else format_dims(rival),
            *format_ratio(points.ratio[n], points.ratio_low[n], points.ratio_high[n]),
        )
    print_table(table)
    if len(undecided) > limit:
        say(f"{len(undecided) - limit} more: add --limit {len(undecided)}")


def plot(
    curve_id: Annotated[
        str | None,
        typer.Argument(
            metavar="CURVE", help="Id of a curve, or its beginning (default: the newest)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write: FILE.html, or FILE.png, FILE.svg, FILE.pdf, which need Chrome or"
            " Chromium (default: a page named after the curve).",
            dir_okay=False,
        ),
    ] = None,
    per_flop: Annotated[
        bool, typer.Option("--per-flop", help="Show the time per operation instead of per call.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Use a logarithmic scale for it.")] = False,
    url: UrlOption = None,
) -> None:
    """Draw a curve with its LHPs and hysteresis bins (a heat map for two axes).

    A race's picture also shows which points were dropped, when and why, and how the winner was
    confirmed.
    """
    from profiler_service.errors import ConflictError, NotFoundError
    from profiler_service.plots.files import check_ending, save_plot

    if output is not None:
        check_ending(output)
    with open_client(url) as client:
        if curve_id is None:
            newest = client.list_curves({"limit": 1}).items
            if not newest:
                raise NotFoundError(
                    "there is no curve yet", hint="measure one with `lhp sweep matmul 256:320`"
                )
            curve_id = newest[0].id
        curve = client.get_curve(curve_id)
        platform = client.get_platform(curve.platform)
        race = None
        if MODES[curve.mode].is_race:
            try:
                race = client.get_race(curve.sweep)
            except (ConflictError, InvalidRequestError) as error:
                say(f"the picture doesn't show how the race went: {error}")
    output = output or Path(file_name(f"{curve.workload.partition('[')[0]}-{curve.id}") + ".html")
    save_plot(
        curve,
        output,
        platform=platform,
        race=race,
        view="per_flop" if per_flop else "latency",
        scale="log" if log else "linear",
    )
    show(str(output))
