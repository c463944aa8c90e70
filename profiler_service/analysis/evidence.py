"""What measuring a curve took. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

DISTURBED_SHARE: Final = 0.1
"""A curve is disturbed if others used more than this share of the measured device's time."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What measuring a curve took. A field that its mode of sweep doesn't have is None."""

    seconds: float | None = None
    """Total measuring time."""
    batches: int | None = None
    samples: int | None = None
    calls: int | None = None
    """Calls made, warm-up calls included."""
    discarded: int | None = None
    """Samples discarded because something disturbed them."""
    unstable: int | None = None
    """Samples kept although every attempt was disturbed."""
    rounds: int | None = None
    candidates: int | None = None
    """In a race: number of larger points that were looked at."""
    confirmations: int | None = None
    """In a race: number of pairs that confirmed its answer."""
    budget_s: float | None = None
    """The measuring time that the race was limited to."""
    asked_budget_s: float | None = None
    """The budget that was asked for, if any."""
    asked_margin: float | None = None
    """In a race: the margin that was asked for, if any."""
    asked_settle_s: float | None = None
    """In a race: how long it was allowed to go on for certainty."""
    cut_short: bool | None = None
    """Whether the budget ended before the question was decided."""
    guided: bool | None = None
    """In a race: whether a stored curve proposed where to look."""

    settled: bool | None = None
    """In a race: whether the answer is known as closely as was wanted."""
    margin: float | None = None
    """In a race: nothing larger in the window is more than this share faster than the answer (95 %;
    of points that were never compared, the model says so)."""
    unseen_risk: float | None = None
    """In a race: the model's probability that a point that was never compared is faster than the
    answer by more than `margin`. In the modes `nearest` and `largest`: that such a point would have
    been preferred to the answer, because it is no slower."""
    slack: float | None = None
    """In the modes `nearest` and `largest`: a point counts as no slower if it is slower by less
    than this share."""

    others_share: float | None = None
    """Share of the measured device's time that others used meanwhile, stolen time included."""
    disturbed: bool | None = None
    """Whether that is more than DISTURBED_SHARE."""

    @property
    def spoiled_share(self) -> float:
        """Share of all samples taken that were discarded, or kept though they were disturbed."""
        discarded, kept = self.discarded or 0, self.samples or 0
        return (discarded + (self.unstable or 0)) / max(1, discarded + kept)

    def to_json(self) -> dict[str, float]:
        """The fields that aren't None, as JSON-ready values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, kept: Mapping[str, float]) -> Self:
        """The inverse of `to_json`; takes counts that earlier versions kept as floats, too."""
        return cls(**{name: _READERS[name](value) for name, value in kept.items()})


_TYPES = {"float | None": float, "int | None": int, "bool | None": bool}
_READERS: Mapping[str, Callable[[float], Any]] = {
    each.name: _TYPES[str(each.type)] for each in fields(Evidence)
}
"""The type of each field. Computed once, because lists of curves read thousands of fields."""
