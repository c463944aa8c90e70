"""/metrics: for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from profiler_service.api.dependencies import BoundedRoute, ServicesDep
from profiler_service.telemetry.metrics import ServiceMetrics

router = APIRouter(route_class=BoundedRoute, tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics, for Prometheus",
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "description": "Prometheus' text format.",
        }
    },
)
async def get_metrics(request: Request, services: ServicesDep) -> Response:
    """Requests and answers of this process, and the state of all hosts.

    While the database is away, hosts are as they were read last, and `lhp_database_up` is 0.
    """
    own: ServiceMetrics = request.app.state.metrics
    text = await services.fleet_metrics.render(own.registry)
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
