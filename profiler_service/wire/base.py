"""What every model on the wire has in common."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Dims = list[int]

MAX_BUDGET_S = 86_400.0
"""Longest budget that a request may name."""


class RequestModel(BaseModel):
    """Base of what is sent to the service: a field that it doesn't know is refused."""

    model_config = ConfigDict(extra="forbid")


class ResponseModel(BaseModel):
    """Base of what the service sends: a field that a client doesn't know is ignored.

    So a newer service may add fields, and older clients go on working.
    """

    model_config = ConfigDict(extra="ignore")


_OptionalField = partial(Field, default=None, exclude_if=lambda value: value is None)
"""A field that is left out where there is nothing to say."""


class EvidenceInfo(ResponseModel):
    """What it took to measure a curve. What a mode of sweep doesn't have is left out."""

    seconds: float | SkipJsonSchema[None] = _OptionalField(description="Measuring time in all.")
    batches: int | SkipJsonSchema[None] = _OptionalField(
        description="Batches that were measured and kept."
    )
    samples: int | SkipJsonSchema[None] = _OptionalField(description="Samples taken.")
    calls: int | SkipJsonSchema[None] = _OptionalField(
        description="Calls made, warm-up calls included."
    )
    discarded: int | SkipJsonSchema[None] = _OptionalField(
        description="Samples that were discarded because something disturbed them."
    )
    unstable: int | SkipJsonSchema[None] = _OptionalField(
        description="Samples that were kept although they were disturbed each time."
    )
    rounds: int | SkipJsonSchema[None] = _OptionalField(description="Rounds of visits.")
    candidates: int | SkipJsonSchema[None] = _OptionalField(
        description="In a race: how many larger points were looked at."
    )
    confirmations: int | SkipJsonSchema[None] = _OptionalField(
        description="In a race: pairs of calls with which the answer was confirmed."
    )
    budget_s: float | SkipJsonSchema[None] = _OptionalField(
        description="Measuring time that the sweep kept to, seconds."
    )
    asked_budget_s: float | SkipJsonSchema[None] = _OptionalField(
        description="The `budget` that was asked for, seconds."
    )
    cut_short: bool | SkipJsonSchema[None] = _OptionalField(
        description="Whether the budget ended before any rival could be judged."
    )
    guided: bool | SkipJsonSchema[None] = _OptionalField(
        description="In a race: whether a stored curve proposed where to look."
    )
