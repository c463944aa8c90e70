"""One measurer a machine and device, one live worker a host: real worker processes.

The leases, which are all that differs between the databases here, are tested on both of them in
`tests/storage/test_leases.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profiler_service import jobs
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage.leases import LEASE_S
from profiler_service.storage.store import Store, Sweep
from tests.databases import only_postgresql, only_sqlite
from tests.processes.fake_worker import HOST, PATIENCE_S, begun, spec, wait_until
from tests.storage.test_leases import let_time_pass

ROOT = Path(__file__).parents[2]


class Machine:
    """A machine with a worker of its own: its directories, its log, its lock."""

    def __init__(self, name: str, directory: Path, url: str, settings: dict[str, str]) -> None:
        self.log = directory / f"{name}.begun"
        self._output = directory / f"{name}.output"
        self._environment = {
            **os.environ,
            "LHP_DATABASE_URL": url,
            "LHP_HOST": HOST,
            "LHP_DEVICE": "cpu",
            # As on another machine, its lock isn't seen by others.
            "LHP_PARTITION": f"{os.environ['LHP_PARTITION']} {name}",
            "HOME": str(directory / name),
            "XDG_DATA_HOME": str(directory / name / "data"),
            "FAKE_LOG": str(self.log),
            "FAKE_BATCH_S": "0.01",
            "FAKE_MACHINE": "",
            **settings,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes.fake_worker"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment | settings,
            )
        self.processes.append(process)
        return process

    def output(self) -> str:
        return self._output.read_text() if self._output.exists() else ""


Make = Callable[..., Machine]
HandIn = Callable[..., Sweep]


@pytest.fixture
def make(database_url: str, tmp_path: Path) -> Iterator[Make]:
    jobs.upgrade(Settings(database_url=database_url, host=HOST))
    machines: list[Machine] = []

    def make_machine(name: str, **settings: str) -> Machine:
        machines.append(Machine(name, tmp_path, database_url, settings))
        return machines[-1]

    yield make_machine
    for process in (process for machine in machines for process in machine.processes):
        process.kill()
        process.wait()


@pytest.fixture
def hand_in(store: Store, make: Make, database_url: str) -> Iterator[HandIn]:
    """Creates a sweep of so many batches and enqueues it, so that no heartbeat has to find it."""
    with contextlib.ExitStack() as stack:

        def hand_in_sweep(num_batches: int, host: str = HOST) -> Sweep:
            settings = Settings(database_url=database_url, host=host)
            client = stack.enter_context(contextlib.closing(jobs.JobClient(settings)))
            sweep, _ = store.create_sweep(spec(num_batches), host=host)
            client.enqueue(sweep)
            return sweep

        yield hand_in_sweep


def num_kept(store: Store, sweep_id: str) -> int:
    return len(store.load_batches(sweep_id))


def is_registered(store: Store, host: str) -> bool:
    return host in [each.name for each in store.list_hosts()]


# One machine


@only_sqlite
def test_a_second_worker_on_a_machine_waits_whatever_it_is_called_and_takes_over(
    store: Store, make: Make, hand_in: HandIn
) -> None:
    """Two host names on one machine, each with its directories, as two users may have them."""
    same = {"LHP_PARTITION": f"{os.environ['LHP_PARTITION']} same"}
    one, two = make("one", **same), make("two", **same, LHP_HOST="other[name]")
    first = one.start()
    wait_until(lambda: is_registered(store, HOST))
    sweep = hand_in(10_000)
    wait_until(lambda: num_kept(store, sweep.id) >= 2)

    alone = two.start()
    assert alone.wait(PATIENCE_S) == 1  # by `lhp worker`, it is 75: to be tried later
    waiting = two.start(FAKE_WAITS="1")
    wait_until(lambda: "nothing new is measured for host 'other[name]'" in two.output())

    assert f"a worker of host '{HOST}' is running already (process {first.pid})" in two.output()
    assert not is_registered(store, "other[name]")
    kept = num_kept(store, sweep.id)
    wait_until(lambda: num_kept(store, sweep.id) > kept)  # the first one isn't disturbed

    first.kill()
    wait_until(lambda: is_registered(store, "other[name]"))
    other = hand_in(2, "other[name]")
    wait_until(lambda: store.get_sweep(other.id).state.is_final)
    assert store.get_sweep(other.id).state is SweepState.DONE
    assert waiting.poll() is None
    assert "Traceback" not in one.output() + two.output()


@only_sqlite
def test_a_killed_worker_is_followed_at_once_on_its_machine(store: Store, make: Make) -> None:
    machine = make("one")
    for _ in range(3):
        process = machine.start()
        wait_until(lambda: machine.output().count("measuring for host") == len(machine.processes))
        process.kill()
        process.wait()
    assert "running worker already" not in machine.output()


# Two machines of one name


@only_postgresql
def test_a_cloned_machine_is_refused_by_name_and_told_what_to_do(
    store: Store, make: Make, hand_in: HandIn
) -> None:
    original, clone = make("original"), make("clone")
    first = original.start()
    wait_until(lambda: is_registered(store, HOST))

    second = clone.start()
    assert second.wait(PATIENCE_S) == 1
    assert f"host '{HOST}' has a running worker already (process {first.pid} on " in clone.output()

    clone.start(FAKE_WAITS="1")
    wait_until(lambda: "give it another name with LHP_HOST" in clone.output())
    sweep = hand_in(5)
    wait_until(lambda: store.get_sweep(sweep.id).state.is_final)
    assert store.get_sweep(sweep.id).state is SweepState.DONE
    assert (begun(original.log), begun(clone.log)) == ([0, 1, 2, 3, 4], [])
    assert "Traceback" not in original.output() + clone.output()


@only_postgresql
def test_a_clone_takes_over_once_the_originals_lease_has_run_out(
    store: Store, make: Make, hand_in: HandIn, database_url: str
) -> None:
    original, clone = make("original", FAKE_BATCH_S="0.1"), make("clone", FAKE_WAITS="1")
    first = original.start()
    wait_until(lambda: is_registered(store, HOST))
    sweep = hand_in(200)
    wait_until(lambda: num_kept(store, sweep.id) >= 3)
    clone.start()
    wait_until(lambda: "has a running worker already" in clone.output())
    first.kill()
    first.wait()
    kept = num_kept(store, sweep.id)
    assert begun(clone.log) == []

    let_time_pass(database_url, LEASE_S + 1)

    wait_until(lambda: store.get_sweep(sweep.id).state.is_final)
    assert store.get_sweep(sweep.id).state is SweepState.DONE
    # It shows no identity of its own: as after a move of the same machine, nothing is lost.
    assert begun(clone.log) == list(range(kept, 200))


@pytest.mark.parametrize(
    ("database_url", "model"),
    [("postgresql", "fake"), ("sqlite", "another")],
    indirect=["database_url"],
)
def test_no_curve_holds_samples_of_two_machines(
    store: Store, make: Make, hand_in: HandIn, database_url: str, model: str
) -> None:
    original = make("original", FAKE_MACHINE="m1", FAKE_BATCH_S="0.5")
    other = make("other", FAKE_MACHINE="m2", FAKE_WAITS="1", FAKE_MODEL=model)
    first = original.start()
    wait_until(lambda: is_registered(store, HOST))
    sweep = hand_in(100)
    # Cut off in the middle of a batch, for so long that the other one takes over; then it goes on.
    wait_until(lambda: len(begun(original.log)) >= 3)
    first.send_signal(signal.SIGSTOP)
    let_time_pass(database_url, LEASE_S + 1)
    other.start()
    wait_until(lambda: len(begun(other.log)) >= 3)
    first.send_signal(signal.SIGCONT)

    assert first.wait(PATIENCE_S) == os.EX_TEMPFAIL
    wait_until(lambda: store.get_sweep(sweep.id).state.is_final)
    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE, ended.error
    # All of it was measured by the other one, whatever its platform.
    assert begun(other.log) == list(range(100))
    assert num_kept(store, sweep.id) == 100
    assert ended.curve_id is not None
    assert store.load_curve(ended.curve_id).platform.device_model == model
    assert "measured by another worker now (process" in original.output()
    assert "Traceback" not in original.output() + other.output()


@only_postgresql
def test_a_worker_that_ends_in_good_order_leaves_its_place_at_once(
    store: Store, make: Make
) -> None:
    original, clone = make("original"), make("clone", FAKE_WAITS="1")
    first = original.start()
    wait_until(lambda: is_registered(store, HOST))
    clone.start()
    wait_until(lambda: "has a running worker already" in clone.output())
    first.terminate()
    assert first.wait(PATIENCE_S) == 0
    wait_until(lambda: "measuring for host" in clone.output())
