"""One training run: descents on a task, with checkpoints that survive a `kill -9`.

Every `checkpoint_s` seconds, the whole state of the run is written to one file: weights, masks,
optimiser, random states, position in the data, notes of the steps. A run that is resumed continues
from there, and on a CPU ends with the same bits.

Doesn't know the task, the steps, the service, or how progress is shown.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from profiler_service.errors import LhpError
from trainer_client.files import make_directory, write_whole
from trainer_client.groups.growth import InvalidGradientError
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import Masks
from trainer_client.groups.network import MaskedNetwork
from trainer_client.run.checkpoint import CheckpointConfigError, read_checkpoint, write_checkpoint
from trainer_client.run.config import DescentConfig
from trainer_client.run.descent import (
    Descent,
    DivergedError,
    NotFiniteError,
    Observation,
    make_optimiser,
    pack_descent,
    unpack_descent,
)
from trainer_client.run.gradient import measure_mean_gradient
from trainer_client.run.logs import (
    CHECKPOINT,
    EPOCHS_LOG,
    STEPS_LOG,
    Row,
    differences,
    tell_may_change,
    to_lines,
)
from trainer_client.run.models import RunModels
from trainer_client.run.ranks import Ranks
from trainer_client.run.snapshot import (
    pack_snapshot,
    unpack_snapshot,
)
from trainer_client.run.step_files import pack_small, step_file, unpack_small
from trainer_client.run.task import Split, Task

logger = logging.getLogger(__name__)

C_co = TypeVar("C_co", bound=DescentConfig, covariant=True)
"""The settings of a method."""


class TrainingRun(RunModels, Generic[C_co]):
    """A training run: its models, and its files in `directory`."""

    def __init__(
        self,
        config: C_co,
        task: Task,
        directory: Path,
        *,
        compact: MaskedNetwork,
        baseline: nn.Module,
        ranks: Ranks,
        device: torch.device | None = None,
        observe: Callable[[Observation], None] = lambda _: None,
        may_change_in: Callable[[str], Collection[str]] = lambda _: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A run that has not begun; see `restore`. Seeds torch's generators.

        It begins with the `baseline`. `compact` is the network that a method makes compact.
        `may_change_in` says which settings may differ when the run is resumed in a step. `clock`
        says when a checkpoint is due.
        """
        self.config = config
        self.task = task
        self.directory = directory
        self.ranks = ranks
        self.device = device or torch.device("cpu")
        self.step = ""
        self.notes: dict[str, Any] = {}
        """The notes of the current step; JSON-ready."""
        self.rows: list[Row] = []
        """The rows of the report, one for each step that has ended."""
        self._epoch_rows: list[Row] = []
        self._num_batches = 0
        self._descent: Descent | None = None
        self._observe = observe
        self._may_change_in = may_change_in
        self._clock = clock
        self._saved_s = clock()
        super().__init__(baseline.to(self.device), compact.to(self.device), task.metric)
        # All ranks have the same weights, but different dropout.
        torch.manual_seed(config.seed + ranks.rank)

    # Descent

    @property
    def is_training(self) -> bool:
        """Whether a training has begun and not ended."""
        return self._descent is not None

    def begin_training(
        self,
        *,
        max_epochs: int,
        learning_rate: float,
        stop_at: float | None = None,
        min_epochs: int = 1,
    ) -> None:
        """Begins a training of the model with a fresh optimiser, and saves the run."""
        self._descent = Descent(
            max_epochs=max_epochs,
            learning_rate=learning_rate,
            stop_at=stop_at,
            min_epochs=min_epochs,
            optimiser=make_optimiser(self.config, self.task, self.model, learning_rate),
            state=self.task.begin_state(self.model),
        )
        self.save()

    def train(self, *, at_epoch: Callable[[int], None] = lambda _: None) -> float:
        """The validation metric of the model, when the training that has begun is over.

        The model is then that of the best epoch. If the loss isn't a number, the run goes back to
        its last checkpoint and halves the rate, at most `max_rollbacks` times. `at_epoch` is called
        before each epoch, counted from 0, and may call `set_masks`. If the run was killed or went
        back, it may be called again for the same epoch, with the same model. Raises DivergedError,
        FileError.
        """
        while True:
            assert self._descent is not None
            try:
                return self._train(self._descent, at_epoch)
            except (NotFiniteError, InvalidGradientError) as error:
                self._roll_back(error)

    def end_training(self) -> None:
        """Ends the training early; the model stays as it is."""
        self._descent = None

    def set_masks(self, masks: Masks) -> None:
        """Sets other masks of the compact network before an epoch of a training.

        The epochs so far don't count any more, neither for the best model nor for the average.
        """
        descent, model = self._descent, self.compact
        assert descent is not None and descent.position == 0
        before = model.masks.weights
        for name, weight in model.weights.items():
            descent.wake(weight, before=before[name], after=masks.weights[name])
        model.masks = masks
        descent.state = self.task.begin_state(model)
        descent.forget_best()

    def _train(self, descent: Descent, at_epoch: Callable[[int], None]) -> float:
        while descent.epoch < descent.max_epochs:
            if descent.position == 0:
                at_epoch(descent.epoch)
            self._train_epoch(descent)
            self._end_epoch(descent)
        assert descent.best is not None
        self.load(descent.best)
        self._descent = None
        return descent.best.value

    def _train_epoch(self, descent: Descent) -> None:
        """Trains on the data from the descent's position to their end."""
        self.model.train()
        began_s, first = time.perf_counter(), descent.num_items
        while descent.position < self.task.end:
            descent.train_batch(self.model, self.task, self.config, self.ranks)
            self._num_batches += 1
            seconds = time.perf_counter() - began_s
            self._observe(
                descent.describe(
                    self.task,
                    self.config,
                    step=self.step,
                    round_=int(self.notes.get("round", 0)),
                    items_per_s=(descent.num_items - first) / seconds,
                    num_processes=self.ranks.size,
                    num_batches=self._num_batches,
                )
            )
            # Not at the end of an epoch: only a model that can be validated is kept there.
            if descent.position < self.task.end and self._is_due():
                descent.check_next(self.model, self.task, self.ranks)
                self.save()

    def _is_due(self) -> bool:
        """Whether a checkpoint is due; all processes agree."""
        period_s = self.config.checkpoint_s
        return self.ranks.ask_first(lambda: self._clock() - self._saved_s >= period_s)

    def _end_epoch(self, descent: Descent) -> None:
        """Validates, keeps the best model, lowers the rate if nothing improves, and saves."""
        metric = self.task.metric
        with descent.averaged(self.model.parameters()):
            value = self.evaluate("valid")
        if not math.isfinite(value):
            raise NotFiniteError(f"the validation's {metric.name} isn't a number")
        if descent.is_improved_by(value, metric):
            with descent.averaged(self.model.parameters()):
                descent.best = self.snapshot(value)
            descent.stalled = 0
        else:
            descent.stalled += 1
        self._epoch_rows.append(
            {
                "step": self.step,
                "round": self.notes.get("round", 0),
                "epoch": descent.epoch + 1,
                **self.task.describe_loss(descent.loss_sum / max(descent.num_items, 1)),
                f"valid_{metric.name}": value,
                "learning_rate": descent.rate(self.config, self.task.end),
                "averaging": descent.average is not None,
            }
        )
        descent.begin_averaging(self.config, self.model.parameters(), metric, value)
        descent.end_epoch(self.config, metric, value)
        descent.state = self.task.begin_state(self.model)
        self.save()

    def _roll_back(self, error: LhpError) -> None:
        """Goes back to the last checkpoint with half the rate. Raises DivergedError."""
        self.restore()
        descent = self._descent
        assert descent is not None
        if descent.rollbacks >= self.config.max_rollbacks:
            raise DivergedError(
                f"{error} in step {self.step}, at a learning rate of {descent.learning_rate:g},"
                f" after going back and halving it {descent.rollbacks} times",
                hint=f"{self.directory} has the last checkpoint and the models of the steps that"
                " ended. Start a new run with a lower clip_norm or learning_rate. If a retraining"
                " diverged, use --start-from with a lower retrain_learning_rate",
            ) from error
        descent.rollbacks += 1
        descent.learning_rate /= 2
        self.save()

    # Measures of the model

    def evaluate(self, split: Split) -> float:
        """The model's metric on these data.

        Only the first process does this: decisions depend on it, and another processor may round
        differently.
        """
        return self.ranks.ask_first(lambda: self.task.measure(self.model, split))

    def mean_gradient(self, weights: Tensors) -> dict[str, torch.Tensor]:
        """The gradient of all weights of the compact network, living or not, over all data.

        The average over the training data, without dropout. Leaves the model as it was. Raises
        InvalidGradientError.
        """
        average = self.ranks.average
        return measure_mean_gradient(self.compact, weights, self.task, over_processes=average)

    # Files

    def end_step(self, row: Row, next_step: str) -> None:
        """Adds the step's row to the report, goes on to the next step, and saves the run.

        Its model, the accepted one, is also kept in a file of its own: see `begin_after`.
        """
        self.rows.append(row)
        ended, self.step, self.notes = self.step, next_step, {}
        if self.ranks.rank == 0:
            assert self.accepted is not None
            path = step_file(self.directory, ended)
            make_directory(path.parent)
            write_checkpoint(
                path,
                {
                    **self._own(),
                    "step": ended,
                    "rows": self.rows,
                    "epoch_rows": self._epoch_rows,
                    "accepted": pack_small(self.accepted, self.task.weight_dtype),
                },
            )
        self.save()

    def save(self) -> None:
        """Returns once the run can be resumed from here. Raises FileError."""
        own = {
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "state": None if self._descent is None else [t.cpu() for t in self._descent.state],
        }
        ranks = self.ranks.gather(own)
        if self.ranks.rank == 0:
            make_directory(self.directory)
            write_checkpoint(
                self.directory / CHECKPOINT,
                {
                    **self._own(),
                    "step": self.step,
                    "notes": self.notes,
                    "rows": self.rows,
                    "epoch_rows": self._epoch_rows,
                    "num_batches": self._num_batches,
                    "ranks": ranks,
                    "model": pack_snapshot(self.snapshot(self.task.metric.worst)),
                    "accepted": None if self.accepted is None else pack_snapshot(self.accepted),
                    "descent": None if self._descent is None else pack_descent(self._descent),
                },
            )
            write_whole(self.directory / STEPS_LOG, to_lines(self.rows))
            write_whole(self.directory / EPOCHS_LOG, to_lines(self._epoch_rows))
        self.ranks.wait()
        self._saved_s = self._clock()

    def _own(self) -> dict[str, Any]:
        """The configuration and the data, as a checkpoint describes them."""
        return {"config": self.config.to_json(), "data": dict(self.task.facts)}

    def compare(self, saved: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
        """How the configuration and the data of a checkpoint differ from the run's, in words.

        Settings named in `but` may differ.
        """
        return differences(saved, self._own(), but=but)

    def adopt(self, saved: Mapping[str, Any]) -> None:
        """Makes the model of a step's file, read as `saved`, the run's model."""
        self.accepted = unpack_small(saved["accepted"])
        self.revert()

    def begin_after(self, saved: Mapping[str, Any], rows: Sequence[Row], next_step: str) -> None:
        """Begins the run after the step whose model was adopted; saves the run.

        `rows` are what the report says about that step and those before.
        """
        self.rows, self._epoch_rows = list(rows), saved["epoch_rows"]
        self.step = next_step
        self.save()

    def restore(self) -> None:
        """Restores the run as it was last saved.

        Settings that no finished step has used may differ now. Raises NoCheckpointError,
        CheckpointError, CheckpointConfigError.
        """
        path = self.directory / CHECKPOINT
        saved = read_checkpoint(path)
        allowed = self._may_change_in(saved["step"])
        told = self.compare(saved, but=allowed)
        if len(saved["ranks"]) != self.ranks.size:
            told.append(f"{len(saved['ranks']):,} processes there, {self.ranks.size:,} now")
        if told:
            raise CheckpointConfigError(
                f"{path} is of a run with another configuration: {'; '.join(told)}",
                hint=f"{tell_may_change(allowed)}; for anything else begin another run",
            )
        for change in self.compare(saved):
            logger.info("from here on: %s", change)
        self.step = saved["step"]
        # Changed in place: after going back, the step that has the notes continues with them.
        self.notes.clear()
        self.notes.update(saved["notes"])
        self.rows, self._epoch_rows = saved["rows"], saved["epoch_rows"]
        self._num_batches = saved["num_batches"]
        self.load(unpack_snapshot(saved["model"]))
        self.accepted = None if saved["accepted"] is None else unpack_snapshot(saved["accepted"])
        own, kept = saved["ranks"][self.ranks.rank], saved["descent"]
        self._descent = None
        if kept is not None:
            rate = kept["learning_rate"]
            self._descent = unpack_descent(
                kept,
                make_optimiser(self.config, self.task, self.model, rate),
                tuple(each.to(self.device) for each in own["state"]),
            )
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["random_cuda"])
