"""What every model on the wire has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Dims = list[int]

MAX_BUDGET_S = 86_400.0
"""Longest budget that a request may name."""


class WireModel(BaseModel):
    """Base of everything on the wire: unknown fields in a request are refused."""

    model_config = ConfigDict(extra="forbid")
