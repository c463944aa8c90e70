"""One training run: descent over a text, and everything that survives a `kill -9`.

A run's state is all in memory and, every `checkpoint_batches` batches, all in one file: weights,
masks, optimiser, random states, position in the text, what the steps have noted. A run that is
resumed goes on from there, and on a CPU ends with the same bits.

Knows nothing of which steps there are, of the service, or of how progress is shown.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from profiler_service.errors import LhpError
from profiler_service.networks import HLSTMWeights
from trainer_client.checkpoint import (
    CheckpointConfigError,
    read_checkpoint,
    write_checkpoint,
    write_whole,
)
from trainer_client.config import (
    ANY_TIME_SETTINGS,
    FIRST_STEPS,
    LATER_SETTINGS,
    TrainingConfig,
)
from trainer_client.corpus import Corpus, batchify
from trainer_client.growth import InvalidGradientError, MeanGradient
from trainer_client.language_model import (
    LanguageModel,
    MaskedHLSTM,
    StackedLSTM,
    State,
    mean_loss,
)
from trainer_client.masks import Masks, full_masks
from trainer_client.ranks import Ranks

logger = logging.getLogger(__name__)

# Shapes: T time steps, B batch, N rows of a batchified text.

CHECKPOINT = "checkpoint.lhp"
STEPS_LOG = "steps.jsonl"
EPOCHS_LOG = "epochs.jsonl"
EVALUATION_BATCH = 10
"""Texts side by side when perplexity is measured."""

Row = dict[str, Any]
"""A line of a log: JSON-ready."""


class DivergedError(LhpError):
    """The loss stopped being a number, and lower rates didn't help."""


class NotFiniteError(LhpError):
    """A loss or a gradient that isn't a number: the run goes back to its last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Where a run is, for progress bars and dashboards."""

    step: str
    round: int
    epoch: int
    """From 1."""
    max_epochs: int
    fraction: float
    """Share of the epoch that is done."""
    loss: float
    """Mean of the epoch so far, nats a token."""
    learning_rate: float
    tokens_per_s: float
    seconds_left: float
    """Of this training, were it to take all its epochs."""
    valid_perplexity: float | None
    """Once an epoch, at its end."""
    num_batches: int
    """Of the whole run so far."""

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity_of(self.loss)


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A model at one moment."""

    weights: dict[str, Tensor]
    masks: Masks | None
    perplexity: float
    """On the validation text; infinite where it hasn't been measured."""


@dataclass(kw_only=True, eq=False)
class Descent:
    """One training, from fresh optimiser to its end. Changes with every batch."""

    max_epochs: int
    learning_rate: float
    """Before warm-up, and before it falls steadily."""
    stop_at: float | None
    """Ends once validation perplexity is this low."""
    optimiser: torch.optim.Optimizer
    state: State
    """The model's, at `row`."""
    epoch: int = 0
    row: int = 0
    loss_sum: float = 0.0
    num_tokens: int = 0
    stalled: int = 0
    rollbacks: int = 0
    validations: list[float] = field(default_factory=list)
    best: Snapshot | None = None
    average: list[Tensor] | None = None
    num_averaged: int = 0


def perplexity_of(loss: float) -> float:
    """exp(loss), infinite where that is beyond floats."""
    return math.exp(loss) if loss < 700 else math.inf


