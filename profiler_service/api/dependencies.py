"""Gives routes the services, and checks the query parameters of every route.

Knows no route itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote_plus

from fastapi import Depends, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from profiler_service.access.caller import current_caller
from profiler_service.answering.services import Services
from profiler_service.answering.shortened import (
    MIN_LENGTH,
    MOST_LISTED,
    complete,
    cursor_above,
    may_be_shortened,
)
from profiler_service.errors import InvalidRequestError, StoreUnavailableError
from profiler_service.storage.store import Page
from profiler_service.suggestions import did_you_mean

SHORTENED = f"or its first {MIN_LENGTH} characters or more, if no other begins so"

QueryT = TypeVar("QueryT", bound=BaseModel)


async def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def identify_client(request: Request) -> str:
    """Who asks: the request's token; without one, the address that the connection comes from.

    `X-Forwarded-For` is believed only from LHP_TRUSTED_PROXIES: anybody can write it.
    """
    return current_caller().key


Client = Annotated[str, Depends(identify_client)]


class BoundedRoute(APIRoute):
    """A route whose response begins within `Settings.longest_answer_s`, or is a 503.

    The time counts from when the body is there. Its function must be a coroutine, and call the
    store in threads: then nothing keeps it from being broken off. FastAPI documents overriding
    `get_route_handler` for such cases.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a limit on its time."""
        assert inspect.iscoroutinefunction(self.endpoint) or inspect.isasyncgenfunction(
            self.endpoint
        ), f"{self.name} can't be broken off"
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            limit_s = request.app.state.services.settings.longest_answer_s
            if self.body_field is not None:
                # How long a client may take to send it is the connection's affair.
                with contextlib.suppress(ClientDisconnect):  # found again by `answer`
                    await request.body()
            try:
                async with asyncio.timeout(limit_s) as limit:
                    return await answer(request)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise StoreUnavailableError(
                    f"the database didn't answer within {limit_s:g} s",
                    hint="ask again later; see /readyz",
                ) from None

        return handler


Cursor = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the previous page; empty for the first one.",
        json_schema_extra={"pattern": "^([0-9a-f]{32})?$"},
    ),
]
"""Where a page of a list begins."""


async def complete_curve_id(
    curve_id: Annotated[str, Path(description=f"Id of a curve, {SHORTENED}.")],
    services: ServicesDep,
) -> str:
    """The whole id of a curve, which may be given shortened. Raises InvalidRequestError."""
    return await _complete(curve_id, services.store.list_curves, what="curves")


async def _complete_sweep_id(
    sweep_id: Annotated[str, Path(description=f"Id of a sweep, {SHORTENED}.")],
    services: ServicesDep,
) -> str:
    return await _complete(sweep_id, services.store.list_sweeps, what="sweeps")


async def _complete(given: str, list_page: Callable[..., Page[Any]], *, what: str) -> str:
    if not may_be_shortened(given):
        return given
    cursor = cursor_above(given)
    page = await asyncio.to_thread(list_page, cursor=cursor, limit=MOST_LISTED + 1)
    return complete(given, [each.id for each in page.items], what=what)


CurveId = Annotated[str, Depends(complete_curve_id)]
"""The id of a curve in the path. The route gets it whole."""
SweepId = Annotated[str, Depends(_complete_sweep_id)]
"""The id of a sweep in the path. The route gets it whole."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Checks that the route has every query parameter given, and that each is given once.

    Otherwise a misspelled filter would be ignored without a sign. Raises InvalidRequestError.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    _refuse_twice(request.query_params.multi_items())
    _refuse_unknown(request.query_params, _query_names(route.dependant), of=route.path_format)


def _refuse_unknown(given: Iterable[str], known: Collection[str], *, of: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"no parameter of {of}: {', '.join(each[:80] for each in unknown)}",
            hint=did_you_mean(unknown[0], known) + f"its parameters are: {', '.join(known)}"
            if known
            else "it has no parameters",
            see="/docs",
        )


def _query_names(dependant: Dependant) -> list[str]:
    """Names of the query parameters of a route and all its dependencies."""
    own = [field.alias for field in dependant.query_params]
    return own + [name for each in dependant.dependencies for name in _query_names(each)]


def _refuse_twice(given: Sequence[tuple[str, str]]) -> None:
    counts = Counter(name for name, _ in given)
    twice = sorted(name[:80] for name, count in counts.items() if count > 1)
    if twice:
        raise InvalidRequestError(
            f"given more than once: {', '.join(twice)}", hint="give every parameter once"
        )


def parse_query(request: Request, model: type[QueryT]) -> QueryT:
    """The query of class `model`, made from the parameters of the request.

    FastAPI can do this, too, but needs twice as much time as all other work for a query.
    Raises RequestValidationError; InvalidRequestError for a parameter given twice, or one that the
    model doesn't have (unless the model takes further ones).
    """
    items = _read_items(request.scope["query_string"].decode("latin-1"))
    given = dict(items)
    if len(given) < len(items):
        _refuse_twice(items)
    if model.model_config.get("extra") == "forbid":
        _refuse_unknown(given, model.model_fields, of=request.url.path)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def _read_items(query: str) -> list[tuple[str, str]]:
    """The same as starlette's `query_params.multi_items()`, in a tenth of the time."""
    split = (each.partition("=") for each in query.split("&") if each)
    return [(_unquote(name), _unquote(value)) for name, _, value in split]


def _unquote(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of `model` as query parameters, as OpenAPI describes them."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": described.pop("description"),
            "schema": described,
        }
        for name, described in schema["properties"].items()
    ]
