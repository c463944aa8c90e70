"""One training run: descent over a text, with checkpoints that survive a `kill -9`.

Every `checkpoint_batches` batches, the whole state of the run is written to one file: weights,
masks, optimiser, random states, position in the text, notes of the steps. A run that is resumed
continues from there, and on a CPU ends with the same bits.

Doesn't know the steps, the service, or how progress is shown.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from profiler_service.errors import LhpError
from trainer_client.files import make_directory, write_whole
from trainer_client.groups.growth import InvalidGradientError
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import Masks
from trainer_client.run.checkpoint import CheckpointConfigError, read_checkpoint, write_checkpoint
from trainer_client.run.config import TrainingConfig, may_change_in, tell_may_change
from trainer_client.run.descent import (
    Descent,
    DivergedError,
    NotFiniteError,
    Observation,
    make_optimiser,
    pack_descent,
    perplexity_of,
    unpack_descent,
)
from trainer_client.run.logs import CHECKPOINT, EPOCHS_LOG, STEPS_LOG, Row, differences, to_lines
from trainer_client.run.ranks import Ranks
from trainer_client.run.snapshot import (
    Snapshot,
    load_snapshot,
    pack_snapshot,
    take_snapshot,
    unpack_snapshot,
)
from trainer_client.tasks.language_model.corpus import Corpus
from trainer_client.tasks.language_model.evaluation import measure_mean_gradient, measure_perplexity
from trainer_client.tasks.language_model.networks import LanguageModel, MaskedHLSTM, StackedLSTM
from trainer_client.tasks.language_model.run_text import RunText

logger = logging.getLogger(__name__)


class TrainingRun:
    """A training run: its model, and its files in `directory`."""

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        directory: Path,
        *,
        ranks: Ranks,
        device: torch.device | None = None,
        observe: Callable[[Observation], None] = lambda _: None,
    ) -> None:
        """A run that has not begun; see `restore`. Seeds torch's generators."""
        self.config = config
        self.directory = directory
        self.ranks = ranks
        self.device = device or torch.device("cpu")
        self.step = ""
        self.notes: dict[str, Any] = {}
        """The notes of the current step; JSON-ready."""
        self.rows: list[Row] = []
        """The rows of the report, one for each step that has ended."""
        self.accepted: Snapshot | None = None
        self._epoch_rows: list[Row] = []
        self._num_batches = 0
        self._descent: Descent | None = None
        self._observe = observe
        self.words = corpus.vocabulary
        self._text = RunText(corpus, config, ranks, self.device)
        # All ranks draw the same weights, but different dropout.
        torch.manual_seed(config.seed)
        self.model: LanguageModel = StackedLSTM(self.vocabulary, config).to(self.device)
        self._hlstm = MaskedHLSTM(self.vocabulary, config).to(self.device)
        for model in (self.model, self._hlstm):
            model.set_word_counts(self._text.count_v)
        torch.manual_seed(config.seed + ranks.rank)

    @property
    def vocabulary(self) -> int:
        """The number of words."""
        return len(self.words)

    @property
    def hlstm(self) -> MaskedHLSTM:
        """The H-LSTM, which becomes the run's model if it isn't yet."""
        self.model = self._hlstm
        return self._hlstm

    def snapshot(self, perplexity: float = math.inf) -> Snapshot:
        """The model as it is, on the CPU."""
        return take_snapshot(self.model, perplexity)

    def load(self, snapshot: Snapshot) -> None:
        """Restores the model."""
        load_snapshot(self.model if snapshot.masks is None else self.hlstm, snapshot)

    def accept(self, perplexity: float) -> None:
        """Keeps the model as the best so far: `revert` returns to it."""
        self.accepted = self.snapshot(perplexity)

    def revert(self) -> None:
        """Restores the last accepted model."""
        assert self.accepted is not None
        self.load(self.accepted)

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
            optimiser=make_optimiser(
                self.config, dict(self.model.named_parameters()), learning_rate
            ),
            state=self.model.zero_state(self._text.batch),
        )
        self.save()

    def train(self, *, at_epoch: Callable[[int], None] = lambda _: None) -> float:
        """The validation perplexity of the model, when the training that has begun is over.

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
        """Sets other masks of the H-LSTM before an epoch of a training.

        The epochs so far don't count any more, neither for the best model nor for the average.
        """
        descent, model = self._descent, self.hlstm
        assert descent is not None and descent.row == 0
        before = model.masks.weights
        for name, weight in model.weights.items():
            descent.wake(weight, before=before[name], after=masks.weights[name])
        model.masks = masks
        descent.state = model.zero_state(self._text.batch)
        descent.forget_best()

    def _train(self, descent: Descent, at_epoch: Callable[[int], None]) -> float:
        while descent.epoch < descent.max_epochs:
            if descent.row == 0:
                at_epoch(descent.epoch)
            self._train_epoch(descent)
            self._end_epoch(descent)
        assert descent.best is not None
        self.load(descent.best)
        self._descent = None
        return descent.best.perplexity

    def _train_epoch(self, descent: Descent) -> None:
        """Trains on the text from `descent.row` to its end."""
        self.model.train()
        began_s, first_row = time.perf_counter(), descent.row
        while descent.row < self._text.last:
            steps = self._text.draw_steps(descent.epoch, descent.row)
            descent.train_batch(
                self.model,
                self._text.words(descent.row, steps),
                self.config,
                self.ranks,
                self._text.last,
            )
            self._num_batches += 1
            self._tell(descent, began_s, first_row)
            # Not at the end of an epoch: only a model that can be validated is kept there.
            is_due = self._num_batches % self.config.checkpoint_batches == 0
            if is_due and descent.row < self._text.last:
                descent.check_next(
                    self.model, self._text.words(descent.row, self.config.steps), self.ranks
                )
                self.save()

    def _end_epoch(self, descent: Descent) -> None:
        """Validates, keeps the best model, lowers the rate if nothing improves, and saves."""
        with descent.averaged(self.model.parameters()):
            perplexity = self.evaluate("valid")
        if not math.isfinite(perplexity):
            raise NotFiniteError("the validation loss isn't a number")
        train_perplexity = perplexity_of(descent.loss_sum / max(descent.num_tokens, 1))
        if descent.is_improved_by(perplexity):
            with descent.averaged(self.model.parameters()):
                descent.best = self.snapshot(perplexity)
            descent.stalled = 0
        else:
            descent.stalled += 1
        self._epoch_rows.append(
            {
                "step": self.step,
                "round": self.notes.get("round", 0),
                "epoch": descent.epoch + 1,
                "train_perplexity": train_perplexity,
                "valid_perplexity": perplexity,
                "learning_rate": descent.rate(self.config, self._text.last),
                "averaging": descent.average is not None,
            }
        )
        descent.begin_averaging(self.config, self.model.parameters(), perplexity)
        descent.end_epoch(self.config, perplexity)
        descent.state = self.model.zero_state(self._text.batch)
        self.save()

    def _tell(self, descent: Descent, began_s: float, first_row: int) -> None:
        rows_per_s = (descent.row - first_row) / (time.perf_counter() - began_s)
        self._observe(
            Observation(
                step=self.step,
                round=int(self.notes.get("round", 0)),
                epoch=descent.epoch + 1,
                max_epochs=descent.max_epochs,
                fraction=descent.row / self._text.last,
                loss=descent.loss_sum / descent.num_tokens,
                learning_rate=descent.rate(self.config, self._text.last),
                tokens_per_s=rows_per_s * self._text.batch * self.ranks.size,
                seconds_left=descent.rows_left(self._text.last) / rows_per_s,
                valid_perplexity=descent.validations[-1] if descent.validations else None,
                num_batches=self._num_batches,
            )
        )

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

    def evaluate(self, split: str) -> float:
        """The model's perplexity on the `valid` or `test` text, or a `probe` of the training text.

        Each piece is read from a zero state. Only the first process does this: decisions depend
        on it, and another processor may round differently.
        """
        text_nb, steps = self._text.held_out[split], self.config.steps
        return self.ranks.ask_first(lambda: measure_perplexity(self.model, text_nb, steps=steps))

    def mean_gradient(self, weights: Tensors) -> dict[str, torch.Tensor]:
        """The gradient of all weights of the H-LSTM layer, living or not, over all words.

        The average over the training text, without dropout. Leaves the model as it was. Raises
        InvalidGradientError.
        """
        return measure_mean_gradient(
            self.hlstm,
            weights,
            self._text.train_nb,
            steps=self.config.steps,
            over_processes=self.ranks.average,
        )

    def end_step(self, row: Row, next_step: str) -> None:
        """Adds the step's row to the report, goes on to the next step, and saves the run."""
        self.rows.append(row)
        self.step, self.notes = next_step, {}
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
                    "model": pack_snapshot(self.snapshot()),
                    "accepted": None if self.accepted is None else pack_snapshot(self.accepted),
                    "descent": None if self._descent is None else pack_descent(self._descent),
                },
            )
            write_whole(self.directory / STEPS_LOG, to_lines(self.rows))
            write_whole(self.directory / EPOCHS_LOG, to_lines(self._epoch_rows))
        self.ranks.wait()

    def _own(self) -> dict[str, Any]:
        """The configuration and the text, as a checkpoint describes them."""
        return {"config": self.config.to_json(), **self._text.facts}

    def compare(self, saved: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
        """How the configuration and the text of a checkpoint differ from the run's, in words.

        Settings named in `but` may differ.
        """
        return differences(saved, self._own(), but=but)

    def begin_after(
        self, rows: Sequence[Row], epoch_rows: Sequence[Row], *, perplexity: float, next_step: str
    ) -> None:
        """Begins the run after the steps in these logs, with the present model; saves the run."""
        self.rows, self._epoch_rows = list(rows), list(epoch_rows)
        self.accept(perplexity)
        self.step = next_step
        self.save()

    def restore(self) -> None:
        """Restores the run as it was last saved.

        Settings that no finished step has used may differ now. Raises NoCheckpointError,
        CheckpointError, CheckpointConfigError.
        """
        path = self.directory / CHECKPOINT
        saved = read_checkpoint(path)
        told = self.compare(saved, but=may_change_in(saved["step"]))
        if len(saved["ranks"]) != self.ranks.size:
            told.append(f"{len(saved['ranks']):,} processes there, {self.ranks.size:,} now")
        if told:
            raise CheckpointConfigError(
                f"{path} is of a run with another configuration: {'; '.join(told)}",
                hint=f"{tell_may_change(saved['step'])}; for anything else begin another run",
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
                make_optimiser(self.config, dict(self.model.named_parameters()), rate),
                tuple(each.to(self.device) for each in own["state"]),
            )
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["random_cuda"])