class TrainingRun:
    """A model on its way through the steps, and its files in `directory`."""

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
        """What the present step has to remember; JSON-ready."""
        self.rows: list[Row] = []
        """The report's, one for each step that has ended."""
        self.accepted: Snapshot | None = None
        self._epoch_rows: list[Row] = []
        self._num_batches = 0
        self._descent: Descent | None = None
        self._observe = observe
        self.vocabulary = len(corpus.vocabulary)
        self._text = [len(corpus.train), self.vocabulary]
        self._text_digest = _digest_of(corpus)
        few = config.max_held_out_tokens
        words_t = corpus.train[: config.max_train_tokens]
        train_nb = batchify(words_t, config.batch)
        self._train_nb = ranks.share_of(train_nb).to(self.device)
        self._held_out = {
            "valid": batchify(corpus.valid[:few], EVALUATION_BATCH).to(self.device),
            "test": batchify(corpus.test[:few], EVALUATION_BATCH).to(self.device),
        }
        directory.mkdir(parents=True, exist_ok=True)
        # Weights are drawn alike on all ranks, dropout isn't.
        torch.manual_seed(config.seed)
        self.model: LanguageModel = StackedLSTM(self.vocabulary, config).to(self.device)
        self._hlstm = MaskedHLSTM(self.vocabulary, config).to(self.device)
        count_v = torch.bincount(words_t, minlength=self.vocabulary)
        for model in (self.model, self._hlstm):
            model.set_word_counts(count_v.to(self.device))
        torch.manual_seed(config.seed + ranks.rank)

    # Models

    @property
    def hlstm(self) -> MaskedHLSTM:
        """The H-LSTM, which becomes the run's model where it wasn't."""
        self.model = self._hlstm
        return self._hlstm

    def snapshot(self, perplexity: float = math.inf) -> Snapshot:
        """The model as it is, on the CPU."""
        weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        masks = None
        if isinstance(self.model, MaskedHLSTM):
            masks = Masks(*(mask.cpu().clone() for mask in self.model.masks))
        return Snapshot(weights=weights, masks=masks, perplexity=perplexity)

    def load(self, snapshot: Snapshot) -> None:
        """Makes the model what it was."""
        if snapshot.masks is not None:
            gate_width, state_width = snapshot.masks.gate_ksg.shape[2:0:-1]
            model = self.hlstm
            if (gate_width, state_width) != model.widths:
                model.widen(gate_width=gate_width, state_width=state_width)
            model.load_state_dict(snapshot.weights)
            model.masks = snapshot.masks
        else:
            self.model.load_state_dict(snapshot.weights)

    def accept(self, perplexity: float) -> None:
        """Keeps the model as the best so far: what `revert` comes back to."""
        self.accepted = self.snapshot(perplexity)

    def revert(self) -> None:
        """Makes the model what was last accepted."""
        assert self.accepted is not None
        self.load(self.accepted)

    # Descent

    @property
    def is_training(self) -> bool:
        """Whether a training was begun, and has not been ended."""
        return self._descent is not None

    def begin_training(
        self, *, max_epochs: int, learning_rate: float, stop_at: float | None = None
    ) -> None:
        """Begins a training of the model with a fresh optimiser, and saves the run."""
        self._descent = Descent(
            max_epochs=max_epochs,
            learning_rate=learning_rate,
            stop_at=stop_at,
            optimiser=self._make_optimiser(learning_rate),
            state=self.model.zero_state(self._train_nb.shape[1]),
        )
        self.save()

    def train(self, *, at_epoch: Callable[[int], None] = lambda _: None) -> float:
        """The validation perplexity of the model, once the training that was begun is over.

        The model then is the one of the best epoch. Where the loss isn't a number, the run goes
        back to its last checkpoint and halves the rate, at most `max_rollbacks` times.
        `at_epoch` is called before each epoch, counted from 0, and may `grow`; in a run that was
        killed or went back, once more for an epoch that it was called for before, the model as it
        was then. Raises DivergedError, DiskFullError.
        """
        while True:
            assert self._descent is not None
            try:
                return self._train(self._descent, at_epoch)
            except (NotFiniteError, InvalidGradientError) as error:
                self._roll_back(error)

    def end_training(self) -> None:
        """Gives up the training that was begun; the model stays what it is."""
        self._descent = None

    def grow(self, masks: Masks) -> None:
        """Sets masks under which more weights of the H-LSTM live, in the midst of a training.

        The epochs so far are out of the contest for the best, and of the average. Of a woken weight
        Adam knows nothing, but counts as many steps as for all others: from second moments of zero
        its first steps would be several times as long as the rate allows. They begin with the mean
        of those that lived in the same tensor.
        """
        descent, model = self._descent, self.hlstm
        assert descent is not None
        for weight, before, after in zip(model.weights, model.masks, masks, strict=True):
            seen = descent.optimiser.state.get(weight, {})
            if "exp_avg_sq" in seen and bool(before.any()):
                squares = seen["exp_avg_sq"]
                squares[after.to(before) & ~before] = squares[before].mean()
        model.masks = masks
        descent.best = descent.average = None
        descent.num_averaged = 0

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
        """Goes through the training text from `descent.row` to its end."""
        last = len(self._train_nb) - 1
        parameters = list(self.model.parameters())
        self.model.train()
        began_s, first_row = time.perf_counter(), descent.row
        while descent.row < last:
            steps = min(self.config.steps, last - descent.row)
            words = self._train_nb[descent.row : descent.row + steps + 1]
            scores_nv, state = self.model(words[:-1], descent.state)
            loss = mean_loss(scores_nv, words[1:].flatten())
            descent.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in parameters if p.grad is not None]
            loss_over_ranks = loss.detach().clone()
            # The loss, too: all ranks then see alike whether it is a number.
            self.ranks.average([*gradients, loss_over_ranks])
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            if not (loss_over_ranks.isfinite() and norm.isfinite()):
                raise NotFiniteError("the loss or its gradient isn't a number")
            for group in descent.optimiser.param_groups:
                group["lr"] = self._rate_of(descent)
            descent.optimiser.step()
            self._add_to_average(descent, parameters)
            count = words[1:].numel()
            descent.state = state
            descent.loss_sum += loss_over_ranks.item() * count
            descent.num_tokens += count
            descent.row += steps
            self._num_batches += 1
            self._tell(descent, began_s, first_row)
            # Not at the end of an epoch: only a model that can be validated is kept there.
            is_due = self._num_batches % self.config.checkpoint_batches == 0
            if is_due and descent.row < last:
                self._check_next(descent)
                self.save()

    @torch.no_grad()
    def _check_next(self, descent: Descent) -> None:
        """Raises NotFiniteError where the model's loss on the words to come isn't a number.

        No loss so far is of the weights as they are now: a run that is to come back to them
        would fail again, at any rate. Draws no random numbers.
        """
        words = self._train_nb[descent.row : descent.row + self.config.steps + 1]
        self.model.eval()
        scores_nv, _ = self.model(words[:-1], descent.state)
        self.model.train()
        loss = mean_loss(scores_nv, words[1:].flatten())
        self.ranks.average([loss])
        if not loss.isfinite():
            raise NotFiniteError("the loss isn't a number")

    def _end_epoch(self, descent: Descent) -> None:
        """Validates; keeps the best; lowers the rate where nothing improves; saves."""
        perplexity = self._validate(descent)
        if not math.isfinite(perplexity):
            raise NotFiniteError("the validation loss isn't a number")
        train_perplexity = perplexity_of(descent.loss_sum / max(descent.num_tokens, 1))
        best = math.inf if descent.best is None else descent.best.perplexity
        if perplexity < best or descent.best is None:
            with self._averaged(descent):
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
                "learning_rate": self._rate_of(descent),
                "averaging": descent.average is not None,
            }
        )
        self._begin_averaging(descent, perplexity)
        is_plateau = descent.stalled >= self.config.patience_epochs
        if self.config.schedule == "plateau" and is_plateau:
            descent.learning_rate /= self.config.rate_decay
            descent.stalled = 0
        descent.validations.append(perplexity)
        descent.epoch += 1
        descent.row, descent.loss_sum, descent.num_tokens = 0, 0.0, 0
        descent.state = self.model.zero_state(self._train_nb.shape[1])
        if descent.stop_at is not None and perplexity <= descent.stop_at:
            descent.max_epochs = descent.epoch
        self.save()

    def _validate(self, descent: Descent) -> float:
        with self._averaged(descent):
            return self.evaluate("valid")

    def _tell(self, descent: Descent, began_s: float, first_row: int) -> None:
        last = len(self._train_nb) - 1
        rows_per_s = (descent.row - first_row) / (time.perf_counter() - began_s)
        rows_left = (descent.max_epochs - descent.epoch) * last - descent.row
        self._observe(
            Observation(
                step=self.step,
                round=int(self.notes.get("round", 0)),
                epoch=descent.epoch + 1,
                max_epochs=descent.max_epochs,
                fraction=descent.row / last,
                loss=descent.loss_sum / descent.num_tokens,
                learning_rate=self._rate_of(descent),
                tokens_per_s=rows_per_s * self._train_nb.shape[1] * self.ranks.size,
                seconds_left=rows_left / rows_per_s,
                valid_perplexity=descent.validations[-1] if descent.validations else None,
                num_batches=self._num_batches,
            )
        )

    def _make_optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        parameters, decay = self.model.parameters(), self.config.weight_decay
        if self.config.optimiser == "adamw":
            return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=decay, fused=True)
        return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=decay)

    def _rate_of(self, descent: Descent) -> float:
        """The learning rate at the descent's place in the text, by warm-up and schedule."""
        config, last = self.config, len(self._train_nb) - 1
        num_before = descent.epoch * math.ceil(last / config.steps)
        num_before += math.ceil(descent.row / config.steps)
        share = 1.0
        if config.schedule == "linear":
            share -= (descent.epoch + descent.row / last) / descent.max_epochs
        if num_before < config.warmup_batches:
            share = min(share, (num_before + 1) / config.warmup_batches)
        return descent.learning_rate * share

    def _roll_back(self, error: LhpError) -> None:
        """Goes back to the last checkpoint with half the rate. Raises DivergedError."""
        self.restore()
        descent = self._descent
        assert descent is not None
        if descent.rollbacks >= self.config.max_rollbacks:
            raise DivergedError(
                f"{error} in step {self.step}, at a learning rate of {descent.learning_rate:g},"
                f" after {descent.rollbacks} times going back and halving it",
                hint=f"{self.directory} has the last checkpoint and the models of the steps that"
                " ended; begin anew with a lower clip_norm or learning_rate or, where that is what"
                " diverged, --start-from it with a lower retrain_learning_rate",
            ) from error
        descent.rollbacks += 1
        descent.learning_rate /= 2
        self.save()

    # NT-ASGD. Source: Merity et al., "Regularizing and Optimizing LSTM Language Models".

    def _begin_averaging(self, descent: Descent, perplexity: float) -> None:
        earlier = descent.validations[: -self.config.non_monotone_epochs]
        if (
            self.config.optimiser == "nt-asgd"
            and descent.average is None
            and earlier
            and perplexity > min(earlier)
        ):
            descent.average = [p.detach().clone() for p in self.model.parameters()]
            descent.num_averaged = 1

    def _add_to_average(self, descent: Descent, parameters: Sequence[Tensor]) -> None:
        if descent.average is not None:
            descent.num_averaged += 1
            for mean, parameter in zip(descent.average, parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 / descent.num_averaged)

    def _averaged(self, descent: Descent) -> _Swapped:
        return _Swapped(list(self.model.parameters()), descent.average)

    # Measures of the model

    def evaluate(self, split: str) -> float:
        """The model's perplexity on the `valid` or `test` text.

        The text is read as EVALUATION_BATCH pieces side by side, each from a zero state. By the
        first process alone: decisions rest on it, and another processor's last bit would be
        another decision.
        """
        return self.ranks.ask_first(lambda: self._evaluate(split))

    @torch.no_grad()
    def _evaluate(self, split: str) -> float:
        text_nb = self._held_out[split]
        state = self.model.zero_state(text_nb.shape[1])
        self.model.eval()
        loss_sum, count = 0.0, 0
        for row in range(0, len(text_nb) - 1, self.config.steps):
            words = text_nb[row : row + self.config.steps + 1]
            scores_nv, state = self.model(words[:-1], state)
            targets = words[1:].flatten()
            loss_sum += float(F.cross_entropy(scores_nv.float(), targets, reduction="sum"))
            count += len(targets)
        return perplexity_of(loss_sum / count)

    def mean_gradient(self, weights: HLSTMWeights) -> HLSTMWeights:
        """The gradient at these weights of the H-LSTM's layer, whatever lives, over all words.

        The average over the training text, without dropout. Leaves the model as it was. Raises
        InvalidGradientError.
        """
        model = self.hlstm
        kept_masks, kept = model.masks, HLSTMWeights(*(w.detach().clone() for w in model.weights))
        model.masks = full_masks(model.weights)
        model.load_weights(weights)
        model.eval()
        mean = MeanGradient()
        state = model.zero_state(self._train_nb.shape[1])
        parameters = list(model.weights)
        for row in range(0, len(self._train_nb) - 1, self.config.steps):
            words = self._train_nb[row : row + self.config.steps + 1]
            scores_nv, state = model(words[:-1], state)
            loss = mean_loss(scores_nv, words[1:].flatten())
            gradients = torch.autograd.grad(loss, parameters)
            mean.add(HLSTMWeights(*gradients), count=words[1:].numel())
        model.masks = kept_masks
        model.load_weights(kept)
        return mean.mean(over_processes=self.ranks.average)

    # Files

    def end_step(self, row: Row, next_step: str) -> None:
        """Adds the step's row to the report, and goes on to the next step; saves the run."""
        self.rows.append(row)
        self.step, self.notes = next_step, {}
        self.save()

    def save(self) -> None:
        """Returns once the run can be resumed from here. Raises DiskFullError."""
        own = {
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "state": None if self._descent is None else [t.cpu() for t in self._descent.state],
        }
        ranks = self.ranks.gather(own)
        if self.ranks.rank == 0:
            write_whole(self.directory / STEPS_LOG, to_lines(self.rows))
            write_whole(self.directory / EPOCHS_LOG, to_lines(self._epoch_rows))
            write_checkpoint(
                self.directory / CHECKPOINT,
                {
                    "config": self.config.to_json(),
                    "text": self._text,
                    "text_digest": self._text_digest,
                    "step": self.step,
                    "notes": self.notes,
                    "rows": self.rows,
                    "epoch_rows": self._epoch_rows,
                    "num_batches": self._num_batches,
                    "ranks": ranks,
                    "model": _pack(self.snapshot()),
                    "accepted": None if self.accepted is None else _pack(self.accepted),
                    "descent": None if self._descent is None else _pack_descent(self._descent),
                },
            )
        self.ranks.wait()

    def compare(self, saved: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
        """How the configuration and the text of a checkpoint differ from the run's, in words.

        Settings named in `but` may differ.
        """
        there, mine = saved["config"], self.config.to_json()
        told = [
            f"{name}={there.get(name)!r} there, {mine.get(name)!r} now"
            for name in sorted(mine | there)
            if name not in but and there.get(name, "nothing") != mine.get(name, "nothing")
        ]
        for name, theirs, own in zip(
            ("tokens to train on", "words"), saved["text"], self._text, strict=True
        ):
            if theirs != own:
                told.append(f"{theirs:,} {name} there, {own:,} now")
        if saved["text"] == self._text and saved.get("text_digest") != self._text_digest:
            told.append("texts of the same size, but of other words")
        return told

    def begin_after(
        self, rows: Sequence[Row], epoch_rows: Sequence[Row], *, perplexity: float, next_step: str
    ) -> None:
        """Begins the run after the steps of these logs, its model as it is; saves the run."""
        self.rows, self._epoch_rows = list(rows), list(epoch_rows)
        self.accept(perplexity)
        self.step = next_step
        self.save()

    def restore(self) -> None:
        """Makes the run what it was when last saved.

        Settings that nothing has been done by yet may be others now. Raises NoCheckpointError,
        CheckpointError, CheckpointConfigError.
        """
        path = self.directory / CHECKPOINT
        saved = read_checkpoint(path)
        may_differ = LATER_SETTINGS if saved["step"] in FIRST_STEPS else ANY_TIME_SETTINGS
        told = self.compare(saved, but=may_differ)
        if len(saved["ranks"]) != self.ranks.size:
            told.append(f"{len(saved['ranks']):,} processes there, {self.ranks.size:,} now")
        if told:
            raise CheckpointConfigError(
                f"{path} is of a run that was configured otherwise: {'; '.join(told)}",
                hint="go on with the same settings, or choose another directory",
            )
        for change in self.compare(saved):
            logger.info("from here on: %s", change)
        self.step = saved["step"]
        # In place: after going back, the step that holds the notes goes on with them.
        self.notes.clear()
        self.notes.update(saved["notes"])
        self.rows, self._epoch_rows = saved["rows"], saved["epoch_rows"]
        self._num_batches = saved["num_batches"]
        self.load(_unpack(saved["model"]))
        self.accepted = None if saved["accepted"] is None else _unpack(saved["accepted"])
        own, kept = saved["ranks"][self.ranks.rank], saved["descent"]
        self._descent = None
        if kept is not None:
            optimiser = self._make_optimiser(kept["learning_rate"])
            optimiser.load_state_dict(kept.pop("optimiser"))
            best, average = kept.pop("best"), kept.pop("average")
            self._descent = Descent(
                optimiser=optimiser,
                state=tuple(each.to(self.device) for each in own["state"]),
                best=None if best is None else _unpack(best),
                average=None if average is None else [t.to(self.device) for t in average],
                **kept,
            )
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["random_cuda"])


