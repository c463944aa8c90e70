"""What measuring a curve took. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What measuring a curve took. None for what its mode of sweep doesn't have."""

    seconds: float | None = None
    """Measuring time in all."""
    batches: int | None = None
    samples: int | None = None
    calls: int | None = None
    """Calls made, warm-up calls included."""
    discarded: int | None = None
    """Samples thrown away because something disturbed them."""
    unstable: int | None = None
    """Samples kept though they were disturbed each time."""
    rounds: int | None = None
    candidates: int | None = None
    """Of a race: how many larger points were looked at."""
    confirmations: int | None = None
    """Of a race: pairs that its answer was confirmed with."""
    budget_s: float | None = None
    """Measuring time that a race kept to."""
    asked_budget_s: float | None = None
    """The budget that was asked for, if any."""
    cut_short: bool | None = None
    """Whether the budget ended before all that it was for was known."""
    guided: bool | None = None
    """Of a race: whether a stored curve proposed where to look."""

    def to_json(self) -> dict[str, float]:
        """The fields that are there, as JSON-ready values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, kept: Mapping[str, float]) -> Self:
        """The inverse of `to_json`; takes counts that earlier versions kept as floats, too."""
        return cls(**{name: _READERS[name](value) for name, value in kept.items()})


_TYPES = {"float | None": float, "int | None": int, "bool | None": bool}
_READERS: Mapping[str, Callable[[float], Any]] = {
    each.name: _TYPES[str(each.type)] for each in fields(Evidence)
}
"""How each field is read from JSON. Made once: lists of curves read thousands of them."""
