"""The commands of `lhp`: parse, ask the service (or the library), print.

Knows no HTTP beyond its client, and imports what a command needs only when it runs.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from profiler_service.cli import CANNOT_RUN, FAILED, INTERRUPTED, TRY_LATER, USAGE
from profiler_service.cli.command import as_typed_here, command_name
from profiler_service.errors import (
    InvalidDimsError,
    InvalidRequestError,
    LhpError,
    MeasurementChildDiedError,
    ModelError,
    StoreUnavailableError,
    StoreUnusableError,
    WorkerAlreadyRunningError,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from profiler_service.cli.asking import SweepOutcome
    from profiler_service.cli.client import ServiceClient
    from profiler_service.layers import Layer
    from profiler_service.settings import Settings
    from profiler_service.wire import CurveDetail

MAY_PASS = (WorkerAlreadyRunningError, StoreUnavailableError, MeasurementChildDiedError)
"""What may not keep a worker from running when it is started again."""

app = typer.Typer(
    name="lhp",
    help="Latency hysteresis points: which larger dimension costs no more time than mine?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db, name="db")

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The service to ask [LHP_URL].", metavar="URL"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
HostOption = Annotated[
    str | None, typer.Option(help="Host that measures; the service's own where left out.")
]
BudgetOption = Annotated[
    float | None,
    typer.Option(min=0.001, max=86_400, help="Seconds of measuring to keep to."),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="NAME=VALUE", help="A fixed parameter of the workload; repeatable."
    ),
]
BatchOption = Annotated[int | None, typer.Option(help="Rows of the input (the batch size).")]
DtypeOption = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
BackendOption = Annotated[
    str | None, typer.Option(help="Which kernel runs: dense, packed, compiled or csr.")
]


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line `arguments` (of this process where left out).

    Errors are printed on stderr.
    """
    try:
        app(args=arguments, prog_name="lhp")
    except LhpError as error:
        _print_error(error)
        return USAGE if isinstance(error, InvalidRequestError) else FAILED
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else FAILED
    return 0


def _print_error(error: LhpError) -> None:
    _say(f"error: {error}")
    if error.hint:
        _say(f"hint: {error.hint}")


def _say(line: str) -> None:
    """Prints one line for people on stderr, brackets and all."""
    typer.echo(as_typed_here(line), err=True)


def _print_json(value: BaseModel | Sequence[BaseModel] | Mapping[str, object]) -> None:
    from pydantic_core import to_json

    typer.echo(to_json(value, indent=2))


def load_settings() -> Settings:
    """The settings from the environment. Raises InvalidRequestError naming what is wrong."""
    from pydantic import ValidationError

    from profiler_service.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = "LHP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidRequestError(
            f"{name}={first['input']!r}: {first['msg'].removeprefix('Value error, ')}",
            hint=f"correct or unset {name}",
        ) from error


def service_url(settings: Settings, given: str | None) -> str:
    """The service's address: as `given`, from LHP_URL, or where `lhp serve` would listen."""
    if given:
        return given
    if "url" in settings.model_fields_set or not settings.port:
        return settings.url
    host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    return f"http://{host}:{settings.port}"


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"lhp {importlib.metadata.version('lhp')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# Running the service


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="Address to listen on [LHP_LISTEN].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any free one [LHP_PORT].")
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Measure on this machine, too.")
    ] = True,
) -> None:
    """Run the service, and a worker that measures on this machine."""
    from profiler_service.cli.serve import run_service

    settings = load_settings()
    overrides = {k: v for k, v in (("listen", listen), ("port", port)) if v is not None}
    raise typer.Exit(run_service(settings.model_copy(update=overrides), with_worker=worker))


