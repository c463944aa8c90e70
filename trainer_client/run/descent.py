"""One training of a model with a fresh optimiser, batch by batch to its end.

Holds the state of such a training. The task gives the batches; the run decides when the model is
validated and saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from profiler_service.errors import LhpError
from trainer_client.run.config import DescentConfig
from trainer_client.run.ranks import Ranks
from trainer_client.run.snapshot import Snapshot, pack_snapshot, unpack_snapshot
from trainer_client.run.task import Metric, State, Task


class DivergedError(LhpError):
    """The loss was no number any more, and lower rates didn't help."""


class NotFiniteError(LhpError):
    """The loss or a gradient isn't a number. The run goes back to its last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The progress of a run, for progress bars and dashboards."""

    step: str
    round: int
    epoch: int
    """Counted from 1."""
    max_epochs: int
    fraction: float
    """Share of the epoch that is done."""
    loss: float
    """Mean loss of the epoch so far."""
    learning_rate: float
    items_per_s: float
    item: str
    """What the task's batches consist of."""
    seconds_left: float
    """Seconds left in this training, if it takes all its epochs."""
    metric: str
    """The name of the metric."""
    valid: float | None
    """The metric of the last validation of this training; None before the first."""
    num_batches: int
    """Number of batches of the whole run so far."""


@dataclass(kw_only=True, eq=False)
class Descent:
    """One training with a fresh optimiser. Changes with every batch."""

    max_epochs: int
    learning_rate: float
    """The learning rate without warm-up, and before it falls."""
    stop_at: float | None
    """The training ends when the validation metric is this good."""
    min_epochs: int
    """It takes at least so many epochs."""
    optimiser: torch.optim.Optimizer
    state: State
    """The model's state at `position`."""
    epoch: int = 0
    position: int = 0
    num_batches: int = 0
    """Number of batches so far, of all epochs."""
    loss_sum: float = 0.0
    num_items: int = 0
    stalled: int = 0
    rollbacks: int = 0
    validations: list[float] = field(default_factory=list)
    best: Snapshot | None = None
    average: list[Tensor] | None = None
    num_averaged: int = 0

    def rate(self, config: DescentConfig, end: int) -> float:
        """The learning rate at `position`, by warm-up and schedule; an epoch ends at `end`."""
        share = 1.0
        if config.schedule == "linear":
            share -= (self.epoch + self.position / end) / self.max_epochs
        if self.num_batches < config.warmup_batches:
            share = min(share, (self.num_batches + 1) / config.warmup_batches)
        return self.learning_rate * share

    def positions_left(self, end: int) -> int:
        """The positions that are left if it takes all epochs; an epoch ends at `end`."""
        return (self.max_epochs - self.epoch) * end - self.position

    def describe(
        self,
        task: Task,
        config: DescentConfig,
        *,
        step: str,
        round_: int,
        items_per_s: float,
        num_processes: int,
        num_batches: int,
    ) -> Observation:
        """Its progress; `items_per_s` are those of this process."""
        items_per_position = self.num_items / self.position
        left = self.positions_left(task.end) * items_per_position
        return Observation(
            step=step,
            round=round_,
            epoch=self.epoch + 1,
            max_epochs=self.max_epochs,
            fraction=self.position / task.end,
            loss=self.loss_sum / self.num_items,
            learning_rate=self.rate(config, task.end),
            items_per_s=items_per_s * num_processes,
            item=task.item,
            seconds_left=left / items_per_s,
            metric=task.metric.name,
            valid=self.validations[-1] if self.validations else None,
            num_batches=num_batches,
        )

    def train_batch(
        self, model: nn.Module, task: Task, config: DescentConfig, ranks: Ranks
    ) -> None:
        """Trains on the batch at `position`, and moves to the next one.

        Raises NotFiniteError if the loss or its gradient isn't a number.
        """
        parameters = list(model.parameters())
        batch = task.draw(self.position, epoch=self.epoch)
        loss = task.find_loss(model, batch, self.state)
        self.optimiser.zero_grad(set_to_none=True)
        loss.penalised.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in parameters if p.grad is not None]
        loss_over_ranks = loss.value.detach().clone()
        # The loss, too, so that all ranks agree whether it is a number.
        ranks.average([*gradients, loss_over_ranks])
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        if not (loss_over_ranks.isfinite() and norm.isfinite()):
            raise NotFiniteError("the loss or its gradient isn't a number")
        rate = self.rate(config, task.end) * batch.rate_share
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.optimiser.step()
        self.add_to_average(parameters)
        self.state = loss.state
        self.num_batches += 1
        self.loss_sum += loss_over_ranks.item() * batch.count
        self.num_items += batch.count
        self.position = batch.end

    @torch.no_grad()
    def check_next(self, model: nn.Module, task: Task, ranks: Ranks) -> None:
        """Raises NotFiniteError if the model's loss on the next batch isn't a number.

        No loss was computed yet with the present weights. If a run went back to weights that give
        no number, it would fail again at any learning rate. Draws no random numbers.
        """
        model.eval()
        batch = task.draw(self.position, epoch=self.epoch)
        loss = task.find_loss(model, batch, self.state).value
        model.train()
        ranks.average([loss])
        if not loss.isfinite():
            raise NotFiniteError("the loss isn't a number")

    def is_improved_by(self, value: float, metric: Metric) -> bool:
        """Whether this validation is better than the best so far."""
        return self.best is None or metric.is_better(value, self.best.value)

    def end_epoch(self, config: DescentConfig, metric: Metric, value: float) -> None:
        """Begins the next epoch, with a lower rate if nothing has improved for long."""
        is_plateau = self.stalled >= config.patience_epochs
        if config.schedule == "plateau" and is_plateau:
            self.learning_rate /= config.rate_decay
            self.stalled = 0
        self.validations.append(value)
        self.epoch += 1
        self.position, self.loss_sum, self.num_items = 0, 0.0, 0
        is_good = self.stop_at is not None and metric.keeps(value, self.stop_at)
        if is_good and self.epoch >= self.min_epochs:
            self.max_epochs = self.epoch

    # NT-ASGD. Source: Merity et al., "Regularizing and Optimizing LSTM Language Models".

    def begin_averaging(
        self, config: DescentConfig, parameters: Iterable[Tensor], metric: Metric, value: float
    ) -> None:
        """Begins the average if this validation is worse than the best of some epochs ago."""
        earlier = self.validations[: -config.non_monotone_epochs]
        if (
            config.optimiser == "nt-asgd"
            and self.average is None
            and earlier
            and metric.is_better(metric.best(earlier), value)
        ):
            self.average = [p.detach().clone() for p in parameters]
            self.num_averaged = 1

    def add_to_average(self, parameters: Sequence[Tensor]) -> None:
        """Adds the parameters to the average, if there is one."""
        if self.average is not None:
            self.num_averaged += 1
            for mean, parameter in zip(self.average, parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 / self.num_averaged)

    def averaged(self, parameters: Iterable[Tensor]) -> _Swapped:
        """In this context, the parameters are their average, if there is one."""
        return _Swapped(list(parameters), self.average)

    def wake(self, weight: Tensor, *, before: Tensor, after: Tensor) -> None:
        """Gives Adam second moments for weights that live `after` but not `before` (bool masks).

        Adam has no second moment for a woken weight, but counts as many steps as for all others.
        With second moments of zero, its first steps would be several times as long as the rate
        allows. So they begin with the mean of the second moments of the same tensor.
        """
        seen = self.optimiser.state.get(weight, {})
        if "exp_avg_sq" in seen and bool(before.any()):
            squares = seen["exp_avg_sq"]
            squares[after.to(before) & ~before] = squares[before].mean()

    def forget_best(self) -> None:
        """Forgets the best model so far, and the average."""
        self.best = self.average = None
        self.num_averaged = 0


