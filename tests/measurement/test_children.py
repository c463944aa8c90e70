"""Several measuring processes: which one measures, and what happens when one ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from profiler_service.kinds import MATMUL
from profiler_service.measurement.measurer import Measurer
from tests.measurement.batches import LINE, batch_of


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu", children=2) as measurer:
        yield measurer


def measured_by(measurer: Measurer, child: int) -> int:
    """Which child measures a batch that is meant for `child`."""
    return measurer.measure(MATMUL.describe(), LINE, replace(batch_of([30]), child=child)).child


def wait_until_ready(measurer: Measurer) -> None:
    measurer.wait_for_children()


def test_batches_go_to_the_child_that_they_name(measurer: Measurer) -> None:
    wait_until_ready(measurer)
    assert [measured_by(measurer, child) for child in (0, 1, 2, 3)] == [0, 1, 0, 1]
    pids = {measurer._children.get(number)[1].pid for number in (0, 1)}
    assert len(pids) == 2


def test_nobody_waits_for_a_second_child(measurer: Measurer) -> None:
    wait_until_ready(measurer)
    assert measured_by(measurer, 1) == 1
    os.kill(measurer._children.get(1)[1].pid, signal.SIGKILL)
    # The batch is measured by the other one, while a new one gets ready.
    assert measured_by(measurer, 1) == 0
    wait_until_ready(measurer)
    assert measured_by(measurer, 1) == 1


def test_a_measurer_of_one_child_takes_every_batch_with_it() -> None:
    with Measurer(device="cpu") as measurer:
        assert measured_by(measurer, 1) == 0