class _Swapped:
    """While entered, the parameters have other values, where there are any."""

    def __init__(self, parameters: Sequence[Tensor], values: Sequence[Tensor] | None) -> None:
        self._parameters = parameters
        self._values = values

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        if self._values is not None:
            for parameter, value in zip(self._parameters, self._values, strict=True):
                kept = parameter.clone()
                parameter.copy_(value)
                value.copy_(kept)


def to_lines(rows: Sequence[Row]) -> bytes:
    """What a log of these rows consists of."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _digest_of(corpus: Corpus) -> str:
    """SHA-256 of the ids of all three texts: their words, but for their names."""
    digest = hashlib.sha256()
    for text_t in (corpus.train, corpus.valid, corpus.test):
        digest.update(text_t.numpy().tobytes() + b"|")
    return digest.hexdigest()


def _pack(snapshot: Snapshot) -> dict[str, Any]:
    masks = None if snapshot.masks is None else list(snapshot.masks)
    return {"weights": snapshot.weights, "masks": masks, "perplexity": snapshot.perplexity}


def _unpack(packed: dict[str, Any]) -> Snapshot:
    masks = None if packed["masks"] is None else Masks(*packed["masks"])
    return Snapshot(weights=packed["weights"], masks=masks, perplexity=packed["perplexity"])


def _pack_descent(descent: Descent) -> dict[str, Any]:
    """All of it but the model's state, which differs from rank to rank."""
    packed = {k: v for k, v in vars(descent).items() if k not in ("state", "optimiser", "best")}
    return {
        **packed,
        "optimiser": descent.optimiser.state_dict(),
        "best": None if descent.best is None else _pack(descent.best),
    }
