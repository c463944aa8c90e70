"""Compresses a module of your own: it gets smaller, as fast as the hardware allows, and stays good.

    found = compress(module, task, oracle, directory="run")
    found.module    # an ordinary module of the same class, with fewer units

It is the library's side of `lhp-train`: any task, any module whose units can be found.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from torch import nn

from trainer_client.groups.layout import Layout
from trainer_client.groups.network import MaskedModule, masked
from trainer_client.methods.grow_prune.config import GrowPruneConfig, may_change_in
from trainer_client.methods.grow_prune.synthesis import find_widths, synthesise
from trainer_client.oracle.protocol import LatencyOracle
from trainer_client.run.checkpoint import hold_directory
from trainer_client.run.descent import Observation
from trainer_client.run.logs import CHECKPOINT, Row
from trainer_client.run.ranks import Ranks
from trainer_client.run.task import Task
from trainer_client.run.training_run import TrainingRun

M = TypeVar("M", bound=nn.Module)

DEFAULT = GrowPruneConfig(
    preset="own",
    optimiser="adamw",
    learning_rate=3e-3,
    retrain_learning_rate=1e-3,
    weight_decay=0.0,
    clip_norm=1.0,
    schedule="linear",
    baseline_epochs=20,
    growth_epochs=4,
    growth_settling_epochs=16,
    retrain_epochs=6,
    prune_epochs=2,
    lhp_epochs=6,
    woken_start="search",
    min_prune_ratio=0.02,
)
"""Settings for a module that trains in minutes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed(Generic[M]):
    """A compressed module, and how it came about."""

    module: M
    """Of the class of the module that was given, without masks, in evaluation mode."""
    rows: Sequence[Row]
    """The rows of the report, one a step."""
    layout: Layout
    widths: Mapping[str, int]
    """The number of units by axis."""


def compress(
    module: M,
    task: Task,
    oracle: LatencyOracle | None = None,
    *,
    example: Sequence[Any] = (),
    directory: str | os.PathLike[str],
    method: Literal["grow_prune"] = "grow_prune",
    groups: Layout | Literal["auto"] = "auto",
    config: GrowPruneConfig = DEFAULT,
    observe: Callable[[Observation], None] = lambda _: None,
) -> Compressed[M]:
    """The module after the four steps of Yin et al., smaller and without masks.

    The module itself stays as it is: a copy is trained as the baseline, and another one is made
    compact. With `config.route="trained"`, the module comes trained, and (a) is left out. `example`
    is what the module is called with: with `groups="auto"`, its units are found by running it.
    Without an oracle, or if the task has no question, (c) is left out.

    The run's files are in `directory`. If a run is there already, it goes on from its last
    checkpoint. Raises LayoutError for a module without units, ConflictError if another process is
    in the directory, CheckpointConfigError if the run there is another one, and what the steps
    raise.
    """
    if oracle is None:
        config = config.with_changes({"when_away": "skip"})
    layout = groups if isinstance(groups, Layout) else None
    compact = masked(copy.deepcopy(module), *example, layout=layout)
    out = Path(directory)
    device = next(module.parameters()).device
    ranks = Ranks(device)
    with contextlib.ExitStack() as stack:
        stack.callback(ranks.close)
        if ranks.rank == 0:
            stack.enter_context(hold_directory(out))
        run = TrainingRun(
            config,
            task,
            out,
            baseline=copy.deepcopy(module),
            compact=compact,
            ranks=ranks,
            device=device,
            observe=observe,
            may_change_in=may_change_in,
        )
        if (out / CHECKPOINT).exists():
            run.restore()
        synthesise(run, oracle)
        run.revert()
        network = run.compact
        assert isinstance(network, MaskedModule)
        widths = find_widths(run)
        small: Any = network.shrunk(widths)
    return Compressed(module=small.eval(), rows=run.rows, layout=network.layout, widths=widths)
