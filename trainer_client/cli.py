"""The command `lhp-train`: trains and reports. Turns errors into messages and exit codes.

Exit codes: 0 done; 1 it could not be done; 2 the command line is not valid; 130 interrupted by
Ctrl-C. Under `torchrun`, only the first process shows progress and writes files.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from profiler_service.distribution import explain_missing
from profiler_service.errors import ConflictError, InvalidRequestError, LhpError
from profiler_service.printable import printable
from profiler_service.standard_streams import make_safe
from trainer_client.commands.compare import compare
from trainer_client.commands.extra import check_extra
from trainer_client.commands.options import HostOption, ServiceOption
from trainer_client.commands.pad import pad
from trainer_client.files import explain

if TYPE_CHECKING:
    from trainer_client.presets import TrainingConfig
    from trainer_client.run.training_run import TrainingRun

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="lhp-train",
    help="Trains a compact, fast LSTM language model by grow-and-prune.",
    epilog="Exit codes: 0 done; 1 it could not be done; 2 the command line is not valid;"
    " 130 interrupted by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PresetOption = Annotated[
    str | None, typer.Option(help="smoke, small, full or paper.", metavar="PRESET")
]
DataOption = Annotated[Path, typer.Option(help="Directory of the text.", metavar="DIR")]
OutOption = Annotated[Path, typer.Option(help="Directory of the run's files.", metavar="DIR")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Changes a setting; may be repeated."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out, with its own settings.")
]
StartOption = Annotated[
    Path | None,
    typer.Option(
        "--start-from",
        help="Begin with the baseline and step (a) of the run in DIR, or after the step whose file"
        " DIR/steps/STEP.lhp it is.",
        metavar="DIR",
    ),
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Also write logs for TensorBoard.")
]


def main() -> NoReturn:
    """Runs the command line and exits; never with a traceback for a known error."""
    make_safe()
    try:
        code = run()
    except KeyboardInterrupt:
        # A second Ctrl-C while Python ends would print a traceback. Nothing is left to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe (`| head`) has ended, which is no error.
        code = FAILED
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line `arguments` (default: those of this process)."""
    try:
        app(args=arguments, prog_name="lhp-train")
    except ModuleNotFoundError as error:
        missing = explain_missing(error, needed_by="lhp-train", extras=["trainer"])
        if missing is None:
            raise
        _print_error(missing)
        return FAILED
    except LhpError as error:
        _print_error(error)
        return USAGE if isinstance(error, InvalidRequestError) else FAILED
    except OSError as error:
        _print_error(explain(error))
        return FAILED
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            typer.echo(
                "interrupted; a training goes on from its last checkpoint with --resume", err=True
            )
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else FAILED
    return 0


def _print_error(error: LhpError) -> None:
    typer.echo(f"error: {printable(str(error))}", err=True)
    if error.hint:
        typer.echo(f"hint: {printable(error.hint)}", err=True)
    if error.see:
        typer.echo(f"see: {printable(error.see)} of the service", err=True)


def _train_command(corpus: str) -> Callable[..., None]:
    def command(
        data: DataOption,
        out: OutOption,
        preset: PresetOption = None,
        service: ServiceOption = None,
        host: HostOption = None,
        changes: SetOption = None,
        resume: ResumeOption = False,
        start_from: StartOption = None,
        tensorboard: TensorBoardOption = False,
    ) -> None:
        check_extra()
        if resume and start_from is not None:
            raise InvalidRequestError(
                "--start-from begins a new run, --resume continues one",
                hint="give only one of them",
            )
        if resume:
            config = _resumed_config(corpus, out, preset, changes or [])
        else:
            config = _choose_config(corpus, start_from, preset, changes or [])
        _train(config, data, out, service, host, resume, start_from, tensorboard)

    command.__doc__ = f"Train on {corpus}: a baseline, then the steps (a) to (d)."
    return command


for _name in ("ptb", "wikitext-2", "own-text"):
    app.command(_name)(_train_command(_name))


@app.command()
def report(directory: Path, service: ServiceOption = None, host: HostOption = None) -> None:
    """Print and write the table of a run: Markdown, JSON and a plot.

    With a service, latencies are measured. Without one, those of an earlier report are shown.
    """
    check_extra()
    from trainer_client.oracle.http import HttpLatencyOracle
    from trainer_client.report.text import to_markdown
    from trainer_client.report.write import make_report

    with contextlib.ExitStack() as stack:
        client = None
        if service is not None:
            client = stack.enter_context(HttpLatencyOracle(service, host=host))
        typer.echo(to_markdown(make_report(directory, client)), nl=False)


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model that a run has exported.")],
    text: Annotated[Path, typer.Argument(help="A text, as UTF-8; - for standard input.")],
    pieces: Annotated[
        int | None,
        typer.Option(
            help="Read the text in so many pieces side by side: 10 for a long text, as in a run's"
            " report; else 1.",
            min=1,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Read only the first so many tokens.", min=2)
    ] = None,
) -> None:
    """Print the perplexity of an exported model on a text."""
    check_extra()
    from trainer_client.tasks.language_model.scoring import load_scorer, read_text

    found = load_scorer(model).score(read_text(text), pieces=pieces, max_tokens=max_tokens)
    typer.echo(
        f"perplexity {found.perplexity:.2f}: {found.num_predicted:,} tokens predicted, in"
        f" {found.pieces} {'piece' if found.pieces == 1 else 'pieces'}; words unknown to the model:"
        f" {found.num_unknown:,}"
    )


app.command()(pad)
app.command()(compare)


