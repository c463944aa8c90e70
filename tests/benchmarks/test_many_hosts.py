"""The fleet of the benchmark: all at work before anything is counted, and what ends is told of."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from benchmarks.many_hosts.__main__ import Idle, check
from benchmarks.many_hosts.fleet import Fleet, find_silence, name_host
from benchmarks.soak.machines import SoakError

ENDS = (sys.executable, "-c", "import sys; print('no answer for 4 s'); sys.exit(3)")
ENDS_ONCE = """
import os, pathlib, sys
from benchmarks.many_hosts.simulated import main
seen = pathlib.Path(os.environ["LHP_HOST"] + ".seen")
if not seen.exists():
    seen.touch()
    sys.exit("no answer for 4 s")
main()
"""


@pytest.fixture
def upgraded_url(migrated_postgres_url: str) -> str:
    """A database in which workers find the job engine's tables, too."""
    from profiler_service import jobs
    from profiler_service.settings import Settings

    jobs.upgrade(Settings(database_url=migrated_postgres_url))
    return migrated_postgres_url


def test_a_worker_that_ends_is_started_again_and_told_of(
    upgraded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    fleet = Fleet(tmp_path, upgraded_url, 1, command=(sys.executable, "-c", ENDS_ONCE))
    try:
        fleet.start(limit_s=120)
        with psycopg.connect(upgraded_url, autocommit=True) as connection:
            silent_s, host = find_silence(connection)
            assert (silent_s < 15, host) == (True, "host-00")
            assert fleet.describe_missing(connection).startswith("host-00 ended with 1")
    finally:
        fleet.stop()
    assert len(fleet.ended) == 1 and fleet.ended[0].endswith("no answer for 4 s")


def test_a_worker_that_ends_each_time_is_no_verdict(
    migrated_postgres_url: str, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, migrated_postgres_url, 2, command=ENDS)
    try:
        with pytest.raises(SoakError, match=r"whenever it is started: host-0.*with 3.*no answer"):
            fleet.start(limit_s=60)
    finally:
        fleet.stop()
    with psycopg.connect(migrated_postgres_url, autocommit=True) as connection:
        told = fleet.describe_missing(connection)
    assert "host-00 never heard of" in told


def test_eachcheck_can_fail() -> None:
    good = Idle(connections=1.0, statements_hz=1.8, silent=(5.1, name_host(3)))
    assert all(each.holds for each in check(good, [0.2, 0.9], []))
    bad = Idle(connections=1.02, statements_hz=2.1, silent=(30.0, name_host(5)))
    checks = check(bad, [0.2, 1.1], ["host-05 ended with 1: no answer"])
    assert not any(each.holds for each in checks)
    assert "host-05 was for 30.0 s" in checks[1].found
