"""A task from batches in memory: inputs, targets, a loss and a metric of your own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from profiler_service.errors import InvalidRequestError
from trainer_client.run.logs import DIGEST
from trainer_client.run.task import Batch, Loss, Metric, Question, Split, State, Task

Pair = tuple[Any, Any]
"""The inputs of a module (a tensor, or a tuple of several) and the targets of its outputs."""
PROBE_SHARE = 0.1
"""Share of the training batches on which variants of a model are compared."""


class Supervised(Task):
    """Learns from batches of inputs and targets, in a new order in each epoch.

    The module is called with a batch's inputs; `loss(outputs, targets)` is a mean over the batch,
    and `score(outputs, targets)` the metric as a mean over the batch (the loss, if it is left
    out). Every process of a run takes all batches: use this with one process.
    """

    item = "batches"

    def __init__(
        self,
        train: Sequence[Pair],
        valid: Sequence[Pair],
        *,
        loss: Callable[[Any, Any], Tensor],
        test: Sequence[Pair] = (),
        score: Callable[[Any, Any], float] | None = None,
        metric: Metric | None = None,
        ask_about: Callable[[Mapping[str, int]], Question] | None = None,
        seed: int = 0,
    ) -> None:
        """Without `test`, the validation data stand for it.

        `ask_about` returns the question to the latency oracle about a module with these widths by
        axis. Raises InvalidRequestError if there is nothing to train on or to validate with, or if
        there is a score without a metric.
        """
        if not train or not valid:
            raise InvalidRequestError(
                f"there are {len(train)} batches to train on and {len(valid)} to validate with",
                hint="give at least one of each",
            )
        if score is not None and metric is None:
            raise InvalidRequestError(
                "what the score means isn't said",
                hint='for example metric=Metric(name="accuracy", lower_is_better=False)',
            )
        self.metric = metric or Metric(name="loss")
        self.end = len(train)
        self._train = train
        few = max(1, math.ceil(PROBE_SHARE * len(train)))
        self._held_out: dict[Split, Sequence[Pair]] = {
            "valid": valid,
            "test": test or valid,
            "probe": train[:few],
        }
        self._loss = loss
        self._score = score or (lambda outputs, targets: float(loss(outputs, targets)))
        self._ask_about = ask_about
        self._seed = seed
        self._facts: dict[str, int | str] = {
            "batches to train on": len(train),
            DIGEST: _digest_of([*train, *valid, *test]),
        }

    @property
    def facts(self) -> Mapping[str, int | str]:  # noqa: D102  inherited
        return self._facts

    def draw(self, position: int, *, epoch: int | None) -> Batch:
        """One batch."""
        which = position
        if epoch is not None:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            which = int(torch.randperm(self.end, generator=generator)[position])
        return Batch(content=self._train[which], count=1, end=position + 1)

    def find_loss(self, model: nn.Module, batch: Batch, state: State) -> Loss:
        """The loss of the outputs."""
        inputs, targets = batch.content
        loss = self._loss(_call(model, inputs), targets).float()
        return Loss(value=loss, penalised=loss)

    @torch.no_grad()
    def measure(self, model: nn.Module, split: Split) -> float:
        """The mean score of the batches."""
        model.eval()
        pairs = self._held_out[split]
        return sum(self._score(_call(model, x), targets) for x, targets in pairs) / len(pairs)

    def describe(self, model: nn.Module) -> Mapping[str, Any]:
        """The number of its parameters, masked ones included."""
        return {"parameters": sum(each.numel() for each in model.parameters())}

    def ask_about(self, dims: Mapping[str, int]) -> Question | None:  # noqa: D102  inherited
        return None if self._ask_about is None else self._ask_about(dims)


def _call(model: nn.Module, inputs: Any) -> Any:
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _digest_of(pairs: Sequence[Pair]) -> str:
    """SHA-256 of all tensors."""
    digest = hashlib.sha256()
    for each in pytree.tree_leaves(list(pairs)):
        if isinstance(each, Tensor):
            digest.update(f"{each.dtype} {tuple(each.shape)}".encode())
            digest.update(each.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
