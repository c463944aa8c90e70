"""Traces leave for the collector that somebody named, and nothing happens if nobody did."""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from profiler_service.telemetry.traces import FLUSH_S, is_wanted, span, traced_as

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _nobody_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


# FastAPI imports the interface of OpenTelemetry by itself; the worker has no FastAPI.
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("profiler_service.app", ("opentelemetry.sdk.", "opentelemetry.exporter.")),
        ("profiler_service.processes.worker", ("opentelemetry.",)),
    ],
)
def test_nothing_is_imported_unless_somebody_collects_traces(
    module: str, unwanted: tuple[str, ...]
) -> None:
    program = f"""
import sys, {module}
from profiler_service.telemetry import traces
with traces.traced_as("lhp"), traces.span("stage", parent={PARENT!r}):
    traces.describe_span("name", "value")
    traces.link_span({PARENT!r})
    assert traces.current_traceparent() is None
sys.exit(any(f"{{name}}.".startswith({unwanted!r}) for name in sys.modules))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({ENDPOINT: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_an_endpoint_says_that_traces_are_wanted(environment: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environment) is wanted


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.SimpleQueue[tuple[str, bytes]]]:
    """What a collector on this machine gets: the path and the body of each request."""
    got: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # as http.server names it
            got.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}")
        yield got
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("given", "name"), [({}, "lhp-worker"), ({"OTEL_SERVICE_NAME": "pool-a"}, "pool-a")]
)
def test_spans_reach_the_collector_before_the_process_ends(
    collected: queue.SimpleQueue[tuple[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    name: str,
) -> None:
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    with traced_as("lhp-worker"), span("measure", {"lhp.visits": 3}, parent=PARENT):
        pass
    path, body = collected.get(timeout=10)
    assert path == "/v1/traces"
    [process] = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {each.key: each.value.string_value for each in process.resource.attributes}
    assert names["service.name"] == name
    [sent] = process.scope_spans[0].spans
    assert (sent.name, sent.trace_id.hex()) == ("measure", PARENT.split("-")[1])
    assert [(each.key, each.value.int_value) for each in sent.attributes] == [("lhp.visits", 3)]


def test_a_collector_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with traced_as("lhp-worker"):
            with span("measure"):
                pass
            began_s = time.monotonic()
        # The exporter itself would wait for 10 s.
        assert time.monotonic() - began_s < FLUSH_S + 5
    for thread in threading.enumerate():
        if thread.name == "last-spans":
            thread.join()


def test_without_the_extra_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level(logging.WARNING), traced_as("lhp-worker"), span("measure"):
        pass
    assert "pip install 'lhp-profiler[otel]'" in caplog.text
