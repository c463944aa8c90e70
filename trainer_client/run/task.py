"""What a run trains on: a task gives batches, a loss and a metric.

A run, its descent and a method know no more of a task than this.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from profiler_service.workload import Dims, ParamValue

State = tuple[Tensor, ...]
"""What a model passes from one batch to the next, detached; empty if it passes nothing."""
Split = Literal["valid", "test", "probe"]
"""Held-out data that decide, those that are only reported, and a part of the training data, on
which variants of a model are compared before they are trained."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How well a model does, as one number."""

    name: str
    """As in `perplexity`; rows of a report have `valid_perplexity` and `test_perplexity`."""
    lower_is_better: bool = True

    @property
    def worst(self) -> float:
        """The value that any other is better than."""
        return math.inf if self.lower_is_better else -math.inf

    def is_better(self, value: float, than: float) -> bool:
        """Whether the first value is better than the second; never for NaN."""
        return value < than if self.lower_is_better else value > than

    def keeps(self, value: float, threshold: float) -> bool:
        """Whether the value is at least as good as the threshold; never for NaN."""
        return value <= threshold if self.lower_is_better else value >= threshold

    def worse_by(self, value: float, share: float) -> float:
        """A value that is worse by a share of its size."""
        worse = share * abs(value)
        return value + worse if self.lower_is_better else value - worse

    def best(self, values: Sequence[float]) -> float:
        """The best of several values."""
        return min(values) if self.lower_is_better else max(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A piece of the training data."""

    content: Any
    """What the task's own loss takes."""
    count: int
    """How many items the loss is a mean over."""
    end: int
    """The position after it."""
    rate_share: float = 1.0
    """The learning rate is multiplied by this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """The loss on a batch. Both values are float32 scalars."""

    value: Tensor
    """The mean over the batch's items."""
    penalised: Tensor
    """What is descended: the value, and penalties."""
    state: State = ()
    """The model's state after the batch."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a latency oracle is asked about a model."""

    axes: tuple[str, ...]
    """The axes of the model's layout, in the order of the workload's dims."""
    dims: Dims
    workload: str
    params: Mapping[str, ParamValue] = field(default_factory=dict)


class Task(abc.ABC):
    """A task. Positions count through an epoch of this process' share of the training data."""

    metric: Metric
    item: str = "items"
    """What batches consist of, in the plural: tokens, sequences."""
    end: int
    """The position after the last batch of an epoch."""
    weight_dtype: torch.dtype = torch.float32
    """The dtype to which float32 weights are rounded before anything is computed with them."""

    @property
    @abc.abstractmethod
    def facts(self) -> Mapping[str, int | str]:
        """What tells these data from others: numbers by name, and a `digest` of all of them.

        A run goes on only with equal ones.
        """

    @abc.abstractmethod
    def draw(self, position: int, *, epoch: int | None) -> Batch:
        """The batch at the position; the same one whenever it is asked for.

        `epoch` None asks for the data in a fixed order, as one pass over all of them.
        """

    def begin_state(self, model: nn.Module) -> State:
        """The state of the model before the first batch."""
        return ()

    def rate_factor(self, model: nn.Module, parameter: str) -> float:
        """What the learning rate is multiplied by for the parameter of this name."""
        return 1.0

    @abc.abstractmethod
    def find_loss(self, model: nn.Module, batch: Batch, state: State) -> Loss:
        """The loss of the model on the batch."""

    @abc.abstractmethod
    def measure(self, model: nn.Module, split: Split) -> float:
        """The metric of the model, in evaluation mode, on these data."""

    def describe(self, model: nn.Module) -> Mapping[str, Any]:
        """What a row of the report says about the model; JSON-ready."""
        return {}

    def describe_loss(self, loss: float) -> Mapping[str, float]:
        """What the log of epochs says about the mean loss in training."""
        return {"train_loss": loss}

    def ask_about(self, dims: Mapping[str, int]) -> Question | None:
        """The question about a model with these widths by axis; None if nothing can be asked."""
        return None

    def sparse_products(self, dims: Mapping[str, int]) -> Sequence[tuple[int, int]]:
        """The products (rows, columns) that sparse kernels would carry out at every step."""
        return ()
