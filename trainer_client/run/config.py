"""How a run descends: optimiser, rates, checkpoints. Any task and any method need these.

Knows no files and no command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer_client.run.settings import POSITIVE, Check, Settings, at_least, one_of

Optimiser = Literal["sgd", "nt-asgd", "adamw"]
Schedule = Literal["plateau", "linear"]


@dataclass(frozen=True, kw_only=True)
class DescentConfig(Settings):
    """The choices of a descent. The defaults are those of Yin et al., for language models."""

    preset: str = "paper"
    seed: int = 0
    """Seed of all random numbers of the run."""
    optimiser: Optimiser = "sgd"
    """`sgd`, `nt-asgd` (SGD whose weights are averaged when validation stalls) or `adamw`."""
    learning_rate: float = 30.0
    """Learning rate of the baseline and of step (a)."""
    weight_decay: float = 1.2e-6
    """Weight decay of the optimiser. Biases have none."""
    clip_norm: float = 0.25
    """Largest norm of a gradient; larger ones are scaled down to it."""
    warmup_batches: int = 0
    """Number of batches at the start of each training during which the rate rises from near 0.
    Without this, Adam's first steps damage the trained weights, because its second moments come
    from only a few batches."""
    schedule: Schedule = "plateau"
    """How the rate falls. `plateau`: when validation stalls. `linear`: steadily, to 0 after the
    largest number of epochs that the training may take."""
    patience_epochs: int = 50
    """With `plateau`: number of epochs without a better validation after which the rate falls."""
    rate_decay: float = 10.0
    """With `plateau`: the rate is divided by this number then."""
    non_monotone_epochs: int = 5
    """NT-ASGD starts to average when validation is worse than its best of this many epochs ago."""
    checkpoint_s: float = 60.0
    """Seconds between two checkpoints."""
    max_rollbacks: int = 5
    """How often the run may go back to its last checkpoint after a loss that isn't finite."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "seed": (lambda value: 0 <= value < 2**63, "a whole number from 0 to 2⁶³ − 1"),
        "optimiser": one_of(Optimiser),
        **dict.fromkeys(("learning_rate", "clip_norm"), POSITIVE),
        "weight_decay": at_least(0),
        "warmup_batches": at_least(0),
        "schedule": one_of(Schedule),
        "patience_epochs": at_least(1),
        "rate_decay": (lambda value: 1 < value < float("inf"), "above 1"),
        "non_monotone_epochs": at_least(1),
        "checkpoint_s": at_least(0),
        "max_rollbacks": at_least(0),
    }
