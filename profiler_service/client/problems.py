"""Turns responses into errors: each kind of problem into the error class of the same name.

The counterpart of `api.problems`. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from profiler_service.client.errors import (
    AccessRefusedError,
    ContractError,
    ServiceFailedError,
    ServiceUnavailableError,
)
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    LhpError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTooLargeError,
    find_error_class,
)
from profiler_service.printable import printable
from profiler_service.wire import Problem

T = TypeVar("T")

OF_ANY_SERVER: Mapping[int, type[LhpError]] = {
    401: AccessRefusedError,
    403: AccessRefusedError,
    408: ServiceUnavailableError,
    429: ServiceUnavailableError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceUnavailableError,
}
"""The error class of a status, no matter whether the service or a proxy sends it."""

OF_THE_SERVICE: Mapping[int, type[LhpError]] = {
    **OF_ANY_SERVER,
    400: InvalidRequestError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    409: ConflictError,
    413: RequestTooLargeError,
    414: RequestTooLargeError,
    422: InvalidRequestError,
    431: RequestTooLargeError,
}
"""The error class of a status if this version doesn't know the problem's type.

Any other status is a ServiceFailedError.
"""


def error_of(response: httpx.Response) -> LhpError:
    """The error for a response whose status isn't 2xx."""
    status = response.status_code
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        refused = "give a token that may read" if status in (401, 403) else ""
        return OF_ANY_SERVER.get(status, ServiceFailedError)(
            f"{_address_of(response)} answered {status} {response.reason_phrase}",
            hint=refused or "is this an LHP service? check the address",
        )
    known = find_error_class(problem.name) if problem.name else None
    kind = known or OF_THE_SERVICE.get(status, ServiceFailedError)
    return kind(
        printable(problem.detail or problem.title),
        hint=printable(problem.hint),
        see=printable(problem.see),
    )


def parse(kind: type[T], response: httpx.Response) -> T:
    """The response's body as a `kind`, without fields that this version doesn't know.

    Raises ContractError.
    """
    return parse_body(kind, response.content, source=_address_of(response))


def parse_body(kind: type[T], body: bytes | str, *, source: str) -> T:
    """As `parse`; `source` is the address that the body came from."""
    try:
        return TypeAdapter(kind).validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ContractError(
            f"{source} sent what this version doesn't understand ({where}: {first['msg']})",
            hint="is this an LHP service, and not much older or newer? check the address",
        ) from error


def _address_of(response: httpx.Response) -> str:
    return str(response.request.url.copy_with(query=None, userinfo=b""))
