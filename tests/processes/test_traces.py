"""The stages of a sweep as spans, in the trace of the request that asked for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Store
from tests.processes.fake_worker import FakeMeasurer, create_runner, create_sweep

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7


def test_the_stages_of_a_sweep_belong_to_the_trace_that_asked_for_it(
    store: Store, log: Path, spans: InMemorySpanExporter
) -> None:
    demand = Demand(expected_s=1.0, is_awaited=True, traceparent=f"00-{TRACE:032x}-{SPAN:016x}-01")
    sweep = create_sweep(store, 2, demand)
    runner = create_runner(store, FakeMeasurer(log))
    while not runner.run_batch(sweep.id):
        pass

    made = spans.get_finished_spans()
    # Two batches of one point each, and the turn in which nothing is left to measure. However many
    # calls a batch has, it is one span.
    assert Counter(each.name for each in made) == {
        "batch": 3,
        "plan": 3,
        "measure": 2,
        "store": 2,
        "finish": 1,
    }
    assert {each.context.trace_id for each in made if each.context} == {TRACE}
    batches = {each.context.span_id for each in made if each.name == "batch" and each.context}
    parents = {each.name: each.parent.span_id for each in made if each.parent}
    assert parents.pop("batch") == SPAN
    assert len(batches) == 3 and set(parents.values()) <= batches
    [*_, last] = [each for each in made if each.name == "batch"]
    assert last.attributes == {"lhp.sweep": sweep.id}


def test_a_sweep_that_nobody_traced_begins_a_trace_of_its_own(
    store: Store, log: Path, spans: InMemorySpanExporter
) -> None:
    for traceparent in (None, "nonsense"):
        demand = Demand(expected_s=1.0, is_awaited=True, traceparent=traceparent)
        sweep = create_sweep(store, 1, demand)
        runner = create_runner(store, FakeMeasurer(log))
        while not runner.run_batch(sweep.id):
            pass
        assert [each.parent for each in spans.get_finished_spans() if each.name == "batch"] == [
            None,
            None,
        ]
        spans.clear()
