"""A measuring child that can't start: what says something about the machine, and what doesn't."""

from __future__ import annotations

import subprocess

import pytest

from profiler_service.errors import (
    DeviceLostError,
    MeasurementChildDiedError,
    MeasurementFailedError,
)
from profiler_service.kinds import MATMUL
from profiler_service.measurement import child_process
from profiler_service.measurement.measurer import Measurer
from tests.measurement.batches import LINE, batch_of

PROGRAM = "import os, signal, sys; {end} # {{}} {{}}"
REFUSES = """
from multiprocessing.connection import Connection
from profiler_service.measurement.exchange import Refused
Connection({}).send(Refused(message="there is no CUDA device", hint="install one")) # {}
"""


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9: SIGKILL; out of memory?"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11: SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "signal 15: SIGTERM"),
        ("sys.exit(0)", "exit code 0"),
        ("sys.exit(78)", "exit code 78"),
    ],
)
def test_a_child_that_ends_before_it_says_anything_says_nothing_about_the_machine(
    monkeypatch: pytest.MonkeyPatch, end: str, how: str
) -> None:
    monkeypatch.setattr(child_process, "_CODE", PROGRAM.format(end=end))
    with pytest.raises(MeasurementChildDiedError) as caught:
        Measurer(device="cpu")
    assert f"the measuring process died ({how})" in str(caught.value)
    assert caught.value.hint


def test_a_child_that_hangs_at_its_start_says_nothing_about_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_process, "_CODE", PROGRAM.format(end="signal.pause()"))
    monkeypatch.setattr(child_process, "START_TIMEOUT_S", 0.5)
    with pytest.raises(MeasurementChildDiedError, match="it was not ready within"):
        Measurer(device="cpu")


def test_a_child_that_refuses_speaks_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_CODE", REFUSES)
    with pytest.raises(MeasurementFailedError, match="no CUDA device") as caught:
        Measurer(device="cpu")
    assert not isinstance(caught.value, MeasurementChildDiedError)


def _refuse_processes(*arguments: object, **options: object) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_no_room_for_a_child_says_nothing_about_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subprocess, "Popen", _refuse_processes)
    with pytest.raises(MeasurementChildDiedError, match="Resource temporarily unavailable"):
        Measurer(device="cpu")


def test_no_room_for_a_new_child_leaves_the_sweep_to_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Measurer(device="cpu") as measurer:
        measurer.close()  # as if it had died
        with monkeypatch.context() as scarce:
            scarce.setattr(subprocess, "Popen", _refuse_processes)
            with pytest.raises(DeviceLostError):
                measurer.measure(MATMUL.describe(), LINE, batch_of([8]))
        assert len(measurer.measure(MATMUL.describe(), LINE, batch_of([8]))) == 1
