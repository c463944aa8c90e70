"""Puts the application together from its routes and layers.

Doesn't know what the routes do.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from profiler_service.answering.own_worker import FindOwnWorker
from profiler_service.answering.services import open_services
from profiler_service.answering.shutdown import Shutdown
from profiler_service.api import (
    audit,
    batch,
    curves,
    facts,
    fleet_sweeps,
    health,
    hosts,
    joining,
    metrics,
    own_sweeps,
    predictions,
    problems,
    questions,
    sweeps,
    tokens,
    workloads,
)
from profiler_service.api.access import (
    Authenticate,
    describe_access,
    find_public,
    read_by_default,
)
from profiler_service.api.conventions import AnswerHead, RedirectRelatively
from profiler_service.api.dependencies import refuse_unknown_parameters
from profiler_service.api.limits import RequestLimits
from profiler_service.api.observing import ObserveRequests
from profiler_service.api.origins import RefuseForeign, ShareResponses
from profiler_service.api.problems import install_problem_handlers, problem_responses
from profiler_service.api.ready_responses import ReadyResponses
from profiler_service.api.shutdown import EndRequestsQuietly
from profiler_service.dashboard.app import ROUTERS, add_pages
from profiler_service.distribution import find_version
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from profiler_service.telemetry.metrics import ServiceMetrics
from profiler_service.telemetry.traces import find_provider

DESCRIPTION = """
Measures how long matrix products take, depending on their dimensions, and answers:
**which larger dimension costs no more time than mine?**

Latency is not a smooth function of a dimension: `1197 × 317` may take longer than `1200 × 320`.
A *latency hysteresis point* (LHP) is a point for which no larger point is as fast or faster. A
layer that grows to an LHP costs no more time. `GET /lhp?dims=1197,317` finds it. If the answer
isn't known yet, the service measures it.

Latencies are seconds per call. Errors are `application/problem+json` (RFC 9457) with a
`hint` that says what to do.
"""

TAGS = [
    {"name": "query", "description": "The central question, and the one about sparse kernels."},
    {"name": "sweeps", "description": "Measurements asked for, under way, and done."},
    {"name": "curves", "description": "Latency over a grid of dims, as a sweep measured it."},
    {"name": "facts", "description": "Pairs of dims that races confirmed."},
    {"name": "hosts", "description": "Machines that measure, and the platforms they are."},
    {"name": "workloads", "description": "What can be measured, with its fixed parameters."},
    {"name": "access", "description": "Tokens, and the trail of what was done."},
    {"name": "problems", "description": "Every `type` of an error."},
    {"name": "health", "description": "For supervisors and load balancers."},
]


def create_app(
    settings: Settings,
    *,
    store: Store | None = None,
    enqueue: Callable[[Sweep], None] | None = None,
    own_worker: FindOwnWorker | None = None,
) -> FastAPI:
    """The service as an ASGI application, whose lifespan must run.

    Call `app.state.shutdown.begin()` before waiting for open requests to end. Requests that wait
    for a measurement then answer at once, and streams end.

    Args:
        settings: the operator's settings.
        store, enqueue, own_worker: as `open_services` takes them.
    """
    shutdown = Shutdown()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(
            settings, shutdown=shutdown, store=store, enqueue=enqueue, own_worker=own_worker
        ) as services:
            app.state.services = services
            yield

    public: set[tuple[str, str]] = set()  # filled below, when all routes are there
    # /docs gets its script and style from here: a machine that measures may have no internet.
    app = FastAPIOffline(
        title="lhp",
        summary="Latency hysteresis points as a service.",
        description=DESCRIPTION,
        version=find_version(),
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        dependencies=[read_by_default(public)],
        telemetry=describe_telemetry(),
    )
    app.state.shutdown = shutdown
    app.state.ready = ReadyResponses()
    app.add_middleware(AnswerHead)
    app.add_middleware(RedirectRelatively)
    app.add_middleware(RequestLimits)
    app.add_middleware(
        Authenticate,
        public=public,
        rate_limit=settings.rate_limit,
        most_open=settings.share_of_client(settings.max_connections),
    )
    origins = [origin for origin in settings.allowed_origins.split(",") if origin]
    if origins:
        # Around the check of tokens: a browser asks without one what a page may send.
        app.add_middleware(ShareResponses, allowed_origins=origins)
    app.add_middleware(
        RefuseForeign,
        listen=settings.listen,
        allowed_hosts=[name for name in settings.allowed_hosts.split(",") if name],
        allowed_origins=origins,
    )
    app.add_middleware(EndRequestsQuietly, shutdown=shutdown)
    app.state.metrics = ServiceMetrics(version=find_version())
    app.add_middleware(ObserveRequests, metrics=app.state.metrics)
    refused = problem_responses()
    # Not for lists and questions that also have parameters that only workload kinds know.
    with_parameters = (questions, facts, predictions, curves)
    for each in with_parameters:
        app.include_router(each.router, responses=refused)
    rest = (
        batch,
        sweeps,
        own_sweeps,
        fleet_sweeps,
        hosts,
        joining,
        workloads,
        tokens,
        audit,
        problems,
        health,
        metrics,
    )
    for each in rest:
        app.include_router(
            each.router, dependencies=[Depends(refuse_unknown_parameters)], responses=refused
        )
    install_problem_handlers(app)
    add_pages(app)
    routers = [*(each.router for each in (*with_parameters, *rest)), *ROUTERS]
    routes = [*app.routes, *(route for each in routers for route in each.routes)]
    public |= find_public(routes, open_metrics=settings.open_metrics)
    describe_access(app, routes, public=public, is_exposed=settings.is_exposed)
    _describe_longest_wait(app, settings.max_wait_s)
    return app


WATCHED = ("/healthz", "/readyz", "/metrics")
"""Paths that somebody asks for every few seconds; such requests aren't traced."""


def describe_telemetry() -> dict[str, Any]:
    """What FastAPI is to do with OpenTelemetry: a span for each request, if spans are wanted.

    Metrics are those of `telemetry.metrics`.
    """
    provider = find_provider()
    return {
        "tracing": provider is not None,
        "tracer_provider": provider,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in WATCHED,
    }


def _describe_longest_wait(app: FastAPI, max_wait_s: float) -> None:
    """Makes the OpenAPI description say how long a question may wait here."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        described = describe()
        for path, method in (("/lhp", "get"), ("/lhp/batch", "post"), ("/crossover", "get")):
            question = described["paths"][path][method]
            question["parameters"] = [
                {**each, "schema": {**each["schema"], "maximum": max_wait_s}}
                if each["name"] == "wait"
                else each
                for each in question["parameters"]
            ]
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
