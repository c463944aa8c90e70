"""What a host's model says of a window when a race over it is asked for.

The race starts from it, with doubt, and the pair that the model would have chosen is measured,
whatever the race finds: so the model learns how good its predictions are. Pure; knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from profiler_service.workload import Dims

Effects = tuple[tuple[float, ...], ...]
"""For each axis: the log latency that each of its positions adds."""


@dataclass(frozen=True, kw_only=True)
class PredictedPair:
    """The point that a model chooses instead of the queried one, and what it says of the pair."""

    dims: Dims
    """The chosen point; the queried one itself if nothing larger promises to be faster."""
    log_ratio: float
    """Its log latency, less the queried point's."""
    deviation: float
    """The model's own standard deviation of that."""
    half_width: float | None
    """Half the calibrated interval; None if the model isn't calibrated yet."""
    distance: float
    """How far the queried point is from what was learned, in octaves; infinite if nothing was."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready values. JSON has no infinity: such a distance is null."""
        distance = self.distance if math.isfinite(self.distance) else None
        return {**asdict(self), "dims": list(self.dims), "distance": distance}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        distance = math.inf if fields["distance"] is None else fields["distance"]
        return cls(**{**fields, "dims": tuple(fields["dims"]), "distance": distance})


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a race gets from the host's model."""

    effects: Effects | None
    """None: too little is known of such windows to start from it."""
    pair: PredictedPair

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        effects = None if self.effects is None else [list(axis) for axis in self.effects]
        return {"effects": effects, "pair": self.pair.to_json()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any] | None) -> Self | None:
        """The inverse of `to_json`; None of None."""
        if fields is None:
            return None
        effects = fields["effects"]
        return cls(
            effects=None if effects is None else effects_from_json(effects),
            pair=PredictedPair.from_json(fields["pair"]),
        )


def effects_from_json(axes: Sequence[Sequence[float]]) -> Effects:
    """Effects from lists."""
    return tuple(tuple(float(value) for value in axis) for axis in axes)
