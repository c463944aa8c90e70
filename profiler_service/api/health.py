"""/healthz and /readyz: for supervisors and load balancers."""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.api.dependencies import PartsDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import StoreUnavailableError
from profiler_service.wire import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Health:
    """Touches nothing: a failing database doesn't make a restart of this process useful."""
    return Health(status="ok")


@router.get("/readyz", summary="Can it serve?", responses=problem_responses(StoreUnavailableError))
def readyz(parts: PartsDep) -> Health:
    """Asks the database."""
    parts.store.ping()
    return Health(status="ok")
