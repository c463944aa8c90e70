"""The command `lhp-train`: trains and reports. Turns errors into messages and exit codes.

Exit codes: 0 done; 1 it could not be done; 2 the command line is not valid; 130 interrupted by
Ctrl-C. Under `torchrun`, only the first process shows progress and writes files.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from profiler_service.distribution import explain_missing
from profiler_service.errors import ConflictError, InvalidRequestError, LhpError

if TYPE_CHECKING:
    from trainer_client.config import TrainingConfig
    from trainer_client.descent import Observation
    from trainer_client.train import TrainingRun

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="lhp-train",
    help="Trains a compact, fast LSTM language model by grow-and-prune.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PresetOption = Annotated[str | None, typer.Option(help="smoke, small or paper.", metavar="PRESET")]
DataOption = Annotated[Path, typer.Option(help="Directory of the text.", metavar="DIR")]
OutOption = Annotated[Path, typer.Option(help="Directory of the run's files.", metavar="DIR")]
ServiceOption = Annotated[
    str | None,
    typer.Option(help="The latency service, for step (c).", metavar="URL", envvar="LHP_URL"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Changes a setting; may be repeated."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
StartOption = Annotated[
    Path | None,
    typer.Option(
        "--start-from",
        help="Begin with the baseline and step (a) of the run in DIR.",
        metavar="DIR",
    ),
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Also write logs for TensorBoard.")
]


def main() -> NoReturn:
    """Runs the command line and exits; never with a traceback for a known error."""
    try:
        code = run()
    except KeyboardInterrupt:
        # A second Ctrl-C while Python ends would print a traceback. Nothing is left to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = INTERRUPTED
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
        typer.echo(f"error: {error}", err=True)
        return FAILED
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            typer.echo("interrupted; --resume goes on from the last checkpoint", err=True)
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else FAILED
    return 0


def _print_error(error: LhpError) -> None:
    typer.echo(f"error: {error}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    if error.see:
        typer.echo(f"see: {error.see} of the service", err=True)


def _train_command(corpus: str) -> Callable[..., None]:
    def command(
        data: DataOption,
        out: OutOption,
        preset: PresetOption = None,
        service: ServiceOption = None,
        changes: SetOption = None,
        resume: ResumeOption = False,
        start_from: StartOption = None,
        tensorboard: TensorBoardOption = False,
    ) -> None:
        _train(corpus, data, out, preset, service, changes or [], resume, start_from, tensorboard)

    command.__doc__ = f"Train on {corpus}: a baseline, then the steps (a) to (d)."
    return command


for _name in ("ptb", "wikitext-2", "own-text"):
    app.command(_name)(_train_command(_name))


@app.command()
def report(directory: Path, service: ServiceOption = None) -> None:
    """Print and write the table of a run: Markdown, JSON and a plot.

    With a service, latencies are measured. Without one, those of an earlier report are shown.
    """
    from trainer_client.latency_client import HttpLatencyOracle
    from trainer_client.report import make_report, to_markdown

    with contextlib.ExitStack() as stack:
        client = None if service is None else stack.enter_context(HttpLatencyOracle(service))
        typer.echo(to_markdown(make_report(directory, client)), nl=False)


@app.command()
def estimate(
    corpus: Annotated[str, typer.Argument(help="ptb or wikitext-2.")] = "ptb",
    preset: PresetOption = None,
    changes: SetOption = None,
) -> None:
    """Print the cost of a preset on this machine: sizes, memory, speed, hours."""
    from trainer_client.corpus import get_corpus_kind
    from trainer_client.dry_run import try_out
    from trainer_client.ranks import choose_device

    config = _choose_config(corpus, None, preset, changes or [])
    for each in try_out(config, get_corpus_kind(corpus), choose_device()):
        bound = "" if each.is_bounded else " if (b) and (d) have one round each"
        typer.echo(
            f"{each.name:9} {each.recurrent_parameters:>12,} recurrent parameters,"
            f" {each.tokens_per_s:,.0f} tokens/s, at most {each.max_epochs} epochs"
            f"{bound}: {each.max_hours:.1f} h; memory {each.peak_memory_bytes / 2**30:.1f} GiB"
        )


def _train(
    corpus_name: str,
    data: Path,
    out: Path,
    preset: str | None,
    service: str | None,
    changes: Sequence[str],
    resume: bool,
    start_from: Path | None,
    tensorboard: bool,
) -> None:
    from trainer_client.checkpoint import hold_directory
    from trainer_client.corpus import get_corpus_kind, load_corpus
    from trainer_client.export import MODELS, write_models
    from trainer_client.first_steps import begin_from
    from trainer_client.latency_client import HttpLatencyOracle
    from trainer_client.ranks import Ranks, choose_device
    from trainer_client.run_files import CHECKPOINT
    from trainer_client.synthesis import synthesise
    from trainer_client.train import TrainingRun

    if resume and start_from is not None:
        raise InvalidRequestError(
            "--start-from begins a new run, --resume continues one", hint="give only one of them"
        )
    config = _choose_config(corpus_name, out if resume else start_from, preset, changes)
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
        observe = stack.enter_context(_observers(out, tensorboard and ranks.rank == 0, ranks.rank))
        training = TrainingRun(config, corpus, out, ranks=ranks, device=device, observe=observe)
        if resume:
            training.restore()
        elif start_from is not None:
            begin_from(training, start_from)
        oracle = None
        if service is not None:
            oracle = stack.enter_context(HttpLatencyOracle(service, cache=out / "answers"))
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


def _choose_config(
    corpus: str, earlier: Path | None, preset: str | None, changes: Sequence[str]
) -> TrainingConfig:
    """The configuration asked for. Without a preset, that of the run in `earlier`, if any."""
    from trainer_client.checkpoint import read_checkpoint
    from trainer_client.config import TrainingConfig, get_preset
    from trainer_client.run_files import CHECKPOINT

    if earlier is not None and preset is None:
        saved = TrainingConfig.from_json(read_checkpoint(earlier / CHECKPOINT)["config"])
        chosen = saved.with_changes({"corpus": corpus})
    else:
        chosen = get_preset(preset or "small").with_changes({"corpus": corpus})
    given = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InvalidRequestError(
                f"{change!r} isn't NAME=VALUE", hint="for example --set seed=1"
            )
        given[name] = value
    return chosen.with_changes(given)


@contextlib.contextmanager
def _observers(out: Path, tensorboard: bool, rank: int) -> Iterator[Callable[[Observation], None]]:
    """Shows and logs the run's progress, only on the first rank."""
    if rank > 0:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False)
    with contextlib.ExitStack() as stack:
        for name in ("trainer_client", "profiler_service.client"):
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.INFO)
        observers = []
        if tensorboard:
            observers.append(_tensorboard(out, stack))
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                console=console,
            )
        )
        task = progress.add_task("beginning", total=1.0, told="")

        def observe(seen: Observation) -> None:
            valid = ""
            if seen.valid_perplexity is not None:
                valid = f" · validation {seen.valid_perplexity:.1f}"
            progress.update(
                task,
                description=f"{seen.step} round {seen.round} epoch {seen.epoch}/{seen.max_epochs}",
                completed=seen.fraction,
                told=f"loss {seen.loss:.3f} · perplexity {seen.perplexity:.1f}{valid}"
                f" · {seen.tokens_per_s:,.0f} tokens/s · {seen.seconds_left / 60:.0f} min left",
            )
            for each in observers:
                each(seen)

        yield observe


def _tensorboard(out: Path, stack: contextlib.ExitStack) -> Callable[[Observation], None]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(out / "tensorboard")
    stack.callback(writer.close)

    def observe(seen: Observation) -> None:
        for name, value in (
            ("loss", seen.loss),
            ("learning_rate", seen.learning_rate),
            ("tokens_per_s", seen.tokens_per_s),
            ("valid_perplexity", seen.valid_perplexity),
        ):
            if value is not None:
                writer.add_scalar(f"{seen.step}/{name}", value, seen.num_batches)

    return observe


def _print_rows(training: TrainingRun) -> None:
    for row in training.rows:
        dims = " / ".join(map(str, row["dims"]))
        typer.echo(
            f"{row['step']:9} {dims:12} {row['recurrent_parameters']:>12,} parameters,"
            f" perplexity {row['valid_perplexity']:.2f} (test {row['test_perplexity']:.2f})"
        )
    typer.echo(f"report: lhp-train report {training.directory} --service URL")


if __name__ == "__main__":
    main()
