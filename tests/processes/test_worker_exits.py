"""With which exit code a worker ends, and what the service beside it then says: whole processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from profiler_service.distribution import Extra, install_command
from tests.processes.fake_worker import wait_until
from tests.processes.test_serve import find_children, read_greeting

Start = Callable[..., "subprocess.Popen[str]"]


def customize(directory: Path, code: str) -> dict[str, str]:
    """Variables with which each Python runs `code` when it starts; `is_child` in the child."""
    directory.mkdir()
    head = (
        "import os, signal, sys\nis_child = any('measurement.child' in a for a in sys.orig_argv)\n"
    )
    (directory / "sitecustomize.py").write_text(head + code)
    return {"PYTHONPATH": str(directory)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_measuring_process_is_no_verdict_on_the_machine(
    start_lhp: Start, tmp_path: Path, number: signal.Signals
) -> None:
    killed = customize(tmp_path / "site", f"if is_child: os.kill(os.getpid(), {int(number)})")
    worker = start_lhp("worker", **killed)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == os.EX_TEMPFAIL, err
    assert f"error: measuring could not start: the measuring process died (signal {number}" in err
    assert "hint: " in err
    assert "Traceback" not in err


def test_a_measuring_process_killed_at_its_probe_is_no_verdict_either(
    start_lhp: Start, tmp_path: Path
) -> None:
    # Dies when it imports torch, as where memory runs out for it.
    dying = customize(tmp_path / "site", "")
    (tmp_path / "site" / "torch.py").write_text("import os; os.kill(os.getpid(), 9)")
    worker = start_lhp("worker", **dying)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == os.EX_TEMPFAIL, err
    assert "SIGKILL" in err


@pytest.mark.parametrize(
    ("module", "extras"), [("sqlalchemy", ["server", "measure"]), ("torch", ["measure"])]
)
def test_a_worker_without_its_extra_cant_run_as_this_machine_is_set_up(
    start_lhp: Start, tmp_path: Path, module: str, extras: list[Extra]
) -> None:
    missing = f"ModuleNotFoundError(\"No module named '{module}'\", name='{module}')"
    lacking = customize(tmp_path / "site", "")
    (tmp_path / "site" / f"{module}.py").write_text(f"raise {missing}")
    worker = start_lhp("worker", **lacking)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == os.EX_CONFIG, err
    assert install_command(*extras) in err
    assert module in err.splitlines()[0]
    assert "Traceback" not in err


def health(url: str) -> Any:
    response = httpx.get(f"{url}/healthz")
    assert response.status_code == 200
    return response.json()


def test_a_service_whose_measuring_process_is_killed_says_so_and_measures_in_the_end(
    start_lhp: Start, tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    # The first two die in their first second, as by the kernel where memory runs out.
    code = f"""
if is_child and (not os.path.exists({str(deaths)!r}) or os.stat({str(deaths)!r}).st_size < 2):
    open({str(deaths)!r}, "a").write("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = customize(tmp_path / "site", code)
    process = start_lhp("serve", "--port", "0", LHP_HOST="anvil", **killed)
    url, _ = read_greeting(process)
    wait_until(lambda: health(url)["worker"]["num_ends"] == 2)
    told = health(url)
    assert told["status"] == "degraded"
    worker = told["worker"]
    assert (worker["host"], worker["state"]) == ("anvil", "restarting")
    assert worker["last_exit"].startswith("exit code 75: measuring could not start: ")
    assert "SIGKILL; out of memory?" in worker["last_exit"]
    assert worker["since"] < worker["next_try_at"]
    unready = httpx.get(f"{url}/readyz")
    assert (unready.status_code, unready.json()["type"]) == (503, "/problems/not-ready")
    assert "SIGKILL; out of memory?" in unready.json()["detail"]
    hosts = start_lhp("hosts", LHP_URL=url)
    assert "SIGKILL" in hosts.communicate(timeout=60)[1]
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    assert deaths.read_text() == "xx"
    told = health(url)
    assert (told["status"], told["detail"], told["worker"]["state"]) == ("ok", "", "measuring")
    assert "SIGKILL; out of memory?" in told["worker"]["last_exit"]


def test_a_service_whose_worker_was_killed_isnt_ready_until_another_measures(
    start_lhp: Start,
) -> None:
    """Although the dead one's last heartbeat is younger than LHP_PRESENCE_S."""
    process = start_lhp("serve", "--port", "0", LHP_HOST="anvil")
    url, _ = read_greeting(process)
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    [worker] = find_children(process.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: health(url)["worker"]["state"] == "restarting")
    assert health(url)["worker"]["last_exit"] == "SIGKILL"
    unready = httpx.get(f"{url}/readyz")
    assert unready.status_code == 503
    assert "the worker of host 'anvil' ended (SIGKILL); it is started again" in unready.text
    listed = start_lhp("hosts", "--json", LHP_URL=url)
    out, err = listed.communicate(timeout=60)
    assert [host["name"] for host in json.loads(out)] == ["anvil"]
    assert "the worker of host 'anvil' " in err
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    assert health(url)["worker"]["pid"] not in (None, worker)


def test_a_service_whose_worker_cant_run_says_why(start_lhp: Start, tmp_path: Path) -> None:
    lacking = customize(tmp_path / "site", "")
    missing = "ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    (tmp_path / "site" / "torch.py").write_text(f"raise {missing}")
    process = start_lhp("serve", "--port", "0", LHP_HOST="anvil", **lacking)
    url, _ = read_greeting(process)
    wait_until(lambda: health(url)["worker"]["state"] == "unable")
    worker = health(url)["worker"]
    assert install_command("measure") in worker["reason"]
    assert worker["next_try_at"] > worker["since"]
    # Nobody waits for it, because somebody has to do something first.
    asked = httpx.get(f"{url}/lhp?dims=1197,317&wait=60", timeout=30)
    assert (asked.status_code, asked.json()["type"]) == (503, "/problems/host-away")
    assert install_command("measure") in asked.json()["detail"]
