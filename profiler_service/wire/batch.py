"""Many questions in one request: `POST /lhp/batch`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel, model_validator
from pydantic.json_schema import SkipJsonSchema

from profiler_service.wire.base import ResponseModel, optional_field
from profiler_service.wire.problems import Problem
from profiler_service.wire.questions import LhpAnswer
from profiler_service.wire.sweeps import SweepInfo

MAX_BATCH = 1000
"""Most questions in one request."""

BatchQuestion = dict[str, Any]
"""A question: the query parameters of `GET /lhp` by name, without `wait`."""


class LhpBatchRequest(RootModel[list[BatchQuestion]]):
    """The body that a client sends. The service reads each question by itself."""


class LhpBatchItem(ResponseModel):
    """What one question got: an answer, the sweep that will give it, or a problem."""

    status: int = Field(
        description="The status that `GET /lhp` would have: 200 with `answer`, 202 with `sweep`, or"
        " that of `problem`."
    )
    answer: LhpAnswer | SkipJsonSchema[None] = optional_field(description="The answer.")
    sweep: SweepInfo | SkipJsonSchema[None] = optional_field(
        description="Not measured within `wait` seconds: the sweep, which continues. Ask again"
        " later.",
    )
    problem: Problem | SkipJsonSchema[None] = optional_field(description="Why there is no answer.")

    @model_validator(mode="after")
    def _has_one(self) -> LhpBatchItem:
        if [self.answer, self.sweep, self.problem].count(None) != 2:
            raise ValueError("not exactly one of answer, sweep and problem")
        return self

    @property
    def is_open(self) -> bool:
        """Whether the same question may get an answer a little later."""
        return self.status in (202, 429, 503)


class LhpBatchAnswer(ResponseModel):
    """What each question got."""

    items: list[LhpBatchItem] = Field(description="In the order of the questions.")
