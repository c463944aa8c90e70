"""Requests as spans, and the sweep that carries its request's trace to the worker."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

from profiler_service.settings import Settings
from tests.api.conftest import Worker, serving

pytestmark = pytest.mark.anyio

# Source: the examples of W3C Trace Context.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


async def ask(client: httpx.AsyncClient, trace: str) -> httpx.Response:
    return await client.get(
        "/lhp",
        params={"dims": "5,6", "wait": 0},
        headers={"traceparent": f"00-{trace}-{SPAN}-01", "X-Request-Id": f"of-{trace[:4]}"},
    )


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> str:
    assert span.parent is not None
    return format_span_id(span.parent.span_id)


async def test_a_question_and_the_sweep_that_it_brings_are_in_the_client_s_trace(
    spans: InMemorySpanExporter, settings: Settings, sqlite_worker: Worker
) -> None:
    async with serving(settings, sqlite_worker) as client:
        response = await ask(client, TRACE)
    assert response.status_code == 202
    [request] = named(spans, "GET /lhp")
    assert (trace_of(request), parent_of(request)) == (TRACE, SPAN)
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["lhp.request_id"] == "of-4bf9"
    # The question's own sweep comes first; the second compares kernels.
    queued, *_ = sorted(named(spans, "queue sweep"), key=lambda each: each.start_time or 0)
    assert (trace_of(queued), parent_of(queued)) == (TRACE, id_of(request))
    sweep = sqlite_worker.store.get_sweep(response.json()["id"])
    assert sweep.traceparent == f"00-{TRACE}-{id_of(queued)}-01"
    [told] = [e for e in sqlite_worker.store.list_open(sweep.host) if e.id == sweep.id]
    assert told.traceparent == sweep.traceparent


async def test_a_request_that_shares_a_sweep_is_linked_with_the_trace_that_asked_first(
    spans: InMemorySpanExporter, settings: Settings, sqlite_worker: Worker
) -> None:
    async with serving(settings, sqlite_worker) as client:
        first = await ask(client, TRACE)
        second = await ask(client, OTHER_TRACE)
    assert first.json()["id"] == second.json()["id"]
    requests = {trace_of(each): each for each in named(spans, "GET /lhp")}
    assert set(requests) == {TRACE, OTHER_TRACE}
    assert not requests[TRACE].links
    linked = [format_trace_id(each.context.trace_id) for each in requests[OTHER_TRACE].links]
    assert linked == [TRACE]


async def test_what_is_asked_every_few_seconds_is_not_traced(
    spans: InMemorySpanExporter, settings: Settings, sqlite_worker: Worker
) -> None:
    async with serving(settings, sqlite_worker) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/hosts"):
            assert (await client.get(path)).status_code == 200
    assert [each.name for each in spans.get_finished_spans()] == ["GET /hosts"]


async def test_where_nobody_traces_a_sweep_names_no_span(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    response = await ask(client, TRACE)
    assert response.status_code == 202
    assert sqlite_worker.store.get_sweep(response.json()["id"]).traceparent is None
