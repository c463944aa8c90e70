"""Gives routes the services, and checks the query parameters of every route.

Knows no route itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from profiler_service.answering.services import Services
from profiler_service.errors import InvalidRequestError, StoreUnavailableError

QueryT = TypeVar("QueryT", bound=BaseModel)


async def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(_services)]


class BoundedRoute(APIRoute):
    """A route whose response begins within `Settings.longest_answer_s`, or is a 503.

    Its function must be a coroutine, and call the store in threads: then nothing keeps it from
    being broken off. FastAPI documents overriding `get_route_handler` for such cases.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a limit on its time."""
        assert inspect.iscoroutinefunction(self.endpoint) or inspect.isasyncgenfunction(
            self.endpoint
        ), f"{self.name} can't be broken off"
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            limit_s = request.app.state.services.settings.longest_answer_s
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


async def refuse_unknown_parameters(request: Request) -> None:
    """Checks that the route has every query parameter given, and that each is given once.

    Otherwise a misspelled filter would be ignored without a sign. Raises InvalidRequestError.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    _refuse_twice(request.query_params)
    _refuse_unknown(request.query_params, _query_names(route.dependant), of=route.path)


def _refuse_unknown(given: QueryParams, known: Collection[str], *, of: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"no parameter of {of}: {', '.join(each[:80] for each in unknown)}",
            hint=f"its parameters are: {', '.join(known)}" if known else "it has no parameters",
            see="/docs",
        )


def _query_names(dependant: Dependant) -> list[str]:
    """Names of the query parameters of a route and all its dependencies."""
    own = [field.alias for field in dependant.query_params]
    return own + [name for each in dependant.dependencies for name in _query_names(each)]


def _refuse_twice(given: QueryParams) -> None:
    counts = Counter(name for name, _ in given.multi_items())
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
    given = request.query_params
    _refuse_twice(given)
    if model.model_config.get("extra") == "forbid":
        _refuse_unknown(given, model.model_fields, of=request.url.path)
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of `model` as query parameters, as OpenAPI describes them."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": described.pop("description"),
            "schema": described,
        }
        for name, described in schema["properties"].items()
    ]
