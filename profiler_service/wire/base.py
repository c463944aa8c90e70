"""The base classes of requests and responses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Dims = list[int]
T = TypeVar("T")

MAX_BUDGET_S = 86_400.0
"""Longest budget that a request may ask for."""
MIN_BUDGET_S = 0.001
"""Shortest one: in less, nothing can be compared."""
Budget = Annotated[float, Field(ge=MIN_BUDGET_S, le=MAX_BUDGET_S, allow_inf_nan=False)]
"""Seconds of measuring. The bounds belong to the number: of a field that may be None, pydantic may
compare None with them, too, and raise TypeError."""


class RequestModel(BaseModel):
    """Base of what is sent to the service: a field that it doesn't know is refused."""

    model_config = ConfigDict(extra="forbid")


class ResponseModel(BaseModel):
    """Base of what the service sends: a field that a client doesn't know is ignored.

    So a newer service may add fields, and older clients go on working.
    """

    model_config = ConfigDict(extra="ignore")


def hide_null(schema: dict[str, Any]) -> None:
    """Leaves null out of the description of a field that may be None. For `json_schema_extra`."""
    described, _ = schema.pop("anyOf")
    schema.update(described)


def map_texts(value: T, change: Callable[[str], str]) -> T:
    """A copy of the model, list, tuple or dict in which every text is changed."""
    changed: object = value
    if isinstance(value, list) and value and isinstance(value[0], (int, float)):
        return value  # most of a curve
    if isinstance(value, str):
        changed = change(value)
    elif isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        changed = value.model_copy(update=map_texts(fields, change))
    elif isinstance(value, dict):
        changed = {key: map_texts(each, change) for key, each in value.items()}
    elif isinstance(value, (list, tuple)):
        changed = type(value)(map_texts(each, change) for each in value)
    return cast(T, changed)


optional_field = partial(Field, default=None, exclude_if=lambda value: value is None)
"""A field that is left out if there is nothing to say."""


class EvidenceInfo(ResponseModel):
    """What the measurement of a curve took. Fields that a mode of sweep lacks are left out."""

    seconds: float | SkipJsonSchema[None] = optional_field(
        description="Total measuring time, seconds."
    )
    batches: int | SkipJsonSchema[None] = optional_field(
        description="Batches that were measured and kept."
    )
    samples: int | SkipJsonSchema[None] = optional_field(description="Samples taken.")
    calls: int | SkipJsonSchema[None] = optional_field(
        description="Calls made, warm-up calls included."
    )
    discarded: int | SkipJsonSchema[None] = optional_field(
        description="Samples that were discarded because something disturbed them."
    )
    unstable: int | SkipJsonSchema[None] = optional_field(
        description="Samples that were kept although every attempt was disturbed."
    )
    rounds: int | SkipJsonSchema[None] = optional_field(description="Rounds of visits.")
    candidates: int | SkipJsonSchema[None] = optional_field(
        description="In a race: how many larger points were looked at."
    )
    confirmations: int | SkipJsonSchema[None] = optional_field(
        description="In a race: pairs of calls with which the answer was confirmed."
    )
    budget_s: float | SkipJsonSchema[None] = optional_field(
        description="Measuring time that the sweep was limited to, seconds."
    )
    asked_budget_s: float | SkipJsonSchema[None] = optional_field(
        description="The `budget` that was asked for, seconds."
    )
    asked_margin: float | SkipJsonSchema[None] = optional_field(
        description="In a race: the `margin` that was asked for."
    )
    asked_settle_s: float | SkipJsonSchema[None] = optional_field(
        description="In a race: how long it was allowed to go on for certainty, seconds."
    )
    cut_short: bool | SkipJsonSchema[None] = optional_field(
        description="Whether the budget ended before any rival could be judged."
    )
    others_share: float | SkipJsonSchema[None] = optional_field(
        description="Share of the measured device's time that others used meanwhile, time that a"
        " hypervisor took included."
    )
    disturbed: bool | SkipJsonSchema[None] = optional_field(
        description="Whether others used so much that latencies may be too long: more than a"
        " tenth of the device's time."
    )
    guided: bool | SkipJsonSchema[None] = optional_field(
        description="In a race: whether a stored curve proposed where to look."
    )
    settled: bool | SkipJsonSchema[None] = optional_field(
        description="In a race: whether the answer is known as closely as was wanted."
    )
    margin: float | SkipJsonSchema[None] = optional_field(
        description="In a race: nothing larger in the window is more than this share faster than"
        " the answer (95 %; of points that were never compared, the race's model says so)."
    )
    unseen_risk: float | SkipJsonSchema[None] = optional_field(
        description="In a race: the model's probability that a point that was never compared is"
        " faster than the answer by more than `margin`."
    )
    slack: float | SkipJsonSchema[None] = optional_field(
        description="In the modes `nearest` and `largest`: dims count as no slower if they are"
        " slower by less than this share."
    )
