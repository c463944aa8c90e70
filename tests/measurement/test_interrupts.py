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

import pytest

from profiler_service.errors import MeasurementInterruptedError
from profiler_service.measurement.measurer import Measurer
from tests.measurement.batches import LINE, batch_of, child_pid
from tests.measurement.builders import BLOCKS, KINDS, NOTHING, TROUBLE, workload


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
