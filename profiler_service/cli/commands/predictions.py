"""`lhp predict`: what a host's model says of a window.

Uses HTTP only through the client. The command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from profiler_service.cli.commands.questions import say_away
from profiler_service.cli.options import (
    BackendOption,
    BatchOption,
    DtypeOption,
    JsonOption,
    LabelOption,
    ParamOption,
    UrlOption,
    VaryOption,
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

MOST_DRAWN = 100_000
"""Most points of a picture: what the service sends at most."""


def predict(
    dims: Annotated[str, typer.Argument(metavar="DIMS", help="The dimensions you have: 1197,317.")],
    workload: Annotated[
        str, typer.Option(help="Kind of workload: `lhp workloads` lists them.")
    ] = "linear",
    vary: VaryOption = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    max_growth: Annotated[
        float | None, typer.Option(help="How far above DIMS to look, as a share of each dimension.")
    ] = None,
    multiple_of: Annotated[
        str | None, typer.Option(help="Only multiples: 64, or for each axis 1,64.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The host whose platform is predicted.")] = None,
    platform: Annotated[
        str | None,
        typer.Option(help="Key of a platform, or its beginning; `lhp hosts` shows it."),
    ] = None,
    label: LabelOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw the landscape: FILE.html, or FILE.png, FILE.svg, FILE.pdf, which need"
            " Chrome or Chromium.",
            dir_okay=False,
        ),
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """What has the host learned of DIMS and of what is larger? Measures nothing.

    Lists the points that are predicted to be fastest, and says what that rests on. `lhp query
    --basis predicted` says which of them to use.
    """
    from profiler_service.cli.predicted import describe_basis, describe_landscape, point_row
    from profiler_service.wording import format_dims
    from profiler_service.workload import parse_dims

    if plot is not None:
        from profiler_service.plots.files import check_ending

        check_ending(plot)
    request: dict[str, str | int | float] = {
        "dims": format_dims(parse_dims(dims)),
        "workload": workload,
        "max_points": 10 if plot is None else MOST_DRAWN,
    }
    options = {"max_growth": max_growth, "multiple_of": multiple_of}
    options |= {"host": host, "platform": platform, "label": label}
    request |= {name: value for name, value in options.items() if value is not None}
    params = read_parameters(vary=vary, batch=batch, dtype=dtype, backend=backend, pairs=param)
    if taken := sorted(params.keys() & {*request, *options}):
        raise InvalidRequestError(
            f"{taken[0]!r} is not a parameter of a workload",
            hint="`lhp predict --help` lists the option for it",
        )
    with open_client(url) as client:
        curve = client.predict_curve(request | params)
    say_away([curve])
    if plot is not None:
        from profiler_service.plots.files import save_figure
        from profiler_service.plots.predicted import predicted_figure

        save_figure(predicted_figure(curve), plot)
    if json:
        print_json(curve)
        return
    show(describe_landscape(curve))
    if curve.best:
        table = make_table("DIMS", "PREDICTED", "95 % INTERVAL", "NO SLOWER")
        for point in curve.best:
            table.add_row(*point_row(point))
        print_table(table)
    show(describe_basis(curve, dt.datetime.now(dt.UTC)), *curve.caveats)
    if plot is not None:
        say(f"drawn into {plot}")
