"""Shows a run's progress in the terminal, and logs it for TensorBoard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn

from trainer_client.files import explaining
from trainer_client.run.descent import Observation


@contextlib.contextmanager
def observers(out: Path, tensorboard: bool, rank: int) -> Iterator[Callable[[Observation], None]]:
    """Shows and logs the run's progress, only on the first rank."""
    if rank > 0:
        yield lambda _: None
        return
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False)
    with contextlib.ExitStack() as stack:
        # The client of the service logs each attempt; the trainer, what it waits for.
        logger = logging.getLogger("trainer_client")
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        others = []
        if tensorboard:
            others.append(_tensorboard(out, stack))
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[told]}", markup=False),
                console=console,
            )
        )
        task = progress.add_task("beginning", total=1.0, told="")

        def observe(seen: Observation) -> None:
            valid = ""
            if seen.valid is not None:
                valid = f" · validation {seen.metric} {seen.valid:.4g}"
            progress.update(
                task,
                description=f"{seen.step} round {seen.round} epoch {seen.epoch}/{seen.max_epochs}",
                completed=seen.fraction,
                told=f"loss {seen.loss:.3f}{valid}"
                f" · {seen.items_per_s:,.0f} {seen.item}/s · {seen.seconds_left / 60:.0f} min left",
            )
            for each in others:
                each(seen)

        yield observe


def _tensorboard(out: Path, stack: contextlib.ExitStack) -> Callable[[Observation], None]:
    from torch.utils.tensorboard import SummaryWriter

    directory = out / "tensorboard"
    writers: list[SummaryWriter] = []  # the first observation makes the one: the run has begun

    def close() -> None:
        with explaining(directory):
            for writer in writers:
                writer.close()

    def observe(seen: Observation) -> None:
        with explaining(directory):
            if not writers:
                writers.append(SummaryWriter(directory))
            for name, value in (
                ("loss", seen.loss),
                ("learning_rate", seen.learning_rate),
                (f"{seen.item}_per_s", seen.items_per_s),
                (f"valid_{seen.metric}", seen.valid),
            ):
                if value is not None:
                    writers[0].add_scalar(f"{seen.step}/{name}", value, seen.num_batches)

    stack.callback(close)
    return observe
