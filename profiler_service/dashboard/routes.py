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
from profiler_service.errors import LhpError


class PageRoute(BoundedRoute):
    """A route whose errors are shown as pages, or as a part of the page that asked."""

    def get_route_handler(self) -> Callable[[AnyRequest], Coroutine[Any, Any, Response]]:
        """The handler, which renders errors."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except LhpError as error:
                return render_error(request, error)
            except RequestValidationError as error:
                return render_error(request, error_of_invalid(error.errors()))

        return handler


def render_error(request: Request, error: LhpError) -> Response:
    """What failed, and what to do."""
    problem = problem_of(hide_details(error))
    template = "part_error.html" if is_part(request) else "error.html"
    return render(request, template, status=problem.status, problem=problem)
