"""What every model on the wire has in common."""

from __future__ import annotations

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema

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


class Evidence(ResponseModel):
    """What measuring a curve took. What a mode of sweep doesn't have is left out."""

    seconds: float | SkipJsonSchema[None] = Field(
        default=None, description="Measuring time in all."
    )
    batches: int | SkipJsonSchema[None] = Field(
        default=None, description="Batches measured and kept."
    )
    samples: int | SkipJsonSchema[None] = None
    calls: int | SkipJsonSchema[None] = Field(
        default=None, description="Calls made, warm-up calls included."
    )
    discarded: int | SkipJsonSchema[None] = Field(
        default=None, description="Samples thrown away because something disturbed them."
    )
    unstable: int | SkipJsonSchema[None] = Field(
        default=None, description="Samples kept though they were disturbed each time."
    )
    rounds: int | SkipJsonSchema[None] = None
    candidates: int | SkipJsonSchema[None] = Field(
        default=None, description="Of a race: how many larger points were looked at."
    )
    confirmations: int | SkipJsonSchema[None] = Field(
        default=None, description="Of a race: pairs that the answer was confirmed with."
    )
    budget_s: float | SkipJsonSchema[None] = Field(
        default=None, description="Measuring time that the sweep kept to, seconds."
    )
    asked_budget_s: float | SkipJsonSchema[None] = Field(
        default=None, description="The `budget` that was asked for, seconds."
    )
    cut_short: bool | SkipJsonSchema[None] = Field(
        default=None, description="Whether the budget ended before any rival could be judged."
    )
    guided: bool | SkipJsonSchema[None] = Field(
        default=None, description="Of a race: whether a stored curve proposed where to look."
    )

    @model_serializer(mode="wrap")
    def _leave_out_what_is_missing(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, object]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # The serializer only leaves fields out: those that are there are as they are declared.
        assert schema["type"] == "model"
        return handler({**schema, "serialization": None})
