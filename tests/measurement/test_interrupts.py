"""How a measurement is interrupted, and how its child ends.

The child process is real: no part of it is replaced, but for workloads that misbehave.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.errors import MeasurementInterruptedError
from profiler_service.measurement.measurer import Measurer
from tests.measurement.batches import LINE, batch_of, child_pid
from tests.measurement.builders import BLOCKS, KINDS, NOTHING, SLOW, TROUBLE, workload


def after_the_visit_began(fifo: Path, do: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        fifo.read_text()  # returns when the visit has written to it
        do()

    os.mkfifo(fifo)
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_interrupt_between_visits_leaves_the_child_alive(
    measurer: Measurer, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    pid = child_pid(measurer)
    many = [1] + [2] * 2_000_000  # at some 10 µs each, 20 s of visits
    thread = after_the_visit_began(fifo, measurer.interrupt)
    started_s = time.monotonic()
    with pytest.raises(MeasurementInterruptedError):
        measurer.measure(workload(NOTHING, fifo=str(fifo)), LINE, batch_of(many))
    thread.join()
    assert time.monotonic() - started_s < 10
    assert child_pid(measurer) == pid
    # An interrupt ends one measurement, not the next.
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2]))) == 2
    measurer.interrupt()
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2]))) == 2


def test_interrupt_of_a_visit_that_never_ends(measurer: Measurer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    thread = after_the_visit_began(fifo, measurer.interrupt)
    started_s = time.monotonic()
    with pytest.raises(MeasurementInterruptedError):
        measurer.measure(workload(TROUBLE, fifo=str(fifo)), LINE, batch_of([BLOCKS]))
    thread.join()
    assert time.monotonic() - started_s < 10
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_ctrl_c_leaves_a_measurer_that_still_measures(measurer: Measurer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    main = threading.main_thread().ident
    assert main is not None
    thread = after_the_visit_began(fifo, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(workload(TROUBLE, fifo=str(fifo)), LINE, batch_of([BLOCKS]))
    thread.join()
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_a_batch_that_yields_keeps_its_samples_and_its_rest(
    measurer: Measurer, tmp_path: Path
) -> None:
    slow = workload(SLOW, log=str(tmp_path / "calls"), call_ms=50)
    batch = batch_of([*range(1, 21)])  # at 0.1 s a visit, 2 s
    asked: list[int] = []

    def must_yield(num_done: int) -> bool:
        asked.append(num_done)
        return num_done >= 2

    first = measurer.measure_part(slow, LINE, batch, must_yield=must_yield)

    assert first.rest is not None and len(first.samples) >= 2
    assert [*first.samples.point, *first.rest.point] == [*batch.point]
    assert [*first.samples.round, *first.rest.round] == [*batch.round]
    assert asked == sorted(asked) and asked[-1] >= 2  # not asked again once it was told to yield
    assert all(num_done < 2 for num_done in asked[:-1])
    # Nothing of what is kept is measured again.
    second = measurer.measure_part(slow, LINE, first.rest, must_yield=lambda _: False)
    assert second.rest is None
    joined = Samples.join([first.samples, second.samples])
    assert list(joined.point) == list(batch.point)
    assert (np.diff(joined.time_s) > 0).all()
    assert (joined.latency_s > 0.045).all()


def test_a_visit_that_yields_ends_after_the_call_under_way(
    measurer: Measurer, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    slow = workload(SLOW, log=str(log), call_ms=3000)
    batch = batch_of([1, 2])  # a warm-up call and a timed call each

    part = measurer.measure_part(slow, LINE, batch, must_yield=lambda _: True)

    # It was told to yield during the warm-up call, a quarter of a second after its start.
    assert log.read_text().split() == ["1"]
    assert len(part.samples) == 0 and not part.samples.failures
    assert part.rest is not None and list(part.rest.point) == list(batch.point)
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_child_ignores_the_signals_that_end_its_parent(measurer: Measurer) -> None:
    pid = child_pid(measurer)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1
    assert child_pid(measurer) == pid


def test_close_ends_the_child() -> None:
    measurer = Measurer(device="cpu", kinds=KINDS)
    pid = child_pid(measurer)
    measurer.close()
    measurer.close()  # twice is once
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


PARENT = """
import sys, threading
from profiler_service.measurement import doctor
from profiler_service.measurement.measurer import Measurer

measurer = Measurer(device="cpu")
assert "torch" not in sys.modules
print(measurer._children.get(0)[1].pid, flush=True)
threading.Event().wait()
"""


def test_parent_never_imports_torch_and_its_child_dies_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended  # a process's descriptor becomes readable when it ends
