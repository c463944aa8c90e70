"""Traces for OpenTelemetry: from a request through the sweep that it asks for to the worker.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT says where they are collected. Until then, nothing of
OpenTelemetry is imported here, and each function returns at once. What is traced are stages that
take milliseconds or more, never a measured call.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from profiler_service.distribution import find_version, install_command

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables that say where traces are collected. The SDK reads them, and many others."""
FLUSH_S: Final = 1.0
"""How long a process that ends may take to send its last spans."""

_HEADER: Final = "traceparent"
_NOTHING: Final = contextlib.nullcontext()
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


@contextlib.contextmanager
def traced_as(service: str) -> Iterator[None]:
    """In this context, the spans of this process are sent to the endpoint, if there is one.

    `service` is the name of the process in traces, unless OTEL_SERVICE_NAME gives another one.
    """
    if not is_wanted(os.environ):
        yield
        return
    try:
        provider = _create_provider(service)
    except ModuleNotFoundError as error:
        logger.warning(
            "no traces are sent, although %s is set: %s isn't installed (%s)",
            next(filter(os.environ.get, ENDPOINTS)),
            error.name,
            install_command("otel"),
        )
        yield
        return
    try:
        with spans_go_to(provider):
            yield
    finally:
        # Sending would go on for a minute if nobody listens.
        sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(FLUSH_S)


@contextlib.contextmanager
def spans_go_to(provider: TracerProvider) -> Iterator[None]:
    """In this context, spans are made with this provider, in all threads."""
    global _provider, _tracer
    _provider, _tracer = provider, provider.get_tracer("profiler_service", find_version())
    try:
        yield
    finally:
        _provider = _tracer = None


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment variables say that somebody collects traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environment.get(name) for name in ENDPOINTS)


def find_provider() -> TracerProvider | None:
    """What makes the spans of this process; None if there are none."""
    return _provider


def span(
    name: str,
    attributes: Mapping[str, str | int] | None = None,
    *,
    parent: str | None = None,
) -> contextlib.AbstractContextManager[object]:
    """A context that is a span, within the current one or, if there is none, within `parent`.

    `parent` is a `traceparent` (Source: W3C Trace Context). One that is malformed counts as none.
    """
    if _tracer is None:
        return _NOTHING
    return _tracer.start_as_current_span(
        name,
        context=None if parent is None else _context_of(parent),
        attributes=dict(attributes or {}),
    )


def current_traceparent() -> str | None:
    """The current span, as a `traceparent`; None if there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER)


def describe_span(name: str, value: str) -> None:
    """Gives the current span an attribute, if there is one."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    get_current_span().set_attribute(name, value)


def link_span(traceparent: str | None) -> None:
    """Links the current span with that of another trace. Within its own trace, nothing is linked:
    spans have their parents there.
    """
    if _tracer is None or traceparent is None:
        return
    from opentelemetry.trace import get_current_span

    current = get_current_span()
    other = get_current_span(_context_of(traceparent)).get_span_context()
    if other.is_valid and other.trace_id != current.get_span_context().trace_id:
        current.add_link(other)


def _context_of(traceparent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({_HEADER: traceparent}, Context())


def _create_provider(service: str) -> TracerProvider:
    """Sends spans in batches, from a thread. Raises ModuleNotFoundError without the extra."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource.create({"service.name": service, "service.version": find_version()})
    provider = TracerProvider(
        # What the environment says of the process counts more.
        resource=named.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
