"""Gives routes the services, and checks the query parameters of every route.

Knows no route itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
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


async def refuse_unknown_parameters(request: Request) -> None:
    """Checks that the route has every query parameter given, and that each is given once.

    Otherwise a misspelled filter would be ignored without a sign. Raises InvalidRequestError.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    _refuse_twice(request.query_params)
    known = _query_names(route.dependant)
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise InvalidRequestError(
            f"no parameter of {route.path}: {', '.join(each[:80] for each in unknown)}",
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


def parse_query(given: QueryParams, model: type[QueryT]) -> QueryT:
    """The query of class `model`, made from these parameters.

    FastAPI can do this, too, but needs twice as much time as all other work for a query.
    Raises RequestValidationError; InvalidRequestError for a parameter given twice.
    """
    _refuse_twice(given)
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
