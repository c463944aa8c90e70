"""The configuration of a training run: every choice that its result depends on.

Knows no files and no command line.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from profiler_service.errors import InvalidRequestError
from profiler_service.suggestions import did_you_mean

Optimiser = Literal["sgd", "nt-asgd", "adamw"]
Schedule = Literal["plateau", "linear"]
Precision = Literal["float32", "bfloat16"]
Route = Literal["dense", "sparse", "measured"]
WhenAway = Literal["fail", "skip"]
WokenStart = Literal["step", "search"]
LatencyWorkload = Literal["hlstm_lm", "hlstm"]
LatencyDtype = Literal["float32", "bfloat16", "float16"]
LatencyBackend = Literal["dense", "packed"]


class InvalidConfigError(InvalidRequestError):
    """A key that the configuration doesn't have, or a value that it doesn't allow."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All choices of one run, checked when it is made. The defaults are the paper's."""

    preset: str = "paper"
    seed: int = 0
    """Seed of all random numbers of the run."""

    # Text
    corpus: str = "ptb"
    """Name of the corpus."""
    max_train_tokens: int | None = None
    """Number of tokens used from the start of the training text; None for all."""
    max_held_out_tokens: int | None = None
    """Number of tokens used of the validation and of the test text; None for all."""

    # Networks: the H-LSTM, and the baseline embedding → gate width → embedding
    embedding_width: int = 400
    """Width of the words' embeddings."""
    state_width: int = 400
    """Width of the H-LSTM's state."""
    gate_width: int = 1500
    """Width of the hidden layer in each gate of the H-LSTM, and of the baseline's first layer."""
    dropout_words: float = 0.1
    """Share of the words whose embedding is set to zero, drawn anew for each batch."""
    dropout_embedding: float = 0.65
    """Share of the input's columns dropped, the same at all time steps."""
    dropout_gates: float = 0.2
    """Share of values dropped in the gates of the H-LSTM, or between the baseline's layers."""
    dropout_output: float = 0.0
    """Share of the state's columns dropped before the decoder, the same at all time steps."""
    dropout_recurrent: float = 0.0
    """Share of the recurrent weights dropped, drawn anew for each batch (weight drop)."""
    activation_penalty: float = 0.0
    """Factor of the mean square of the dropped states in the loss (activation regularisation)."""
    change_penalty: float = 0.0
    """Factor of the mean square of the states' changes from step to step in the loss (temporal
    activation regularisation)."""
    precision: Precision = "float32"
    """Element type of the products; weights and cell states stay float32."""

    # Descent
    optimiser: Optimiser = "sgd"
    """`sgd`, `nt-asgd` (SGD whose weights are averaged when validation stalls) or `adamw`."""
    learning_rate: float = 30.0
    """Learning rate of the baseline and of step (a)."""
    retrain_learning_rate: float = 30.0
    """Learning rate at the start of each retraining in steps (b) to (d)."""
    weight_decay: float = 1.2e-6
    """Weight decay of the optimiser. Biases have none."""
    clip_norm: float = 0.25
    """Largest norm of a gradient; larger ones are scaled down to it."""
    batch: int = 32
    """Number of texts that are trained on side by side."""
    steps: int = 70
    """Number of words that a gradient reaches back."""
    random_steps: bool = False
    """Whether the number of words varies: normally distributed around `steps`, now and then around
    half of it, with a learning rate in proportion. So gradients begin at other words in every
    epoch."""
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
    checkpoint_batches: int = 200
    """Batches between two checkpoints."""
    max_rollbacks: int = 5
    """How often the run may go back to its last checkpoint after a loss that isn't finite."""

    # Steps
    route: Route = "dense"
    """Which steps follow (a). `sparse` goes from (a) directly to (d), for kernels that skip zeros.
    `measured` decides after (a), from the crossovers that the service measures."""
    max_perplexity: float | None = None
    """Highest perplexity on the validation text that pruning may reach. None: the baseline's, or
    that of growth if growth ends above the baseline."""
    slack: float = 0.0
    """How far pruning may end above `max_perplexity`, as a share of it."""
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
    perplexity to keep."""
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

    # How latency is measured
    latency_batch: int = 16
    """Batch at which the service measures latency."""
    latency_steps: int = 70
    """Length of the sequences at which the service measures latency."""
    latency_workload: LatencyWorkload = "hlstm_lm"
    """What the service measures in step (c): the whole model, or its H-LSTM layer alone."""
    latency_dtype: LatencyDtype = "float32"
    """Element type with which the exported model will run; it is measured with this."""
    latency_backend: LatencyBackend = "dense"
    """Kernels with which the exported model's layer will run; it is measured with these."""

    def __post_init__(self) -> None:
        for name, (is_fine, wish) in _CHECKS.items():
            value = getattr(self, name)
            if not is_fine(value):
                raise InvalidConfigError(
                    f"{name}={value!r} isn't {wish}",
                    hint="leave it out for the preset's value",
                )
        if self.state_width > self.embedding_width:
            raise InvalidConfigError(
                f"state_width={self.state_width} is above embedding_width={self.embedding_width}",
                hint="the decoder shares the embedding's weights, so the state can't be wider",
            )
        if self.prune_epochs >= self.retrain_epochs:
            raise InvalidConfigError(
                f"prune_epochs={self.prune_epochs} isn't below"
                f" retrain_epochs={self.retrain_epochs}",
                hint="a round needs at least one epoch after its pruning",
            )

    def to_json(self) -> dict[str, int | float | str | None]:
        """Every field by name, JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Self:
        """The inverse of `to_json`. Raises InvalidConfigError."""
        return cls(**{name: _check_type(name, value) for name, value in fields.items()})

    def with_changes(self, changes: Mapping[str, object]) -> Self:
        """A copy of this configuration with some values changed. Raises InvalidConfigError."""
        return self.from_json({**self.to_json(), **changes})


def _at_least(least: float) -> tuple[Callable[[typing.Any], bool], str]:
    return lambda value: value is None or least <= value < float("inf"), f"{least} or more"


_POSITIVE: tuple[Callable[[typing.Any], bool], str] = (
    lambda value: value is None or 0 < value < float("inf"),
    "above 0",
)
_SHARE: tuple[Callable[[typing.Any], bool], str] = (
    lambda value: 0 <= value < 1,
    "a share from 0 to below 1",
)
_RATIO: tuple[Callable[[typing.Any], bool], str] = (
    lambda value: 0 < value < 1,
    "a share between 0 and 1",
)


def _one_of(literal: object) -> tuple[Callable[[typing.Any], bool], str]:
    choices = typing.get_args(literal)
    return lambda value: value in choices, f"one of {', '.join(choices)}"


_CHECKS: Mapping[str, tuple[Callable[[typing.Any], bool], str]] = MappingProxyType(
    {
        "seed": (lambda value: 0 <= value < 2**63, "a whole number from 0 to 2⁶³ − 1"),
        "max_train_tokens": _at_least(1),
        "max_held_out_tokens": _at_least(1),
        **dict.fromkeys(
            ("embedding_width", "state_width", "gate_width", "batch", "steps"), _at_least(1)
        ),
        **dict.fromkeys(
            (
                "dropout_words",
                "dropout_embedding",
                "dropout_gates",
                "dropout_output",
                "dropout_recurrent",
            ),
            _SHARE,
        ),
        **dict.fromkeys(("activation_penalty", "change_penalty"), _at_least(0)),
        "precision": _one_of(Precision),
        "optimiser": _one_of(Optimiser),
        **dict.fromkeys(("learning_rate", "retrain_learning_rate", "clip_norm"), _POSITIVE),
        "weight_decay": _at_least(0),
        "warmup_batches": _at_least(0),
        "schedule": _one_of(Schedule),
        "patience_epochs": _at_least(1),
        "rate_decay": (lambda value: 1 < value < float("inf"), "above 1"),
        "non_monotone_epochs": _at_least(1),
        "checkpoint_batches": _at_least(1),
        "max_rollbacks": _at_least(0),
        "route": _one_of(Route),
        "max_perplexity": _POSITIVE,
        "slack": _at_least(0),
        "baseline_epochs": _at_least(1),
        "seed_density": (lambda value: 0 < value <= 1, "a share above 0, at most 1"),
        "growth_ratio": _RATIO,
        "growth_epochs": _at_least(0),
        "growth_settling_epochs": _at_least(1),
        "unit_ratio": _RATIO,
        "weight_ratio": _RATIO,
        "min_prune_ratio": _SHARE,
        "prune_epochs": _at_least(0),
        "retrain_epochs": _at_least(1),
        "lhp_epochs": _at_least(1),
        "max_rounds": _at_least(0),
        "when_away": _one_of(WhenAway),
        "max_away_s": (lambda value: 0 <= value <= 3600, "a number of seconds from 0 to 3600"),
        "max_growth": (lambda value: 0 <= value <= 1, "a share from 0 to 1"),
        "latency_batch": _at_least(1),
        "latency_steps": _at_least(1),
        "woken_start": _one_of(WokenStart),
        "latency_workload": _one_of(LatencyWorkload),
        "latency_dtype": _one_of(LatencyDtype),
        "latency_backend": _one_of(LatencyBackend),
    }
)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _check_type(name: str, value: object) -> typing.Any:
    """The value, converted from text to the field's type if needed."""
    hints = typing.get_type_hints(TrainingConfig)
    if name not in hints:
        raise InvalidConfigError(
            f"there is no setting {name!r}",
            hint=did_you_mean(name, hints) + f"there are: {', '.join(hints)}",
        )
    hint = hints[name]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and value in (None, "none"):
        return None
    kind = next(each for each in kinds if each is not type(None))
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if kind not in (bool, int, float):
        return value
    try:
        is_number = kind is not bool
        if is_number and (isinstance(value, str) or (kind is float and type(value) is int)):
            return kind(value)
    except ValueError:
        pass
    if type(value) is not kind:
        raise InvalidConfigError(
            f"{name}={value!r} isn't {_KINDS[kind]}",
            hint="leave it out for the preset's value",
        )
    return value


