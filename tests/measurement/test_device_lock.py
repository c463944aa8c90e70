"""The device's lock: one process at a time, whoever runs it, for as long as it lives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profiler_service.errors import WorkerAlreadyRunningError
from profiler_service.measurement.device_lock import Holder, find_holder, hold_device
from profiler_service.measurement.identity import CPU

HOLD = """
import os, sys
from profiler_service.measurement.device_lock import hold_device
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
with hold_device("cpu", host="rack[/gpu]", partition=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def partition() -> str:
    """A part of this machine that nobody else measures on, with a name too long for a socket."""
    return "a part " * 20 + uuid.uuid4().hex


@pytest.fixture
def hold(partition: str) -> Iterator[Hold]:
    """Starts a process that holds the processors' lock of the partition, and says so."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLD, partition, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | variables,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            return process

        yield start


def is_free(partition: str) -> bool:
    with (
        contextlib.suppress(WorkerAlreadyRunningError),
        hold_device(CPU, host="east", partition=partition),
    ):
        return True
    return False


def test_a_device_is_measured_by_one_process_at_a_time(partition: str) -> None:
    with hold_device(CPU, host="rack[/gpu]", partition=partition):
        with (
            pytest.raises(WorkerAlreadyRunningError) as refusal,
            hold_device(CPU, host="east", partition=partition),
        ):
            pass
        assert str(refusal.value) == (
            "on this machine's processors, a worker of host 'rack[/gpu]' is running already"
            f" (process {os.getpid()})"
        )
        assert refusal.value.hint
        assert find_holder(CPU, partition=partition) == Holder(pid=os.getpid(), host="rack[/gpu]")
    assert find_holder(CPU, partition=partition) is None
    assert is_free(partition)


def test_other_devices_and_other_partitions_stay_free(partition: str) -> None:
    names = set()
    with contextlib.ExitStack() as stack:
        for device, part in ((CPU, ""), ("GPU-1", ""), ("GPU-2", ""), (CPU, "2"), ("GPU-1", "2")):
            held = hold_device(device, host="east", partition=partition + part)
            names.add(stack.enter_context(held))
    assert len(names) == 5


def test_a_lock_has_the_same_name_whoever_holds_it(partition: str) -> None:
    with hold_device(CPU, host="east", partition=partition) as first:
        pass
    with hold_device(CPU, host="west", partition=partition) as second:
        pass
    assert first == second
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in first


@pytest.mark.parametrize("way", ["kill -9", "ends"])
def test_a_lock_is_free_once_its_holder_is_dead(hold: Hold, partition: str, way: str) -> None:
    holder = hold()
    assert not is_free(partition)
    if way == "ends":
        assert holder.stdin is not None
        holder.stdin.close()
    else:
        holder.kill()
    holder.wait(30)
    assert is_free(partition)


def test_neither_home_nor_directories_for_files_divide_a_machine(
    hold: Hold, partition: str, tmp_path: Path
) -> None:
    places = ("HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")
    holder = hold(**{name: str(tmp_path / name) for name in places})
    found = find_holder(CPU, partition=partition)
    assert found == Holder(pid=holder.pid, host="rack[/gpu]")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_process_is_seen_and_keeps_the_device(hold: Hold, partition: str) -> None:
    holder = hold("65534")
    with (
        pytest.raises(WorkerAlreadyRunningError, match=rf"process {holder.pid}\)"),
        hold_device(CPU, host="east", partition=partition),
    ):
        pass


def test_a_stopped_process_still_holds_its_device_and_is_named(hold: Hold, partition: str) -> None:
    holder = hold()
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    with (
        pytest.raises(WorkerAlreadyRunningError, match=rf"\(process {holder.pid}\)"),
        hold_device(CPU, host="east", partition=partition),
    ):
        pass


def test_processes_started_by_the_holder_do_not_keep_the_lock(hold: Hold, partition: str) -> None:
    with hold_device(CPU, host="east", partition=partition):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert is_free(partition)
    finally:
        child.kill()
        child.wait()
