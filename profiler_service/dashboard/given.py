"""What a page's address and a sent form say: empty fields, and names that come twice.

Knows no page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qs, parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

QueryT = TypeVar("QueryT", bound=BaseModel)


def read_given(request: Request) -> dict[str, str]:
    """The parameters of the address that aren't empty. Several `dims` are one, with commas."""
    items = parse_qsl(request.url.query)
    given = dict(items)
    if "dims" in given:
        given["dims"] = ",".join(value for name, value in items if name == "dims")
    return given


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form that was sent with POST: the values of each name, empty ones too."""
    body = (await request.body()).decode("utf-8", errors="replace")
    return parse_qs(body, keep_blank_values=True)


def parse_given(model: type[QueryT], given: Mapping[str, object]) -> QueryT:
    """The query of class `model`. Raises RequestValidationError."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None
