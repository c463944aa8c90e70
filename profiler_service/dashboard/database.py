"""/ui/database: whether the database is away, as pages ask that show what they had.

Says it at once: the service looks at the database by itself.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from profiler_service.api.access import PUBLIC
from profiler_service.api.dependencies import ServicesDep
from profiler_service.dashboard.rendering import HEADERS, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import StoreError

router = APIRouter(route_class=PageRoute, prefix="/ui", include_in_schema=False)


@router.get("/database", dependencies=[PUBLIC])
async def show_database(request: Request, services: ServicesDep) -> Response:
    """What the page says while the database is away; nothing, with status 204, otherwise."""
    try:
        await services.database.check()
    except StoreError:
        return render(request, "part_away.html")
    return Response(status_code=204, headers=HEADERS)