@app.command()
def estimate(
    corpus: Annotated[str, typer.Argument(help="ptb or wikitext-2.")] = "ptb",
    preset: PresetOption = None,
    changes: SetOption = None,
) -> None:
    """Print the cost of a preset on this machine: sizes, memory, speed, hours."""
    check_extra()
    from trainer_client.dry_run import try_out
    from trainer_client.run.ranks import choose_device
    from trainer_client.tasks.language_model.corpus import get_corpus_kind

    config = _choose_config(corpus, None, preset, changes or [])
    for each in try_out(config, get_corpus_kind(corpus), choose_device()):
        bound = "" if each.is_bounded else " if (b) and (d) have one round each"
        typer.echo(
            f"{each.name:9} {each.recurrent_parameters:>12,} recurrent parameters,"
            f" {each.tokens_per_s:,.0f} tokens/s in {each.precision},"
            f" at most {each.max_epochs} epochs{bound}: {each.max_hours:.1f} h;"
            f" memory {each.peak_memory_bytes / 2**30:.1f} GiB"
        )


def _train(
    config: TrainingConfig,
    data: Path,
    out: Path,
    service: str | None,
    host: str | None,
    resume: bool,
    start_from: Path | None,
    tensorboard: bool,
) -> None:
    from trainer_client.export import write_models
    from trainer_client.methods.grow_prune.first_steps import begin_from
    from trainer_client.methods.grow_prune.synthesis import synthesise
    from trainer_client.oracle.http import HttpLatencyOracle
    from trainer_client.run.checkpoint import hold_directory
    from trainer_client.run.logs import CHECKPOINT, MODELS
    from trainer_client.run.progress import observers
    from trainer_client.run.ranks import Ranks, choose_device
    from trainer_client.tasks.language_model.corpus import get_corpus_kind, load_corpus
    from trainer_client.training import make_run

    if not resume and (out / CHECKPOINT).exists():
        raise ConflictError(
            f"{out} already has a run", hint="continue it (--resume), or choose another --out"
        )
    corpus = load_corpus(get_corpus_kind(config.corpus), data)
    device = choose_device()
    ranks = Ranks(device)
    with contextlib.ExitStack() as stack:
        stack.callback(ranks.close)
        if ranks.rank == 0:
            stack.enter_context(hold_directory(out))
        observe = stack.enter_context(observers(out, tensorboard and ranks.rank == 0, ranks.rank))
        training = make_run(config, corpus, out, ranks=ranks, device=device, observe=observe)
        if resume:
            training.restore()
        elif start_from is not None:
            begin_from(training, start_from)
        oracle = None
        if service is not None:
            oracle = stack.enter_context(
                HttpLatencyOracle(
                    service, host=host, cache=out / "answers", max_away_s=config.max_away_s
                )
            )
        synthesise(
            training,
            oracle,
            crossovers=oracle,
            at_step_end=lambda row: write_models(
                training, (row["dims"][0], row["dims"][1]), out / MODELS
            ),
        )
    if ranks.rank == 0:
        _print_rows(training)


def _resumed_config(
    corpus: str, out: Path, preset: str | None, changes: Sequence[str]
) -> TrainingConfig:
    """The configuration of the run in `out`, with the changes that its present step allows.

    Raises CheckpointConfigError for another one.
    """
    from trainer_client.methods.grow_prune.config import may_change_in
    from trainer_client.presets import TrainingConfig
    from trainer_client.run.checkpoint import CheckpointConfigError, read_checkpoint
    from trainer_client.run.logs import CHECKPOINT, setting_differences, tell_may_change

    saved = read_checkpoint(out / CHECKPOINT)
    asked = {"corpus": corpus, **({} if preset is None else {"preset": preset})}
    own = TrainingConfig.from_json(saved["config"])
    config = own.with_changes(asked | _read_changes(changes))
    allowed = may_change_in(saved["step"])
    told = setting_differences(own.to_json(), config.to_json(), but=allowed)
    if told:
        raise CheckpointConfigError(
            f"the run in {out} has another configuration: {'; '.join(told)}",
            hint=f"{tell_may_change(allowed)}; for anything else begin another run",
        )
    return config


def _choose_config(
    corpus: str, earlier: Path | None, preset: str | None, changes: Sequence[str]
) -> TrainingConfig:
    """The configuration asked for. Without a preset, that of the run in `earlier`, if any."""
    from trainer_client.presets import TrainingConfig, get_preset
    from trainer_client.run.checkpoint import read_checkpoint
    from trainer_client.run.logs import CHECKPOINT

    if earlier is not None and preset is None:
        path = earlier if earlier.is_file() else earlier / CHECKPOINT
        saved = TrainingConfig.from_json(read_checkpoint(path)["config"])
        chosen = saved.with_changes({"corpus": corpus})
    else:
        chosen = get_preset(preset or "small").with_changes({"corpus": corpus})
    return chosen.with_changes(_read_changes(changes))


def _read_changes(changes: Sequence[str]) -> dict[str, str]:
    """The values given with --set, by name. Raises InvalidRequestError."""
    given = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InvalidRequestError(
                f"{change!r} isn't NAME=VALUE", hint="for example --set seed=1"
            )
        given[name] = value
    return given


def _print_rows(training: TrainingRun[TrainingConfig]) -> None:
    for row in training.rows:
        dims = " / ".join(map(str, row["dims"]))
        typer.echo(
            f"{row['step']:9} {dims:12} {row['recurrent_parameters']:>12,} parameters,"
            f" perplexity {row['valid_perplexity']:.2f} (test {row['test_perplexity']:.2f})"
        )
    typer.echo(f"report: lhp-train report {training.directory} --service URL")


if __name__ == "__main__":
    main()
