"""`lhp serve`, `worker`, `workloads` and `doctor`: running the service.

Each command imports its packages only when it runs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from profiler_service.cli.command_name import command_name
from profiler_service.cli.explaining import explain
from profiler_service.cli.options import JsonOption, UrlOption
from profiler_service.cli.terminal import (
    load_settings,
    make_console,
    make_table,
    open_client,
    print_error,
    print_json,
    print_table,
    say,
)
from profiler_service.distribution import MissingExtraError
from profiler_service.errors import (
    HostRefusedError,
    InvalidRequestError,
    LhpError,
    MeasurementChildDiedError,
    MeasurementFailedError,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreUnusableError,
)
from profiler_service.processes.exit_codes import CANNOT_RUN, FAILED, TRY_LATER
from profiler_service.standard_streams import OutputError

if TYPE_CHECKING:
    from profiler_service.measurement.diagnosis import Finding
    from profiler_service.processes.keeper_line import Tell
    from profiler_service.settings import Settings

VERDICTS = (
    HostRefusedError,
    InvalidRequestError,
    MissingExtraError,
    MeasurementFailedError,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreUnusableError,
)
"""Errors that say that a worker can't run as this machine is set up. All others may pass."""


def serve(
    listen: Annotated[str | None, typer.Option(help="Address to listen on [LHP_LISTEN].")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port [LHP_PORT]."),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Also measure on this machine.")
    ] = True,
) -> None:
    """Run the service, and a worker that measures on this machine."""
    from profiler_service.processes.serve import run_service

    settings = load_settings()
    overrides = {k: v for k, v in (("listen", listen), ("port", port)) if v is not None}
    settings = settings.model_copy(update=overrides)

    def greet(url: str) -> None:
        try:
            _greet(url, settings)
        except (OutputError, BrokenPipeError) as error:
            # A service that runs is worth more than its greeting.
            say(f"listening on {url}, but {error}")

    raise typer.Exit(run_service(settings, with_worker=worker, greet=greet))


def _greet(url: str, settings: Settings) -> None:
    from profiler_service.storage.database import describe, parse_url

    lhp = ("" if url == settings.url else f"LHP_URL={url} ") + command_name()
    typer.echo(
        f"listening on {url}, keeping curves in {describe(parse_url(settings.database_url))}\n"
        "\n"
        f"open {url} in a browser: ask, and look at curves\n"
        "\n"
        "or, in another terminal:\n"
        f"  {lhp} query 1197,317\n"
        f"  curl '{url}/lhp?dims=1197,317'\n"
        f"  {lhp} sweep matmul 256:320 && {lhp} plot -o curve.png\n"
        f"  {url}/docs describes the HTTP interface\n"
        "\n"
        "Ctrl-C stops the service; measured curves are kept."
    )


