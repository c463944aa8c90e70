"""Adds the pages to an application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse, Response
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
    runs,
    sign_in,
    sweeps,
)
from profiler_service.dashboard.figures import KeptFigures
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import UnknownAddressError

rest = APIRouter(route_class=PageRoute, prefix="/ui", include_in_schema=False)


@rest.get("/")
async def show_first_page() -> Response:
    """The first page, for those who look for it here."""
    return RedirectResponse("../")


@rest.get("/{path:path}")
async def show_nothing(path: str) -> Response:
    """Nothing: there is no such page."""
    raise UnknownAddressError(
        f"there is no page /ui/{path[:200]}", hint="choose one from the navigation", see="/"
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
    sweeps,
    runs,
    database,
    files,
)
ROUTERS = (*(each.router for each in PAGES), rest)


def add_pages(app: FastAPI) -> None:
    """Makes `app` answer with pages at `/` and below `/ui/`."""
    app.state.figures = KeptFigures()
    app.mount("/ui/static", StaticFiles(directory=files.STATIC), name="static")
    for each in ROUTERS:
        app.include_router(each)
