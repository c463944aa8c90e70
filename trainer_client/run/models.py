"""The models of a run: the baseline, the network that becomes compact, and the best so far."""

from __future__ import annotations

import math

from torch import nn

from trainer_client.groups.network import MaskedNetwork
from trainer_client.run.descent import NotFiniteError
from trainer_client.run.snapshot import Snapshot, load_snapshot, take_snapshot
from trainer_client.run.task import Metric


class RunModels:
    """The models of a run. One of them is the one that is trained."""

    def __init__(self, baseline: nn.Module, compact: MaskedNetwork, metric: Metric) -> None:
        self.model: nn.Module = baseline
        """The one that is trained; first the baseline."""
        self.accepted: Snapshot | None = None
        """The best so far."""
        self._compact = compact
        self._metric = metric

    @property
    def compact(self) -> MaskedNetwork:
        """The network that becomes compact; it becomes the run's model if it isn't yet."""
        self.model = self._compact
        return self._compact

    @property
    def widest(self) -> dict[str, int]:
        """The widths of the compact network by axis, units that don't live included."""
        return self._compact.widths

    def snapshot(self, value: float) -> Snapshot:
        """The model as it is, on the CPU."""
        return take_snapshot(self.model, value)

    def load(self, snapshot: Snapshot) -> None:
        """Restores the model."""
        load_snapshot(self.model if snapshot.masks is None else self.compact, snapshot)

    def accept(self, value: float) -> None:
        """Keeps the model as the best so far: `revert` returns to it.

        `value` is its metric on the validation data. Raises NotFiniteError if that isn't a number.
        """
        if math.isnan(value):
            raise NotFiniteError(
                f"the {self._metric.name} of the model isn't a number",
                hint="check the task's metric on the validation data, and the module's outputs",
            )
        self.accepted = self.snapshot(value)

    def revert(self) -> None:
        """Restores the last accepted model."""
        assert self.accepted is not None
        self.load(self.accepted)
