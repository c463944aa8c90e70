"""The choices of grow-and-prune: how much each step grows or prunes, and when it ends.

Source: section 5.1 of Yin et al. The defaults are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer_client.run.config import DescentConfig
from trainer_client.run.settings import (
    POSITIVE,
    RATIO,
    SHARE,
    Check,
    InvalidConfigError,
    at_least,
    one_of,
)

Route = Literal["dense", "sparse", "measured", "trained"]
WhenAway = Literal["fail", "skip"]
WokenStart = Literal["step", "search"]


@dataclass(frozen=True, kw_only=True)
class GrowPruneConfig(DescentConfig):
    """The choices of the four steps, and of every descent in them."""

    route: Route = "dense"
    """Which steps follow (a). `sparse` goes from (a) directly to (d), for kernels that skip zeros.
    `measured` decides after (a), from the crossovers that the service measures."""
    threshold: float | None = None
    """The value of the metric on the validation data that pruning has to keep. None: the
    baseline's, or that of growth if growth ends worse than the baseline."""
    slack: float = 0.0
    """How much worse than the threshold pruning may end, as a share of it."""
    retrain_learning_rate: float = 30.0
    """Learning rate at the start of each retraining in steps (b) to (d)."""
    baseline_epochs: int = 500
    """Most epochs of the baseline."""
    seed_density: float = 0.5
    """Share of the weights that are active when step (a) begins."""
    growth_ratio: float = 0.1
    """Share of a matrix's weights that one growth of step (a) activates."""
    growth_epochs: int = 8
    """Number of epochs at the start of step (a) that each begin with a growth."""
    growth_settling_epochs: int = 492
    """Number of further epochs of step (a)."""
    unit_ratio: float = 0.2
    """Share of rows and columns that step (b) prunes at first."""
    weight_ratio: float = 0.7
    """Share of weights that step (d) prunes at first."""
    prune_epochs: int = 0
    """Number of epochs over which a round of (b) or (d) prunes its share, fast at first and slower
    at the end (cubic); 0: all of it before the retraining, as in the paper."""
    min_prune_ratio: float = 0.0
    """Smallest share after halving; 0: down to single rows, columns and weights."""
    retrain_epochs: int = 100
    """Most epochs of retraining in a round of (b) or (d). A round ends earlier when it reaches the
    threshold."""
    lhp_epochs: int = 100
    """Epochs of retraining after growth to the LHP, step (c)."""
    woken_start: WokenStart = "step"
    """Where woken rows and columns start in step (c). `step`: one step of descent with
    `retrain_learning_rate` away from zero, as in the paper. `search`: the same direction, but as
    far as lowers the loss most."""
    max_rounds: int | None = None
    """Most rounds of (b), and of (d); None for as many as the ratio allows."""
    when_away: WhenAway = "fail"
    """What to do if there is neither the service nor a cached answer. `fail` ends with an error,
    `skip` leaves out step (c). With `route=measured`, `skip` takes the dense route."""
    max_away_s: float = 600.0
    """How long to wait in step (c), or when the route is chosen, for a service that is away, in
    seconds. After that, `when_away` decides."""
    max_growth: float = 0.125
    """How far above the pruned dims the service looks, as a share of each dimension."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "route": one_of(Route),
        "threshold": POSITIVE,
        "slack": at_least(0),
        "retrain_learning_rate": POSITIVE,
        "baseline_epochs": at_least(1),
        "seed_density": (lambda value: 0 < value <= 1, "a share above 0, at most 1"),
        "growth_ratio": RATIO,
        "growth_epochs": at_least(0),
        "growth_settling_epochs": at_least(1),
        "unit_ratio": RATIO,
        "weight_ratio": RATIO,
        "prune_epochs": at_least(0),
        "min_prune_ratio": SHARE,
        "retrain_epochs": at_least(1),
        "lhp_epochs": at_least(1),
        "woken_start": one_of(WokenStart),
        "max_rounds": at_least(0),
        "when_away": one_of(WhenAway),
        "max_away_s": (lambda value: 0 <= value <= 3600, "a number of seconds from 0 to 3600"),
        "max_growth": (lambda value: 0 <= value <= 1, "a share from 0 to 1"),
    }

    def check_together(self) -> None:
        """Raises InvalidConfigError if a round would end before its pruning does."""
        if self.prune_epochs >= self.retrain_epochs:
            raise InvalidConfigError(
                f"prune_epochs={self.prune_epochs} isn't below"
                f" retrain_epochs={self.retrain_epochs}",
                hint="a round needs at least one epoch after its pruning",
            )


LATER_SETTINGS = frozenset(
    {
        "route",
        "threshold",
        "slack",
        "retrain_learning_rate",
        "unit_ratio",
        "weight_ratio",
        "prune_epochs",
        "min_prune_ratio",
        "retrain_epochs",
        "lhp_epochs",
        "woken_start",
        "max_rounds",
        "when_away",
        "max_away_s",
        "max_growth",
        "latency_batch",
        "latency_steps",
        "latency_workload",
        "latency_dtype",
        "latency_backend",
    }
)
"""Settings that neither the baseline nor step (a) depends on. How latency is measured is the
task's, and no training depends on it."""
FIRST_STEPS = frozenset({"", "baseline", "growth", "route"})
"""Names of the steps that come before every step that depends on those settings."""
ANY_TIME_SETTINGS = frozenset({"when_away", "max_away_s", "checkpoint_s"})
"""Settings of how a run is carried out, which don't change what it trains."""


def may_change_after(step: str) -> frozenset[str]:
    """The settings that may differ when another run goes on after this step has ended."""
    return LATER_SETTINGS if step in FIRST_STEPS | {"units"} else ANY_TIME_SETTINGS


def may_change_in(step: str) -> frozenset[str]:
    """The settings that may differ when a run goes on that has come to this step."""
    return ANY_TIME_SETTINGS | (LATER_SETTINGS if step in FIRST_STEPS else frozenset())
