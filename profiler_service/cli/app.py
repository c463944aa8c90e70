"""The command line of `lhp`: its commands and its exit codes.

Doesn't know what the commands do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from profiler_service.cli.commands import curves, machines, questions
from profiler_service.cli.explaining import explain
from profiler_service.cli.options import DimsCommand
from profiler_service.cli.terminal import print_error
from profiler_service.distribution import find_version
from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.processes.exit_codes import FAILED, USAGE


class Commands(typer.core.TyperGroup):
    """The commands of `lhp`. What isn't a defect of the program is raised as an LhpError."""

    def invoke(self, ctx: Any) -> Any:
        """The command's result. Raises MissingExtraError, and the command's own errors."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            explained = explain(error, command=str(ctx.invoked_subcommand))
            if explained is None or explained is error:
                raise
            raise explained from error


app = typer.Typer(
    name="lhp",
    cls=Commands,
    help="Latency hysteresis points: which larger dimension costs no more time than mine?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db, name="db")


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line `arguments` (default: those of this process).

    Errors are printed on stderr.
    """
    try:
        app(args=arguments, prog_name="lhp")
    except LhpError as error:
        print_error(error)
        return USAGE if isinstance(error, InvalidRequestError) else FAILED
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else FAILED
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lhp {find_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(machines.serve)
app.command()(machines.worker)
db.command()(machines.upgrade)
app.command(cls=DimsCommand)(questions.query)
app.command(cls=DimsCommand)(questions.crossover)
app.command()(questions.advise)
app.command(cls=DimsCommand)(curves.sweep)
app.command()(curves.cancel)
app.command()(curves.curves)
app.command()(curves.plot)
app.command()(machines.hosts)
app.command()(machines.workloads)
app.command()(machines.doctor)
