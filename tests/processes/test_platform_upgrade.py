"""A host's kernels are upgraded: the processes as they are run; only the device is simulated."""

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
from profiler_service.processes.exit_codes import CANNOT_RUN, DONE
from profiler_service.settings import Settings
from profiler_service.storage.platform_change_records import ChangeState, PlatformChange
from profiler_service.storage.store import HostStatus, Store
from tests.processes.fake_worker import HOST, PATIENCE_S, wait_until
from tests.processes.test_serve import read_greeting

Start = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def working(url: str, directory: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker on a simulated machine, which is told to stop at the end if it hasn't ended."""
    own = {"LHP_DATABASE_URL": url, "LHP_HOST": HOST, "SIMULATED_MACHINE": "here"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.processes.simulated_lhp", "worker"],
        cwd=ROOT,
        env={**os.environ, **own, "XDG_DATA_HOME": str(directory), **settings},
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                # Its exit code isn't looked at: on PostgreSQL, a signal that comes during a
                # statement may end the worker with the statement's error.
                process.wait(PATIENCE_S)
        finally:
            process.kill()


@pytest.fixture
def address(store: Store, database_url: str, start_lhp: Start) -> str:
    """That of a service that doesn't measure."""
    jobs.upgrade(Settings(database_url=database_url, host=HOST))
    serving = start_lhp("serve", "--no-worker", "--port", "0", LHP_DATABASE_URL=database_url)
    return read_greeting(serving)[0]


def find_change(store: Store) -> PlatformChange | None:
    return store.find_platform_changes([HOST]).get(HOST)


def has_ended(store: Store) -> bool:
    change = find_change(store)
    return change is not None and change.state is ChangeState.DONE


def test_an_upgrade_is_measured_and_told_in_a_sentence(
    store: Store, database_url: str, address: str, start_lhp: Start, tmp_path: Path
) -> None:
    def lhp(*arguments: str) -> tuple[str, str]:
        out, err = start_lhp(*arguments, LHP_URL=address).communicate(timeout=PATIENCE_S)
        return out, err

    with working(database_url, tmp_path):
        wait_until(lambda: bool(store.list_hosts()))
        out, err = lhp("query", "1197,317", "--host", HOST)
        # By the simulated device, multiples of 8 win.
        assert out.startswith("1200,320"), err
    [before] = store.list_hosts()
    old = store.find_replayable(before.platform_key, before.protocol_key, most_of_workload=99)
    assert any(fact.pair.verdict == "faster" for fact in old)
    assert "since" not in lhp("hosts")[1]

    # With the new kernels, they don't.
    with working(database_url, tmp_path, SIMULATED_KERNELS="2.0"):
        wait_until(lambda: has_ended(store))
        change = find_change(store)
        assert change is not None
        pairs = {(fact.pair.dims, fact.pair.rival) for fact in old}
        replayed = store.list_replayed(change.id)
        assert {(each.before.pair.dims, each.before.pair.rival) for each in replayed} == pairs
        assert change.num_contrasts == len(pairs)
        faster = [each for each in replayed if each.before.pair.verdict == "faster"]
        assert {each.outcome for each in faster} == {"changed"}
        assert all(each.after and each.after.pair.verdict == "slower" for each in faster)
        said = f"{HOST}, since {change.changed_at:%F}: kernels 1.0 → 2.0:"
        counted = f"{change.agreement.num_changed} of {len(pairs)} facts changed"
        [line] = [line for line in lhp("hosts")[1].splitlines() if "since" in line]
        assert line.startswith(said) and counted in line
        # What was known of the kernels before doesn't answer: it is measured anew.
        out, err = lhp("query", "1197,317", "--host", HOST)
        assert out.startswith("1197,317"), err

    # The old kernels are back: nothing is measured, and what was known answers again.
    num_sweeps = len(store.list_sweeps(limit=1000).items)
    with working(database_url, tmp_path):
        wait_until(lambda: store.get_host(HOST).platform_key == before.platform_key)
        out, _ = lhp("query", "1197,317", "--host", HOST)
        assert out.startswith("1200,320")
        assert "back on a platform that it was on before" in lhp("hosts")[1]
    assert len(store.list_sweeps(limit=1000).items) == num_sweeps


def test_a_host_that_shall_wait_measures_once_an_operator_approves(
    store: Store, database_url: str, address: str, start_lhp: Start, tmp_path: Path
) -> None:
    with working(database_url, tmp_path):
        wait_until(lambda: bool(store.list_hosts()))
    changed = {"SIMULATED_KERNELS": "2.0", "LHP_ON_PLATFORM_CHANGE": "quarantine"}
    with working(database_url, tmp_path, **changed) as worker:
        assert worker.wait(PATIENCE_S) == CANNOT_RUN
    assert store.get_host(HOST).status is HostStatus.QUARANTINED
    out, err = start_lhp("hosts", "approve", HOST, LHP_URL=address).communicate(timeout=PATIENCE_S)
    assert f"host {HOST} is" in out, err
    with working(database_url, tmp_path, **changed):
        wait_until(lambda: has_ended(store))
    assert store.get_host(HOST).status is HostStatus.APPROVED


@pytest.mark.parametrize("choice", ["", "sometimes", "Inherit"])
def test_a_choice_that_there_isn_t_is_refused(start_lhp: Start, choice: str) -> None:
    process = start_lhp("worker", LHP_ON_PLATFORM_CHANGE=choice)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != DONE
    assert "LHP_ON_PLATFORM_CHANGE" in err and "Traceback" not in err
