"""What every model on the wire has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

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
