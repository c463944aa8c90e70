"""The request that asked for a sweep, in the worker's log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_service.plan.turns import Demand
from profiler_service.storage.store import Store
from profiler_service.telemetry.logs import create_json_formatter
from tests.processes.fake_worker import FakeMeasurer, create_runner, create_sweep


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    """What this project's code logs, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(create_json_formatter())
    logger = logging.getLogger("profiler_service")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_lines_about_a_sweep_name_it_and_its_request(
    store: Store, log: Path, json_log: io.StringIO
) -> None:
    demand = Demand(expected_s=1.0, is_awaited=True, request_id="asked-7")
    asked = create_sweep(store, 1, demand)
    nobody_s = create_sweep(store, 2)
    runner = create_runner(store, FakeMeasurer(log))
    for sweep in (asked, nobody_s):
        while not runner.run_batch(sweep.id):
            pass

    lines = [json.loads(line) for line in json_log.getvalue().splitlines()]
    said = [(each["event"], each["sweep"], each.get("request_id")) for each in lines]
    assert said == [
        (f"sweep {asked.id} starts", asked.id, "asked-7"),
        (f"sweep {asked.id} ended after 1 batches", asked.id, "asked-7"),
        (f"sweep {nobody_s.id} starts", nobody_s.id, None),
        (f"sweep {nobody_s.id} ended after 2 batches", nobody_s.id, None),
    ]
