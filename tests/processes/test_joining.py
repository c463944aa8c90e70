"""A machine joins, measures, and is removed: the commands as they are run, on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from profiler_service import jobs
from profiler_service.access.caller import Caller
from profiler_service.access.scopes import Scope
from profiler_service.cli.commands.joining import describe_exposure
from profiler_service.client.address import Address
from profiler_service.errors import LhpError
from profiler_service.processes import systemd
from profiler_service.processes.credentials import keep_credentials, read_credentials
from profiler_service.processes.exit_codes import CANNOT_RUN
from profiler_service.settings import Settings
from profiler_service.storage.store import HostStatus, Store
from tests.processes.fake_worker import PATIENCE_S, wait_until
from tests.processes.test_serve import read_greeting

Start = Callable[..., "subprocess.Popen[str]"]


def test_credentials_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "lhp" / "host.env"
    # Another kind of service could make the worker open any file.
    with pytest.raises(LhpError, match="isn't PostgreSQL"):
        keep_credentials(path, database_url="sqlite:////etc/lhp.sqlite", host="gpu a")
    assert read_credentials(path) == {}
    keep_credentials(path, database_url="postgresql://a:b=c@d/e", host="gpu a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_credentials(path) == {
        "LHP_DATABASE_URL": "postgresql://a:b=c@d/e",
        "LHP_HOST": "gpu a",
    }


def test_the_unit_starts_the_worker_and_stays_down_where_the_host_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = systemd.write_unit(tmp_path / "units", credentials=tmp_path / "host.env")
    lines = unit.read_text().splitlines()
    assert f"EnvironmentFile={tmp_path / 'host.env'}" in lines
    assert f"RestartPreventExitStatus={CANNOT_RUN}" in lines
    # A stand-in for systemctl notes what it is told.
    told = tmp_path / "told"
    stand_in = tmp_path / "systemctl"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    systemd.enable_unit()
    scope = "" if os.geteuid() == 0 else "--user "
    assert told.read_text().splitlines() == [
        f"{scope}daemon-reload",
        f"{scope}enable --now lhp-worker.service",
    ]


@pytest.mark.parametrize("is_root", [True, False])
def test_root_s_unit_runs_as_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_root: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if is_root else 1000)
    unit = systemd.write_unit(tmp_path, credentials=tmp_path / "host.env")
    lines = unit.read_text().splitlines()
    assert ("User=lhp" in lines, "DynamicUser=yes" in lines) == (is_root, is_root)
    # That user can't start what is root's alone.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").mkdir()
    if is_root:
        with pytest.raises(LhpError, match="is closed to others"):
            systemd.check_interpreter(closed / "bin" / "python")
    else:
        systemd.check_interpreter(closed / "bin" / "python")


@pytest.mark.parametrize(
    ("url", "is_named"),
    [
        ("http://service.example:8000", True),
        ("https://service.example", False),
        ("http://127.0.0.1:8000", False),
    ],
)
def test_an_address_where_others_can_read_the_key_is_named(url: str, is_named: bool) -> None:
    assert ("HTTPS" in describe_exposure(Address.parse(url))) == is_named


def test_without_a_key_nobody_joins(start_lhp: Start) -> None:
    process = start_lhp("join", "http://127.0.0.1:1")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "LHP_JOIN_KEY" in err) == (2, True), err


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_one_pasted_command_makes_a_machine_a_host_and_removal_holds(
    store: Store, database_url: str, start_lhp: Start, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    jobs.upgrade(Settings(database_url=database_url, host="here"))
    _, token = store.create_token("ops", [Scope.ADMIN], lifetime_s=None, by=Caller())
    service = start_lhp("serve", "--no-worker", "--port", "0", LHP_DATABASE_URL=database_url)
    url, _ = read_greeting(service)

    def lhp(*arguments: str) -> str:
        command = start_lhp(*arguments, LHP_URL=url, LHP_TOKEN=token)
        out, err = command.communicate(timeout=PATIENCE_S)
        assert out, err
        return out

    printed = lhp("hosts", "add", "gpu-a", "--label", "pool=train")
    pasted = re.fullmatch(r"echo (\S+) \| lhp join (\S+)\n", printed)
    assert pasted is not None and pasted[2] == url
    # As the shell does it: the key is in no argument.
    machine = start_lhp("join", url, typed=f"{pasted[1]}\n", LHP_DEVICE="cpu")
    wait_until(lambda: [host.name for host in store.list_hosts()] == ["gpu-a"])
    assert store.get_host("gpu-a").status in (HostStatus.PENDING, HostStatus.QUARANTINED)
    lhp("hosts", "approve", "gpu-a")

    def state() -> str:
        [host] = json.loads(lhp("hosts", "--json"))
        assert host["labels"] == {"pool": "train"}
        return str(host["state"])

    wait_until(lambda: state() == "ready")
    kept = read_credentials(tmp_path / "data" / "lhp" / "host.env")
    assert kept["LHP_HOST"] == "gpu-a" and "lhp_host_" in kept["LHP_DATABASE_URL"]
    # The key has let one machine in.
    again = start_lhp("join", url, pasted[1], "--no-worker", LHP_DEVICE="cpu")
    lhp("hosts", "rm", "gpu-a")
    assert machine.wait(PATIENCE_S) == CANNOT_RUN
    _, err = again.communicate(timeout=PATIENCE_S)
    assert (again.returncode, "was used at" in err) == (1, True), err
    # Started again, it is told so.
    worker = start_lhp("worker", LHP_DEVICE="cpu")
    _, err = worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == CANNOT_RUN, err
    assert "this host has been removed" in err