def worker(
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure the sweeps that the database has for this machine, until it is stopped."""
    from profiler_service.processes.keeper_line import Told, attach, tell_nobody

    tell = attach() if until_stdin_closes else tell_nobody
    settings = load_settings()
    try:
        settings = _as_joined(settings, is_kept=until_stdin_closes)
        _run_worker(settings, tell, is_kept=until_stdin_closes)
    except Exception as raised:
        error = explain(raised, command="worker")
        if error is None:
            raise
        print_error(error)
        tell(Told(state="ending", reason=f"{error} ({error.hint})" if error.hint else str(error)))
        # A measuring process that died gives no reason; one that refused has given it.
        may_pass = not isinstance(error, VERDICTS) or isinstance(error, MeasurementChildDiedError)
        raise typer.Exit(TRY_LATER if may_pass else CANNOT_RUN) from error


def _as_joined(settings: Settings, *, is_kept: bool) -> Settings:
    """The settings of the host as which this machine has joined, if it has. Joins with a join key.

    A database that somebody has chosen counts more than the credentials of an earlier join, and so
    does that of the service that keeps this worker.
    """
    from profiler_service.cli.commands.joining import join_service
    from profiler_service.processes.credentials import credentials_path, read_credentials

    key = settings.join_key.get_secret_value()
    if not key and (is_kept or "database_url" in settings.model_fields_set):
        return settings
    kept = read_credentials(credentials_path())
    if key and not kept:
        join_service(settings, settings.url, key)
        kept = read_credentials(credentials_path())
    if not kept:
        return settings
    return settings.model_copy(
        update={"database_url": kept["LHP_DATABASE_URL"], "host": kept["LHP_HOST"]}
    )


def _run_worker(settings: Settings, tell: Tell, *, is_kept: bool) -> None:
    from profiler_service.processes.serve import prepare_database
    from profiler_service.processes.supervisor import run_worker_alone
    from profiler_service.telemetry.logs import configure_logging
    from profiler_service.telemetry.traces import traced_as

    configure_logging(settings.log_format)
    from profiler_service.processes.worker import run

    with traced_as("lhp-worker"):
        if is_kept:
            # The service that keeps it has prepared the database.
            run_worker_alone(settings, functools.partial(run, tell=tell), tell)
        else:
            prepare_database(settings)
            run(settings)


def workloads(url: UrlOption = None, json: JsonOption = False) -> None:
    """List the workload kinds with axes and parameters, and those that can't be used here."""
    with open_client(url) as client:
        listed = client.list_workloads()
    if json:
        print_json(listed)
        return
    table = make_table("WORKLOAD", "AXES", "PARAMETERS")
    for kind in listed:
        if not kind.error:
            parameters = " ".join(f"{each.name}={each.default}" for each in kind.parameters)
            table.add_row(kind.name, ",".join(kind.axes), parameters)
    print_table(table)
    for kind in listed:
        if kind.error:
            say(f"{kind.name} is left out: {kind.error}")


def doctor(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds to measure for.")] = 5,
    json: JsonOption = False,
) -> None:
    """Check whether this machine is quiet enough to measure on, and how the service's worker is.

    Says what to change if something is wrong, and exits with 1.
    """
    from profiler_service.cli.progress import show_progress
    from profiler_service.measurement.doctor import examine

    settings = load_settings()
    worker = _examine_worker()
    with show_progress(make_console()) as report:
        report(f"measuring one product for {seconds:g} s")
        try:
            diagnosis = examine(
                device=settings.device,
                threads=settings.threads,
                cache=settings.cache,
                seconds=seconds,
            )
        except LhpError:
            say(f"{worker.name}: {worker.found}")
            raise
    diagnosis = dataclasses.replace(diagnosis, findings=(*diagnosis.findings, worker))
    if json:
        print_json(diagnosis.to_json())
    else:
        table = make_table("CHECK", "VERDICT", "FOUND")
        for finding in diagnosis.findings:
            style = {"good": "green", "fair": "yellow", "poor": "red"}[finding.verdict]
            found = finding.found + (f"\n→ {finding.advice}" if finding.advice else "")
            table.add_row(finding.name, Text(finding.verdict, style=style), Text(found))
        print_table(table)
        verdict = "quiet enough" if diagnosis.quiet_enough else "too noisy"
        typer.echo(
            f"{verdict}: differences of {diagnosis.smallest_effect:.2%} or more are above the noise"
        )
    if not diagnosis.quiet_enough or worker.verdict == "poor":
        raise typer.Exit(FAILED)


def _examine_worker() -> Finding:
    """Whether the service that the commands ask has its own worker, and whether that measures."""
    from profiler_service.measurement.diagnosis import Finding

    try:
        with open_client(None) as client:
            health = client.get_health()
    except LhpError as error:
        # If no service runs yet, that says nothing about the machine.
        return Finding(
            name="worker", value=None, found=str(error), verdict="fair", advice=error.hint
        )
    own = health.worker
    if own is None:
        found = "the service has no worker of its own; `lhp hosts` lists the others"
        return Finding(name="worker", value="none", found=found, verdict="good")
    is_well = not health.detail
    return Finding(
        name="worker",
        value=own.state,
        found=f"{own.host}: {own.state}" if is_well else health.detail,
        verdict="good" if is_well else "fair" if own.state == "starting" else "poor",
        advice="" if is_well else own.hint,
        details={"host": own.host},
    )
