"""Turns to measure: one process at a time, each in its turn, and free however its holder ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from profiler_service.errors import MeasurementInterruptedError
from profiler_service.measurement.identity import CPU
from profiler_service.measurement.turn import DeviceTurn, hold_turn

HOLD = """
import os, sys
from profiler_service.measurement.turn import hold_turn
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
with hold_turn("cpu", partition=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
TAKE_TURNS = """
import sys
from profiler_service.measurement.turn import DeviceTurn
turn = DeviceTurn("cpu", partition=sys.argv[1])
with turn.held():
    print("had a turn", flush=True)
while True:
    with turn.held():
        pass
"""
PATIENCE_S = 30.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def partition() -> str:
    """A part of this machine that nobody else measures on."""
    return uuid.uuid4().hex


@pytest.fixture
def start(partition: str) -> Iterator[Start]:
    """Starts a process with the partition as its first argument, and reads its first line."""
    with contextlib.ExitStack() as stack:

        def start_program(program: str, *arguments: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, partition, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline()
            return process

        yield start_program


def is_free(partition: str) -> bool:
    with DeviceTurn(CPU, partition=partition).held(patience_s=0.0) as is_mine:
        return is_mine


def wait_until_awaited(turn: DeviceTurn) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not turn.is_awaited():
        assert time.monotonic() < deadline


@contextlib.contextmanager
def somebody_waiting(turn: DeviceTurn, partition: str) -> Iterator[None]:
    """In this context, somebody waits for a turn, and doesn't get it."""
    stop = threading.Event()

    def wait_in_vain() -> None:
        other = DeviceTurn(CPU, partition=partition)
        with pytest.raises(MeasurementInterruptedError), other.held(must_stop=stop.is_set):
            pass

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_until_awaited(turn)
    yield
    stop.set()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()


def test_one_process_at_a_time_has_the_turn(partition: str) -> None:
    with hold_turn(CPU, partition=partition) as is_mine:
        assert is_mine
        assert not is_free(partition)
    assert is_free(partition)


def test_other_devices_and_partitions_have_turns_of_their_own(partition: str) -> None:
    with hold_turn(CPU, partition=partition):
        assert is_free(partition + "2")
        with hold_turn("GPU-1", partition=partition) as is_mine:
            assert is_mine


def test_an_error_in_a_turn_ends_it(partition: str) -> None:
    with pytest.raises(ZeroDivisionError), hold_turn(CPU, partition=partition):
        _ = 1 / 0
    assert is_free(partition)


@pytest.mark.parametrize("way", ["kill -9", "ends"])
def test_who_waits_gets_the_turn_once_its_holder_is_dead(
    start: Start, partition: str, way: str
) -> None:
    holder = start(HOLD)
    waited_for: list[int] = []
    is_waiting, got = threading.Event(), threading.Event()

    def note(pid: int, _waited_s: float) -> None:
        waited_for.append(pid)
        is_waiting.set()

    def take() -> None:
        with DeviceTurn(CPU, partition=partition).held(on_wait=note):
            got.set()

    taking = threading.Thread(target=take)
    taking.start()
    assert is_waiting.wait(PATIENCE_S)
    assert not got.is_set()
    if way == "ends":
        assert holder.stdin is not None
        holder.stdin.close()
    else:
        holder.kill()
    assert got.wait(PATIENCE_S)
    taking.join()
    assert set(waited_for) == {holder.pid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_process_has_its_turn(start: Start, partition: str) -> None:
    start(HOLD, "65534")
    assert not is_free(partition)


def test_processes_started_in_a_turn_do_not_prolong_it(partition: str) -> None:
    with hold_turn(CPU, partition=partition):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert is_free(partition)
    finally:
        child.kill()
        child.wait()


def test_two_that_both_want_to_measure_get_every_second_turn(start: Start, partition: str) -> None:
    """The other one, which never pauses, ends a turn and wants the next one at once."""
    other = start(TAKE_TURNS)
    assert other.stdout is not None
    turn = DeviceTurn(CPU, partition=partition)
    with turn.held():
        wait_until_awaited(turn)
    # From here on, both always want one: this one's `held` begins while the other has its turn, or
    # right after it, when the other already waits.
    taken = 0
    for _ in range(50):
        with turn.held() as is_mine:
            taken += is_mine
            wait_until_awaited(turn)
    with turn.held():
        wait_until_awaited(turn)
        other.kill()
    assert taken == 50


def test_who_has_just_had_a_turn_comes_after_who_waits(partition: str) -> None:
    """By turns, in the order in which they were wanted: never twice in a row."""
    order: list[str] = []
    first, second = (DeviceTurn(CPU, partition=partition) for _ in range(2))

    def take_second() -> None:
        for _ in range(20):
            with second.held():
                order.append("second")
                if len(order) < 40:
                    wait_until_awaited(second)

    taking = threading.Thread(target=take_second)
    for number in range(20):
        with first.held():
            order.append("first")
            if number == 0:
                taking.start()
            wait_until_awaited(first)
    taking.join(PATIENCE_S)
    assert order == ["first", "second"] * 20


def test_a_turn_is_awaited_only_while_somebody_waits(partition: str) -> None:
    turn = DeviceTurn(CPU, partition=partition)
    assert not turn.is_awaited()
    with turn.held():
        assert not turn.is_awaited()
        with somebody_waiting(turn, partition):
            # A batch is broken off after a second, and never before its first visit.
            assert turn.must_yield(under_way_s=1.0, num_done=1)
            assert not turn.must_yield(under_way_s=0.9, num_done=1)
            assert not turn.must_yield(under_way_s=9.0, num_done=0)
        assert not turn.is_awaited()
        assert not turn.must_yield(under_way_s=9.0, num_done=1)


def test_a_suspended_holder_is_passed_over_once_patience_ends(
    start: Start, partition: str, caplog: pytest.LogCaptureFixture
) -> None:
    holder = start(HOLD)
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    turn = DeviceTurn(CPU, partition=partition)
    with caplog.at_level(logging.WARNING), turn.held(patience_s=0.1) as is_mine:
        assert not is_mine
    assert f"process {holder.pid} has measured on this machine's processors" in caplog.text

    # It isn't waited for again, and nothing is said again.
    caplog.clear()
    began = time.monotonic()
    with turn.held(patience_s=PATIENCE_S) as is_mine:
        assert not is_mine
    assert time.monotonic() - began < PATIENCE_S / 2
    assert not caplog.records

    # Who waits for it, too, breaks off no batch of this one.
    with somebody_waiting(turn, partition):
        assert not turn.must_yield(under_way_s=9.0, num_done=1)

    # Once it has ended, turns are taken as before.
    holder.kill()
    holder.wait(PATIENCE_S)
    with turn.held(patience_s=0.0) as is_mine:
        assert is_mine


def test_who_was_passed_over_once_is_waited_for_in_its_next_turn(partition: str) -> None:
    """The same process, which had only one turn that took too long."""
    guest, worker = (DeviceTurn(CPU, partition=partition) for _ in range(2))
    with guest.held(), worker.held(patience_s=0.0) as is_mine:
        assert not is_mine
    got = threading.Event()

    def take() -> None:
        with worker.held(patience_s=PATIENCE_S) as is_mine:
            assert is_mine
            got.set()

    with guest.held():
        taking = threading.Thread(target=take)
        taking.start()
        wait_until_awaited(guest)
        assert not got.is_set()
    assert got.wait(PATIENCE_S)
    taking.join()
