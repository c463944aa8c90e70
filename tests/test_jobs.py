"""Durable sweeps: real worker processes, killed at will, on both databases.

What needs a process and doesn't depend on the database runs on one of them: see `databases.py`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profiler_service import jobs
from profiler_service.errors import StoreUnavailableError
from profiler_service.measurement.device_lock import find_holder
from profiler_service.measurement.identity import CPU
from profiler_service.plan.spec import SweepState
from profiler_service.processes.worker import STOP_LIMIT_S
from profiler_service.settings import Settings
from profiler_service.storage.store import Store, Sweep
from tests.databases import only_postgresql, only_sqlite
from tests.processes.fake_worker import PATIENCE_S, PROTOCOL, begun, platform, spec, wait_until

ROOT = Path(__file__).parent.parent
HOST = "a host/with odd characters"


class Fleet:
    """One host's worker processes, the store they write to, and what they began to measure."""

    def __init__(self, store: Store, settings: Settings, directory: Path) -> None:
        self.store = store
        self.settings = settings
        self.log = directory / "begun.txt"
        self._output = directory / "output.txt"
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, batch_s: float = 0.005) -> subprocess.Popen[bytes]:
        """A worker process whose batches take `batch_s`."""
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes.fake_worker"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "LHP_DATABASE_URL": self.settings.database_url,
                    "LHP_HOST": HOST,
                    "XDG_DATA_HOME": str(self._directory),
                    "FAKE_LOG": str(self.log),
                    "FAKE_BATCH_S": str(batch_s),
                },
            )
        self._processes.append(process)
        return process

    def create_sweep(self, num_batches: int) -> Sweep:
        """A queued sweep that nobody has enqueued."""
        return self.store.create_sweep(spec(num_batches), host=HOST)[0]

    def num_kept(self, sweep: Sweep) -> int:
        """Number of the sweep's batches in the store."""
        return len(self.store.load_batches(sweep.id))

    def wait_for(self, sweep: Sweep) -> Sweep:
        """The sweep once it has ended."""
        wait_until(lambda: self.store.get_sweep(sweep.id).state.is_final)
        return self.store.get_sweep(sweep.id)

    def output(self) -> str:
        """What all workers printed."""
        return self._output.read_text()

    def close(self) -> None:
        """Kills every worker left."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def awake(settings: Settings, run_batch: Callable[[str], bool]) -> Iterator[set[str]]:
    """In this context, jobs run; gives those that run at the moment."""
    with contextlib.closing(jobs.JobRunner(settings, run_batch)) as runner:
        runner.wake()
        yield runner.running


@pytest.fixture
def settings(database_url: str) -> Settings:
    settings = Settings(database_url=database_url, host=HOST)
    jobs.upgrade(settings)
    return settings


@pytest.fixture
def fleet(store: Store, settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    fleet = Fleet(store, settings, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[jobs.JobClient]:
    with contextlib.closing(jobs.JobClient(settings)) as client:
        yield client


def test_a_killed_worker_loses_at_most_the_batch_under_way(
    fleet: Fleet, client: jobs.JobClient
) -> None:
    sweep = fleet.create_sweep(200)
    client.enqueue(sweep)
    moments = sorted(random.Random(2).sample(range(1, 150), 4))
    kept_at_kill = []
    log_at_kill = []
    for moment in moments:
        process = fleet.start()
        wait_until(lambda moment=moment: fleet.num_kept(sweep) >= moment)  # type: ignore[misc]
        process.kill()
        process.wait()
        kept_at_kill.append(fleet.num_kept(sweep))
        log_at_kill.append(len(begun(fleet.log)))

    fleet.start()
    ended = fleet.wait_for(sweep)

    assert ended.state is SweepState.DONE, ended.error
    # Every batch was kept once (the fake planner's batch i is point i).
    kept = fleet.store.load_batches(sweep.id)
    assert [list(samples.point) for samples in kept] == [[i] for i in range(200)]
    # No batch was begun again after it had been kept: when a process died with k batches
    # kept (0 to k - 1), its successors began with batch k exactly, and went on upwards.
    log = begun(fleet.log)
    for num_kept, length in zip(kept_at_kill, log_at_kill, strict=True):
        assert log[length] == num_kept
        assert min(log[length:]) == num_kept
    # Hence at most one batch a kill was measured twice.
    assert len(log) <= 200 + len(moments)
    assert "Traceback" not in fleet.output()


@only_sqlite
def test_a_sweep_enqueued_while_no_worker_runs_is_picked_up_later(
    fleet: Fleet, client: jobs.JobClient
) -> None:
    sweep = fleet.create_sweep(3)
    client.enqueue(sweep)
    client.enqueue(sweep)

    fleet.start()

    assert fleet.wait_for(sweep).state is SweepState.DONE
    assert begun(fleet.log) == [0, 1, 2]


@only_postgresql
def test_a_sweep_that_was_never_enqueued_is_found(fleet: Fleet) -> None:
    # As if the process that created it had died before it could enqueue it.
    sweep = fleet.create_sweep(2)
    fleet.start()
    assert fleet.wait_for(sweep).state is SweepState.DONE


@only_sqlite
def test_sweeps_run_one_after_the_other(fleet: Fleet, client: jobs.JobClient) -> None:
    sweeps = [fleet.create_sweep(n) for n in (3, 4, 5)]
    for sweep in sweeps:
        client.enqueue(sweep)
    fleet.start()
    for sweep in sweeps:
        assert fleet.wait_for(sweep).state is SweepState.DONE
    # In the order in which they were enqueued, never interleaved.
    assert begun(fleet.log) == [*range(3), *range(4), *range(5)]


@pytest.mark.parametrize(
    ("database_url", "number", "batch_s"),
    [("sqlite", signal.SIGTERM, 0.005), ("postgresql", signal.SIGINT, 3600)],
    indirect=["database_url"],
    ids=["short", "long"],
)
def test_a_signal_ends_the_worker_soon_and_the_sweep_goes_on_later(
    fleet: Fleet, client: jobs.JobClient, number: signal.Signals, batch_s: float
) -> None:
    sweep = fleet.create_sweep(200)
    client.enqueue(sweep)
    process = fleet.start(batch_s=batch_s)
    wait_until(lambda: len(begun(fleet.log)) > 0)

    start = time.monotonic()
    process.send_signal(number)
    code = process.wait(PATIENCE_S)
    seconds = time.monotonic() - start

    assert code == 0, fleet.output()
    assert seconds < STOP_LIMIT_S + 3  # starting and ending a process included
    assert "stopped" in fleet.output()  # in good order, not by the watchdog
    assert "Traceback" not in fleet.output()
    assert fleet.store.get_sweep(sweep.id).state is SweepState.RUNNING
    num_kept, num_begun = fleet.num_kept(sweep), len(begun(fleet.log))
    assert num_begun - num_kept in (0, 1)

    fleet.start(batch_s=0)
    assert fleet.wait_for(sweep).state is SweepState.DONE
    assert begun(fleet.log)[num_begun:] == list(range(num_kept, 200))


@only_sqlite
def test_a_signal_during_start_ends_the_worker_without_a_traceback(fleet: Fleet) -> None:
    process = fleet.start()
    # The first thing it does.
    wait_until(lambda: find_holder(CPU, partition=os.environ["LHP_PARTITION"]) is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in fleet.output()


@only_sqlite
def test_a_second_worker_of_the_host_is_refused(fleet: Fleet, client: jobs.JobClient) -> None:
    sweep = fleet.create_sweep(1)
    client.enqueue(sweep)
    first = fleet.start()
    fleet.wait_for(sweep)

    second = fleet.start()

    assert second.wait(PATIENCE_S) == 1
    assert f"process {first.pid}" in fleet.output()
    assert first.poll() is None


@only_postgresql
def test_cancelling_a_running_sweep_leaves_the_partial_curve(
    fleet: Fleet, client: jobs.JobClient
) -> None:
    sweep = fleet.create_sweep(10_000)
    client.enqueue(sweep)
    fleet.start()
    wait_until(lambda: fleet.num_kept(sweep) >= 3)

    fleet.store.request_cancel(sweep.id)

    ended = fleet.wait_for(sweep)
    assert ended.state is SweepState.CANCELLED and ended.curve_id is not None
    header = fleet.store.get_curve_header(ended.curve_id)
    assert header.num_measured == fleet.num_kept(sweep) >= 3


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("a fault"), "ERROR"), (StoreUnavailableError("x"), "PENDING")],
)
def test_a_job_that_nobody_runs_is_run_again_and_forgotten_in_the_end(
    fleet: Fleet, settings: Settings, client: jobs.JobClient, error: Exception, status: str
) -> None:
    sweep = fleet.create_sweep(1)
    client.enqueue(sweep)
    calls: list[str] = []

    def run_batch(sweep_id: str) -> bool:
        calls.append(sweep_id)
        if len(calls) == 1:
            raise error
        fleet.store.fail_sweep(sweep.id, "seen")
        return True

    with awake(settings, run_batch) as running:
        wait_until(lambda: bool(calls) and not running and client.list_jobs()[sweep.id] == status)

        def ended() -> bool:
            client.reconcile(fleet.store, running)
            return fleet.store.get_sweep(sweep.id).state.is_final

        wait_until(ended)

        def forgotten() -> bool:
            client.reconcile(fleet.store, running)
            return client.list_jobs() == {}

        wait_until(forgotten)
    assert calls == [sweep.id] * 2


def test_a_job_under_way_is_left_alone(
    fleet: Fleet, settings: Settings, client: jobs.JobClient
) -> None:
    sweep = fleet.create_sweep(1)
    client.enqueue(sweep)
    begins, may_end = threading.Event(), threading.Event()
    calls: list[str] = []

    def run_batch(sweep_id: str) -> bool:
        calls.append(sweep_id)
        begins.set()
        assert may_end.wait(PATIENCE_S)
        fleet.store.fail_sweep(sweep.id, "seen")
        return True

    with awake(settings, run_batch) as running:
        assert begins.wait(PATIENCE_S)
        for _ in range(3):
            client.reconcile(fleet.store, running)
        may_end.set()
        wait_until(lambda: client.list_jobs()[sweep.id] == "SUCCESS")
    assert calls == [sweep.id]


def test_a_sweep_that_workers_keep_ending_with_is_given_up(
    fleet: Fleet,
    settings: Settings,
    client: jobs.JobClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler_service.jobs.engine.MAX_RESTARTS", 0)
    sweep = fleet.create_sweep(1)
    client.enqueue(sweep)
    called = threading.Event()

    def run_batch(sweep_id: str) -> bool:
        called.set()
        raise SystemExit

    with awake(settings, run_batch):
        assert called.wait(PATIENCE_S)
    with awake(settings, run_batch) as running:
        wait_until(lambda: "EXCEEDED" in client.list_jobs()[sweep.id])
        another = settings.model_copy(update={"host": "another"})
        with contextlib.closing(jobs.JobClient(another)) as theirs:
            assert theirs.list_jobs() == {}
        client.reconcile(fleet.store, running)

    ended = fleet.store.get_sweep(sweep.id)
    assert ended.state is SweepState.FAILED and "more than 0 times" in ended.error


def test_an_unreachable_database_is_said_soon_and_without_the_password() -> None:
    with socket.socket() as taken:  # bound but not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://user:s3cret@127.0.0.1:{taken.getsockname()[1]}/lhp"
        settings = Settings(database_url=url, host=HOST)
        start = time.monotonic()
        with pytest.raises(StoreUnavailableError) as refusal:
            jobs.upgrade(settings)
        with contextlib.closing(jobs.JobClient(settings)) as client:
            sweep = Sweep(
                id="0",
                host=HOST,
                spec=spec(1),
                state=SweepState.QUEUED,
                created_at=None,  # type: ignore[arg-type]
                started_at=None,
                finished_at=None,
                cancel_requested=False,
                progress=None,
                error="",
                curve_id=None,
            )
            with pytest.raises(StoreUnavailableError):
                client.enqueue(sweep)
        assert time.monotonic() - start < 20
    assert "s3cret" not in str(refusal.value) and refusal.value.hint


def test_without_tables_the_hint_is_to_upgrade(store: Store, database_url: str) -> None:
    settings = Settings(database_url=database_url, host=HOST)
    store.register_host(HOST, platform(), protocol=PROTOCOL, dtypes=["float32"])
    sweep, _ = store.create_sweep(spec(1), host=HOST)
    with (
        contextlib.closing(jobs.JobClient(settings)) as client,
        pytest.raises(StoreUnavailableError) as refusal,
    ):
        client.enqueue(sweep)
    assert "lhp db upgrade" in refusal.value.hint
