"""The command line of `lhp`: its commands and its exit codes.

Doesn't know what the commands do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from profiler_service.cli.commands import (
    advise,
    curves,
    database,
    hosts,
    join_keys,
    joining,
    machines,
    predictions,
    questions,
    sweeps,
    tokens,
)
from profiler_service.cli.explaining import explain
from profiler_service.cli.options import DimsCommand
from profiler_service.cli.terminal import print_error, print_json_error
from profiler_service.distribution import find_version
from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.processes.exit_codes import DONE, FAILED, MEANINGS, USAGE


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
    # An empty line between two lines keeps them apart.
    epilog="\n\n".join(["Exit codes:", *(f"{code:>4}  {MEANINGS[code]}" for code in MEANINGS)]),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db, name="db")


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line `arguments` (default: those of this process).

    Errors are printed on stderr. With `--json`, they are also written as JSON on stdout.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(args=arguments, prog_name="lhp", standalone_mode=False)
        sys.stdout.flush()
    except LhpError as error:
        return _report(error, as_json="--json" in arguments)
    except typer.TyperException as error:
        if not error.format_message():  # no arguments at all: the help has been printed
            return USAGE
        return _report(_explain_usage(error), as_json="--json" in arguments)
    except UnicodeEncodeError as error:
        # Python reads bytes that aren't text in the terminal's encoding as surrogates.
        if not any("\ud800" <= each <= "\udfff" for each in error.object):
            raise
        unreadable = InvalidRequestError(
            f"{error.object[:80]!r} can't be read as text",
            hint="use an encoding that has these characters: LC_ALL=C.UTF-8",
        )
        return _report(unreadable, as_json="--json" in arguments)
    except SystemExit as exit_:
        code = exit_.code
        return code if isinstance(code, int) else DONE if code is None else FAILED
    return code if isinstance(code, int) else DONE


def _report(error: LhpError, *, as_json: bool) -> int:
    """Prints the error and returns its exit code."""
    code = USAGE if isinstance(error, InvalidRequestError) else FAILED
    print_error(error)
    if as_json:
        print_json_error(error, code)
    return code


def _explain_usage(error: typer.TyperException) -> InvalidRequestError:
    """What is wrong with the command line, and what to write instead."""
    message = error.format_message().rstrip(".")
    possible = getattr(error, "possibilities", None) or []
    if possible:
        message, meant = error.message, f"{' or '.join(sorted(possible))}?"
    else:
        message, _, meant = message.partition(". Did you mean ")
    hints = [f"did you mean {meant}"] if meant else []
    context = getattr(error, "ctx", None)
    command = "lhp" if context is None else context.command_path
    hints.append(f"`{command} --help` says what it takes")
    return InvalidRequestError(message[:1].lower() + message[1:], hint=" ".join(hints))


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
app.command()(joining.join)
for _each in (
    *(database.upgrade, database.stats, database.prune),
    *(database.backup, database.restore, database.export),
    *(database.add_reader, database.rm_reader),
):
    db.command()(_each)
db.command("import")(database.import_)
app.command(cls=DimsCommand)(questions.query)
app.command(cls=DimsCommand)(predictions.predict)
app.command(cls=DimsCommand)(questions.crossover)
app.command()(advise.advise)
app.command(cls=DimsCommand)(sweeps.sweep)
app.command()(sweeps.sweeps)
app.command()(sweeps.cancel)
app.command()(curves.curves)
app.command()(curves.compare)
app.command()(curves.facts)
app.command()(curves.plot)
hosts.app.add_typer(join_keys.app, name="keys")
app.add_typer(hosts.app, name="hosts")
app.add_typer(tokens.app, name="tokens")
app.command()(machines.workloads)
app.command()(machines.doctor)