def make_optimiser(
    config: DescentConfig, task: Task, model: nn.Module, learning_rate: float
) -> torch.optim.Optimizer:
    """A fresh optimiser of the configured kind. Biases, which are called so, have no decay."""
    by_kind: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        decay = 0.0 if "bias" in name else config.weight_decay
        by_kind.setdefault((task.rate_factor(model, name), decay), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for (factor, decay), parameters in by_kind.items()
    ]
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=learning_rate)


def pack_descent(descent: Descent) -> dict[str, Any]:
    """All of it, packed for a checkpoint, except the model's state, which differs between ranks."""
    packed = {k: v for k, v in vars(descent).items() if k not in ("state", "optimiser", "best")}
    return {
        **packed,
        "optimiser": descent.optimiser.state_dict(),
        "best": None if descent.best is None else pack_snapshot(descent.best),
    }


def unpack_descent(
    packed: dict[str, Any], optimiser: torch.optim.Optimizer, state: State
) -> Descent:
    """The descent in a checkpoint, with a fresh `optimiser` and the rank's own `state`."""
    optimiser.load_state_dict(packed.pop("optimiser"))
    best, average = packed.pop("best"), packed.pop("average")
    device = optimiser.param_groups[0]["params"][0].device
    return Descent(
        optimiser=optimiser,
        state=state,
        best=None if best is None else unpack_snapshot(best),
        average=None if average is None else [t.to(device) for t in average],
        **packed,
    )


class _Swapped:
    """In this context, the parameters have these other values, if there are any."""

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
