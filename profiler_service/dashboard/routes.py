"""Routes of pages: their errors are pages, too.

Knows no page.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.requests import Request as AnyRequest

from profiler_service.api.dependencies import BoundedRoute
from profiler_service.api.problems import error_of_invalid, hide_details, problem_of
from profiler_service.dashboard.rendering import is_part, render
from profiler_service.errors import LhpError, StoreError


class PageRoute(BoundedRoute):
    """A route whose errors are shown as pages, or as a part of the page that asked."""

    def get_route_handler(self) -> Callable[[AnyRequest], Coroutine[Any, Any, Response]]:
        """The handler, which renders errors."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except (LhpError, RequestValidationError) as error:
                if wants_data(request):
                    raise
                if isinstance(error, RequestValidationError):
                    error = error_of_invalid(error.errors())
                return render_error(request, error)

        return handler


def wants_data(request: Request) -> bool:
    """Whether a script asks, which reads problems as the service's other routes send them."""
    return request.headers.get("accept", "").startswith("application/json")


def render_error(request: Request, error: LhpError) -> Response:
    """What failed, and what to do."""
    problem = problem_of(hide_details(error))
    is_away = isinstance(error, StoreError)
    template = "part_error.html" if is_part(request) else "error.html"
    page = render(request, template, status=problem.status, problem=problem, passes=is_away)
    if is_away and is_part(request):
        # What the page shows is better than nothing. Its script tells why it isn't renewed.
        page.headers["HX-Reswap"] = "none"
    return page
