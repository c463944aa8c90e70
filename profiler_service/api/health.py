"""/healthz and /readyz: for supervisors and load balancers."""

from __future__ import annotations

from fastapi import APIRouter

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.resources import own_worker_info
from profiler_service.answering.services import Services
from profiler_service.api.access import PUBLIC
from profiler_service.api.dependencies import BoundedRoute, ServicesDep
from profiler_service.api.problems import WHERE_DETAILS_ARE, problem_responses
from profiler_service.errors import NotReadyError
from profiler_service.wire import Health

router = APIRouter(route_class=BoundedRoute, tags=["health"])


@router.get("/healthz", dependencies=[PUBLIC], summary="Does the process live?")
async def healthz(services: ServicesDep) -> Health:
    """Always 200: a restart of this process would repair neither its database, which isn't checked,
    nor its own worker, which is started again by itself. `worker` says how that is. Once tokens
    are needed, only a caller with the scope `read` sees `worker`, and what is wrong.
    """
    return _describe_health(services)


@router.get(
    "/readyz",
    dependencies=[PUBLIC],
    summary="Can it serve?",
    responses=problem_responses(NotReadyError),
)
async def readyz(services: ServicesDep) -> Health:
    """Checks the database and, if the service has its own worker, whether that measures.

    Until both are ready, it answers 503, and `detail` says what it waits for. `GET /healthz` tells
    more of the worker.
    """
    await services.check_ready()
    return _describe_health(services)


def _describe_health(services: Services) -> Health:
    health = _describe_all(services)
    if Scope.READ in current_caller().allowed:
        return health
    # Paths, servers and processes are nobody's business who has no token.
    return Health(status=health.status, detail=WHERE_DETAILS_ARE if health.detail else "")


def _describe_all(services: Services) -> Health:
    problem = services.database.problem
    if services.own_worker is None:
        return Health(
            status="ok" if problem is None else "degraded",
            detail="" if problem is None else str(problem),
        )
    worker = own_worker_info(services.own_worker(), host=services.settings.host)
    # A worker that stands by is in order: another one measures.
    is_well = worker.state in ("measuring", "standing by")
    details = ([] if problem is None else [str(problem)]) + ([] if is_well else [worker.detail])
    return Health(
        status="degraded" if details else "ok",
        detail="; ".join(details),
        worker=worker,
    )