LATER_SETTINGS = frozenset(
    {
        "route",
        "max_perplexity",
        "slack",
        "retrain_learning_rate",
        "unit_ratio",
        "weight_ratio",
        "prune_epochs",
        "min_prune_ratio",
        "retrain_epochs",
        "lhp_epochs",
        "max_rounds",
        "when_away",
        "max_away_s",
        "max_growth",
        "latency_batch",
        "latency_steps",
        "latency_workload",
        "latency_dtype",
        "latency_backend",
        "woken_start",
    }
)
"""Settings that neither the baseline nor step (a) depends on."""
FIRST_STEPS = frozenset({"", "baseline", "growth", "route"})
"""Names of the steps that come before every step that depends on those settings."""
ANY_TIME_SETTINGS = frozenset({"when_away", "max_away_s", "checkpoint_batches"})
"""Settings of how a run is carried out, which don't change what it trains."""


def may_change_in(step: str) -> frozenset[str]:
    """The settings that may differ when a run goes on that has come to this step."""
    return ANY_TIME_SETTINGS | (LATER_SETTINGS if step in FIRST_STEPS else frozenset())


def tell_may_change(step: str) -> str:
    """Those settings, in words for a hint."""
    return (
        "leave out what differs: the run has its own settings. Only these may change now: "
        + ", ".join(sorted(may_change_in(step)))
    )
