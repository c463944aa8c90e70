"""The processes that train one model together. Each has a share of every batch.

Knows nothing of models. All processes have the same weights and make the same updates: before every
update, one all-reduce averages the gradients.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from profiler_service.errors import InvalidRequestError, LhpError

T = TypeVar("T")

LONGEST_WAIT = dt.timedelta(hours=3)
"""How long to wait for another process. The first one may wait an hour for the service, and
another hour for a measurement."""


def choose_device() -> torch.device:
    """The CUDA device of this process, which becomes its current one; or the CPU.

    `torchrun` numbers the processes of one host by `LOCAL_RANK`; NCCL needs a device for each.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


class Ranks:
    """The processes that `torchrun` started; a single one without `torchrun`."""

    def __init__(self, device: torch.device) -> None:
        """Joins the others, with NCCL on CUDA, otherwise with gloo."""
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT
            )

    def close(self) -> None:
        """Leaves the others."""
        if self.size > 1:
            dist.destroy_process_group()

    def share_of(self, text_nb: Tensor) -> Tensor:
        """This process's columns of a batchified text. Raises InvalidRequestError."""
        batch = text_nb.shape[1]
        if batch % self.size:
            raise InvalidRequestError(
                f"a batch of {batch} can't be shared by {self.size} processes",
                hint="choose a batch that is a multiple of the number of processes",
            )
        return text_nb.tensor_split(self.size, dim=1)[self.rank].contiguous()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes, with the same bits on each."""
        if self.size == 1:
            return
        flat = torch.cat([each.flatten() for each in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for each, mean in zip(
            tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True
        ):
            each.copy_(mean.view_as(each))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def ask_first(self, question: Callable[[], T]) -> T:
        """The result of `question` on the first process, sent to all.

        An LhpError that it raises is raised on all, so that no process waits for ever.
        """
        answer: T | None = None
        error: LhpError | None = None
        if self.rank == 0:
            try:
                answer = question()
            except LhpError as raised:
                error = raised
        answer, error = self.gather((answer, error))[0]
        if error is not None:
            raise error
        return cast(T, answer)

    def wait(self) -> None:
        """Returns when every process has called it."""
        if self.size > 1:
            dist.barrier()
