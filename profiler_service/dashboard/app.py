"""Adds the pages to an application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from profiler_service.dashboard import (
    ask,
    canaries,
    compare,
    curves,
    database,
    files,
    history,
    host_page,
    hosts,
    new_sweep,
    predictions,
    runs,
    sign_in,
    sweeps,
)
from profiler_service.dashboard.figures import KeptFigures
from profiler_service.dashboard.routes import PageRoute, render_error
from profiler_service.errors import UnknownAddressError

rest = APIRouter(route_class=PageRoute, prefix="/ui", include_in_schema=False)


@rest.get("/")
async def show_first_page() -> Response:
    """The first page, for those who look for it here."""
    return RedirectResponse("../")


@rest.get("/{path:path}")
async def show_nothing(path: str) -> Response:
    """Nothing: there is no such page."""
    raise _there_is_no(f"/ui/{path}")


def _there_is_no(path: str) -> UnknownAddressError:
    return UnknownAddressError(
        f"there is no page {path[:200]}", hint="choose one from the navigation", see="/"
    )


PAGES = (
    ask,
    sign_in,
    curves,
    compare,
    history,
    canaries,
    hosts,
    host_page,
    new_sweep,
    predictions,
    sweeps,
    runs,
    database,
    files,
)
ROUTERS = (*(each.router for each in PAGES), rest)


def add_pages(app: FastAPI) -> None:
    """Makes `app` answer with pages at `/` and below `/ui/`. Its handlers of problems are there."""
    app.state.figures = KeptFigures()
    app.mount("/ui/static", StaticFiles(directory=files.STATIC), name="static")
    for each in ROUTERS:
        app.include_router(each)
    _show_unknown_addresses(app)


def _show_unknown_addresses(app: FastAPI) -> None:
    """Shows a page for an address that nothing has, if a browser asks. Scripts get a problem."""
    answer_scripts = app.exception_handlers[HTTPException]

    async def show(request: Request, error: Exception) -> Response:
        is_asked_for = request.headers.get("accept", "").startswith("text/html")
        if isinstance(error, HTTPException) and error.status_code == 404 and is_asked_for:
            return render_error(request, _there_is_no(request.url.path))
        answered = answer_scripts(request, error)
        return answered if isinstance(answered, Response) else await answered

    app.add_exception_handler(HTTPException, show)
