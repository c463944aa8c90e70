"""/healthz and /readyz: for supervisors and load balancers."""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.api.dependencies import ServicesDep
from profiler_service.api.problems import problem_responses
from profiler_service.errors import NotReadyError
from profiler_service.wire import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Health:
    """Always 200. Doesn't check the database: a restart of this process wouldn't repair it."""
    return Health(status="ok")


@router.get("/readyz", summary="Can it serve?", responses=problem_responses(NotReadyError))
def readyz(services: ServicesDep) -> Health:
    """Checks the database and, if the service has its own worker, whether that has registered.

    Until both are ready, it answers 503, and `detail` says what it waits for.
    """
    services.check_ready()
    return Health(status="ok")