@app.command()
def worker(
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure on this machine what the database's sweeps ask of it, until stopped."""
    from profiler_service.cli.serve import (
        configure_logging,
        end_when_stdin_closes,
        prepare_database,
        run_worker_alone,
    )

    settings = load_settings()
    configure_logging()
    if until_stdin_closes:
        end_when_stdin_closes()
    from profiler_service.worker import run as run_worker

    try:
        if until_stdin_closes:
            # Whoever holds the other end of stdin has prepared the database.
            run_worker_alone(settings, run_worker)
        else:
            prepare_database(settings)
            run_worker(settings)
    except LhpError as error:
        _print_error(error)
        may_pass = isinstance(error, MAY_PASS) and not isinstance(error, StoreUnusableError)
        raise typer.Exit(TRY_LATER if may_pass else CANNOT_RUN) from error


@db.command()
def upgrade() -> None:
    """Bring the database's schema up to date (makes a new database where there is none)."""
    from profiler_service.cli.serve import upgrade_database

    upgrade_database(load_settings())
    _say("the database is up to date")


# Asking the service


class DimsCommand(typer.core.TyperCommand):
    """A command whose arguments are dims: one that begins with a minus is no unknown option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuses negative dims. Raises InvalidDimsError."""
        for before, text in itertools.pairwise(["", *args]):
            if re.match("-[0-9]", text) and not before.startswith("-"):
                raise InvalidDimsError(
                    f"{text!r} is negative", hint="dims are whole numbers from 1 up: 1197,317"
                )
        return super().parse_args(ctx, args)


@app.command(cls=DimsCommand)
def query(
    dims: Annotated[str, typer.Argument(metavar="DIMS", help="The dimensions you have: 1197,317")],
    workload: Annotated[str, typer.Option(help="Kind of workload.")] = "linear",
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    prefer: Annotated[
        str, typer.Option(help="fastest, nearest or largest of what costs no more.")
    ] = "fastest",
    effort: Annotated[
        str, typer.Option(help="quick looks at a sample of the window, thorough at every point.")
    ] = "quick",
    max_growth: Annotated[
        float | None, typer.Option(help="How far to look, as a share of each dimension.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait where it must be measured first.")
    ] = 120,
    budget: BudgetOption = None,
    host: HostOption = None,
    platform: Annotated[
        str | None, typer.Option(help="Key of a platform: see `lhp hosts`.")
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Which larger dimensions cost no more time than DIMS? Measures them first if need be."""
    from profiler_service.cli.asking import ask
    from profiler_service.cli.text import describe_answer, format_dims
    from profiler_service.workload import parse_dims

    request: dict[str, str | int | float] = {
        "dims": format_dims(parse_dims(dims)),
        "workload": workload,
        "prefer": prefer,
        "effort": effort,
    }
    for name, value in (
        ("max_growth", max_growth),
        ("budget", budget),
        ("host", host),
        ("platform", platform),
    ):
        if value is not None:
            request[name] = value
    params = _parameters(batch=batch, dtype=dtype, backend=backend, pairs=param)
    if taken := sorted(
        params.keys() & {*request, "max_growth", "budget", "host", "platform", "wait"}
    ):
        raise InvalidRequestError(
            f"{taken[0]!r} is no parameter of a workload",
            hint="see `lhp query --help` for where it goes",
        )
    with _client(url) as client:
        answer = ask(client, request | params, wait_s=wait, console=_console())
        mode = None
        if answer.is_lhp and not json:
            mode = client.get_curve_header(answer.curve, host=answer.host).mode
    if json:
        _print_json(answer)
    else:
        typer.echo(describe_answer(answer, dt.datetime.now(dt.UTC), mode=mode))


@app.command(cls=DimsCommand)
def crossover(
    dims: Annotated[
        str, typer.Argument(metavar="DIMS", help="out_features,in_features of a layer: 1500,1500")
    ],
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait where it must be measured first.")
    ] = 120,
    host: HostOption = None,
    platform: Annotated[
        str | None, typer.Option(help="Key of a platform: see `lhp hosts`.")
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """From which share of zeros on is a sparse layer of DIMS faster than every dense kernel?"""
    from profiler_service.cli.asking import ask_crossover
    from profiler_service.cli.text import describe_crossover, format_dims
    from profiler_service.workload import parse_dims

    given = {"batch": batch, "dtype": dtype, "host": host, "platform": platform}
    request: dict[str, str | int | float] = {
        "dims": format_dims(parse_dims(dims)),
        **{name: value for name, value in given.items() if value is not None},
    }
    with _client(url) as client:
        answer = ask_crossover(client, request, wait_s=wait, console=_console())
    if json:
        _print_json(answer)
    else:
        typer.echo(describe_crossover(answer, dt.datetime.now(dt.UTC)))


@app.command()
def advise(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="Function of yours that returns a torch model."
        ),
    ],
    example: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Function that returns an input: the model is run on it once, and each layer"
            " asked about at the batch and steps that it has there.",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Batch of every layer, where no example tells.")
    ] = 16,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of LSTM and GRU, where no example tells.")
    ] = 70,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the layer's own if left out.")
    ] = None,
    max_growth: Annotated[
        float | None, typer.Option(help="How far to look, as a share of each dimension.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for each layer that isn't known yet.")
    ] = 120,
    host: HostOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Which larger layers of your own model cost no more? Your code runs here and nowhere else.

    Lists every nn.Linear, nn.LSTM and nn.GRU; only their sizes are sent to the service.
    """
    from profiler_service.cli.advise import HEADINGS, advice_row, advice_to_json
    from profiler_service.cli.advise import advise as ask_about

    layers = _find_layers(model, example, batch=batch, steps=steps, dtype=dtype)
    conditions: dict[str, str | int | float] = {}
    for name, value in (("max_growth", max_growth), ("host", host)):
        if value is not None:
            conditions[name] = value
    with _client(url) as client:
        given = ask_about(client, layers, conditions, wait_s=wait, console=_console())
    if json:
        _print_json({"layers": advice_to_json(given, layers)})
        return
    table = _table(*HEADINGS)
    rows = [advice_row(each) for each in given]
    for row in rows:
        table.add_row(*map(Text, row))
    _print_table(table)
    if any(row[-1].endswith("*") for row in rows):
        _say(
            "* in_features and input_size follow what feeds the layer: grow them only together"
            " with that. Where it stays, `lhp query OUT,IN` answers for the sizes you can have."
        )


def _find_layers(
    model: str, example: str | None, *, batch: int, steps: int, dtype: str | None
) -> list[Layer]:
    """The layers of the user's model. Raises InvalidRequestError, ModelError."""
    try:
        from profiler_service import layers
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(
            "looking into a model needs torch, which isn't installed here",
            hint="pip install 'lhp[measure]', or type this where your model's torch is",
        ) from error
    with layers.importing_from_here():
        return layers.find_layers(
            layers.load_model(model),
            batch=batch,
            steps=steps,
            dtype=dtype,
            example=None if example is None else layers.load_example(example),
        )


@app.command(cls=DimsCommand)
def sweep(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of workload: linear, matmul")],
    ranges: Annotated[
        list[str], typer.Argument(metavar="RANGE", help="FIRST:LAST[:STEP], one an axis")
    ],
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    budget: BudgetOption = None,
    host: HostOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, and don't wait.")] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Measure every point of a grid: `lhp sweep matmul 256:512`. Ctrl-C keeps what was done."""
    from pydantic import ValidationError

    from profiler_service.cli.asking import run_sweep
    from profiler_service.cli.text import parse_range
    from profiler_service.wire import SweepRequest

    try:
        request = SweepRequest(
            workload=kind,
            params=_parameters(batch=batch, dtype=dtype, backend=backend, pairs=param),
            axes=[parse_range(text) for text in ranges],
            host=host,
            budget=budget,
        )
    except ValidationError as error:
        raise InvalidRequestError(
            f"{len(ranges)} ranges are too many", hint="give one range for each axis"
        ) from error
    with _client(url) as client:
        if detach:
            started, _ = client.create_sweep(request)
            if json:
                _print_json(started)
            else:
                typer.echo(f"sweep {started.id} is {started.state} on {started.host}")
                _say(
                    "hint: the same command without --detach follows it,"
                    f" `lhp cancel {started.id}` stops it"
                )
            return
        outcome = run_sweep(client, request, console=_console())
        if json:
            _print_json(outcome.sweep)
        else:
            _report_outcome(client, outcome)
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if outcome.sweep.state != "done":
        raise typer.Exit(FAILED)


def _report_outcome(client: ServiceClient, outcome: SweepOutcome) -> None:
    from profiler_service.cli.text import describe_curve

    sweep = outcome.sweep
    if sweep.state == "failed":
        _say(f"error: sweep {sweep.id} failed: {sweep.error}")
    elif sweep.state in ("queued", "running"):
        _say(f"sweep {sweep.id} is still {sweep.state}")
        _say(f"hint: the same command follows it, `lhp cancel {sweep.id}` stops it")
    elif sweep.state == "cancelled":
        kept = "what it measured is kept" if sweep.curve else "it had measured nothing"
        _say(f"sweep {sweep.id} was cancelled: {kept}")
    if sweep.curve:
        typer.echo(describe_curve(client.get_curve_header(sweep.curve, host=sweep.host)))
        typer.echo(f"plot it: {command_name()} plot {sweep.curve}")


@app.command()
def cancel(
    sweep_id: Annotated[str, typer.Argument(metavar="SWEEP", help="Id of a sweep.")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Stop a sweep that is queued or running; what it has measured is kept."""
    with _client(url) as client:
        sweep = client.cancel_sweep(sweep_id)
    if json:
        _print_json(sweep)
    elif sweep.state == "cancelled":
        typer.echo(f"sweep {sweep.id} is cancelled")
    elif sweep.cancel_requested:
        typer.echo(f"sweep {sweep.id} ends after the batch under way; what it measured is kept")


@app.command()
def curves(
    curve_id: Annotated[
        str | None,
        typer.Argument(
            metavar="CURVE", help="Id of a curve: tells which points it left undecided."
        ),
    ] = None,
    workload: Annotated[str | None, typer.Option(help="Only this kind of workload.")] = None,
    host: Annotated[str | None, typer.Option(help="Only curves measured by this host.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only this platform (its key).")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Most curves, or undecided points, to list.")
    ] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List the curves measured so far, newest first; or sum up one, its ambiguous pairs named."""
    from profiler_service.cli.text import format_age, format_range
    from profiler_service.plot import format_redundancy, format_undecided

    if curve_id is not None:
        with _client(url) as client:
            curve = client.get_curve(curve_id)
        if json:
            _print_json(curve)
        else:
            _print_curve(curve, limit=limit)
        return

    given = {
        "workload": workload,
        "host": host,
        "platform": platform,
        "limit": limit,
        "cursor": cursor,
    }
    with _client(url) as client:
        page = client.list_curves({k: v for k, v in given.items() if v is not None})
    if json:
        _print_json(page)
        return
    if not page.items:
        _say("no curves: measure one with `lhp sweep matmul 256:320`")
        return
    now = dt.datetime.now(dt.UTC)
    table = _table(
        *("ID", "WORKLOAD", "RANGES", "MODE", "HOST", "POINTS", "LHPS", "UNDECIDED"),
        *("REDUNDANCY", "AGE"),
    )
    for header in page.items:
        table.add_row(
            header.id,
            # Brackets are no markup here.
            Text(header.workload),
            " ".join(map(format_range, header.axes)),
            header.mode,
            header.host,
            f"{header.num_measured}/{header.num_points}",
            str(header.num_lhps),
            format_undecided(header),
            format_redundancy(header),
            format_age(header.measured_at, now) + (", stale" if header.stale else ""),
        )
    _print_table(table)
    if page.next_cursor:
        _say(f"more: add --cursor {page.next_cursor}")


def _print_curve(curve: CurveDetail, *, limit: int) -> None:
    """Prints what the curve found, and up to `limit` undecided points with their rivals."""
    from profiler_service.cli.text import describe_curve, format_dims, format_ratio

    typer.echo(describe_curve(curve))
    if curve.mode != "grid" or not curve.num_undecided:
        return
    points = curve.points
    undecided = [n for n, status in enumerate(points.status) if status == "undecided"]
    table = _table("UNDECIDED", "MAY BE DOMINATED BY", "RATIO", "95 % INTERVAL")
    for n in undecided[:limit]:
        rival = points.rival[n]
        table.add_row(
            format_dims(points.dims[n]),
            "–" if rival is None else format_dims(rival),
            *format_ratio(points.ratio[n], points.ratio_low[n], points.ratio_high[n]),
        )
    _print_table(table)
    if len(undecided) > limit:
        _say(f"{len(undecided) - limit} more: add --limit {len(undecided)}")


@app.command()
def plot(
    curve_id: Annotated[
        str | None, typer.Argument(metavar="CURVE", help="Id of a curve; the newest if left out.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write: FILE.png or FILE.html.", dir_okay=False
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Draw a curve with its LHPs and hysteresis bins (a heat map for two axes).

    Of a race, also how it went: who was dropped when and why, and how the winner was confirmed.
    """
    from profiler_service.errors import ConflictError, NotFoundError

    if output is not None and output.suffix.lower() not in (".png", ".html"):
        raise InvalidRequestError(
            f"can't draw into {str(output)!r}", hint="end the file's name with .png or .html"
        )
    with _client(url) as client:
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
        if curve.mode != "grid":
            try:
                race = client.get_race(curve.sweep)
            except ConflictError as error:
                _say(f"drawn without how it went: {error}")
    from profiler_service.plot import save_plot

    output = output or Path(f"{curve.workload.partition('[')[0]}-{curve.id}.png")
    save_plot(curve, output, platform=platform, race=race)
    typer.echo(str(output))


@app.command()
def hosts(url: UrlOption = None, json: JsonOption = False) -> None:
    """List the machines that measure."""
    from profiler_service.cli.text import format_age

    with _client(url) as client:
        listed = client.list_hosts()
        platforms = {platform.key: platform for platform in client.list_platforms()}
    if json:
        _print_json(listed)
        return
    if not listed:
        _say("no hosts: start a worker with `lhp serve` or `lhp worker`")
        return
    now = dt.datetime.now(dt.UTC)
    table = _table("HOST", "STATE", "LAST SEEN", "DEVICE", "THREADS", "DTYPES", "PLATFORM")
    for host in listed:
        platform = platforms[host.platform]
        table.add_row(
            host.name,
            "present" if host.present else "away",
            format_age(host.last_seen_at, now),
            f"{platform.device}: {platform.device_model}",
            str(platform.threads),
            " ".join(host.dtypes),
            host.platform,
        )
    _print_table(table)


@app.command()
def workloads(url: UrlOption = None, json: JsonOption = False) -> None:
    """List what can be measured, with its axes and parameters; and what is left out, and why."""
    with _client(url) as client:
        listed = client.list_workloads()
    if json:
        _print_json(listed)
        return
    table = _table("WORKLOAD", "AXES", "PARAMETERS")
    for kind in listed:
        if not kind.error:
            parameters = " ".join(f"{each.name}={each.default}" for each in kind.parameters)
            table.add_row(kind.name, ",".join(kind.axes), parameters)
    _print_table(table)
    for kind in listed:
        if kind.error:
            _say(f"{kind.name} is left out: {kind.error}")


@app.command()
def doctor(
    seconds: Annotated[
        float, typer.Option(min=0.5, max=3600, help="How long to measure, seconds.")
    ] = 5,
    json: JsonOption = False,
) -> None:
    """Is this machine quiet enough to measure on? Says what to change; exits with 1 if not."""
    from profiler_service.cli.follow import show_progress
    from profiler_service.measurement.doctor import examine

    settings = load_settings()
    with show_progress(_console()) as report:
        report(f"measuring one product for {seconds:g} s")
        diagnosis = examine(
            device=settings.device,
            threads=settings.threads,
            cache=settings.cache,
            seconds=seconds,
        )
    if json:
        _print_json(diagnosis.to_json())
    else:
        table = _table("CHECK", "VERDICT", "FOUND")
        for finding in diagnosis.findings:
            style = {"good": "green", "fair": "yellow", "poor": "red"}[finding.verdict]
            found = finding.value + (f"\n→ {finding.advice}" if finding.advice else "")
            table.add_row(finding.name, Text(finding.verdict, style=style), Text(found))
        _print_table(table)
        verdict = "quiet enough" if diagnosis.quiet_enough else "too noisy"
        typer.echo(
            f"{verdict}: differences from {diagnosis.smallest_effect:.2%} up can be told from noise"
        )
    if not diagnosis.quiet_enough:
        raise typer.Exit(FAILED)


def _parameters(
    *, batch: int | None, dtype: str | None, backend: str | None, pairs: list[str] | None
) -> dict[str, int | str]:
    """The workload's fixed parameters from options and `--param`, each given once."""
    from profiler_service.cli.text import parse_params

    params: dict[str, int | str] = {**parse_params(pairs or ())}
    for name, value in (("batch", batch), ("dtype", dtype), ("backend", backend)):
        if value is None:
            continue
        if name in params:
            raise InvalidRequestError(
                f"parameter {name!r} is given twice", hint=f"drop --{name} or --param {name}=…"
            )
        params[name] = value
    return params


def _client(url: str | None) -> ServiceClient:
    from profiler_service.cli.client import ServiceClient

    return ServiceClient(service_url(load_settings(), url))


def _console() -> Console:
    return Console(stderr=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _print_table(table: Table) -> None:
    console = Console()
    # A pipe has no width: folding to 80 columns there would break lines that scripts read.
    console = console if console.is_terminal else Console(width=10_000)
    console.print(table)
