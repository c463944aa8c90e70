"""Adds the pages to an application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from profiler_service.dashboard import ask, compare, curves, files, history, hosts, sign_in, sweeps

ROUTERS = tuple(
    each.router for each in (ask, sign_in, curves, compare, history, hosts, sweeps, files)
)


def add_pages(app: FastAPI) -> None:
    """Makes `app` answer with pages at `/` and below `/ui/`."""
    for each in ROUTERS:
        app.include_router(each)
    app.mount("/ui/static", StaticFiles(directory=files.STATIC), name="static")
