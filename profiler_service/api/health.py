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
    """Uses nothing else: restarting this process would not help against a failing database."""
    return Health(status="ok")


@router.get("/readyz", summary="Can it serve?", responses=problem_responses(NotReadyError))
def readyz(services: ServicesDep) -> Health:
    """Asks the database and, where the service has a worker of its own, whether that is there.

    Until then it answers 503, and `detail` says what it waits for.
    """
    services.check_ready()
    return Health(status="ok")
