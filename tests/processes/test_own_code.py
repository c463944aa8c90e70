"""`lhp query --callable` and `lhp sweep --callable`: real services, real measuring processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes.fake_worker import wait_until
from tests.processes.test_access import bearer, bootstrap
from tests.processes.test_serve import Start, read_greeting

MODELS = """
import time

def build(hidden, layers=1):
    return lambda: sum(range(hidden * layers))

def slow(hidden):
    return lambda: time.sleep(0.01)

def raises(hidden):
    raise ValueError("not today")

def some(hidden):
    if hidden > 66:
        raise ValueError(f"{hidden} is too large")
    return lambda: sum(range(hidden))
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def models(tmp_path: Path) -> Path:
    """The user's module, in the working directory of every command."""
    path = tmp_path / "own_models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def service(start_lhp: Start) -> tuple[subprocess.Popen[str], str]:
    """A service without a worker and without tokens, and its address."""
    process = start_lhp("serve", "--port", "0", "--no-worker")
    return process, read_greeting(process)[0]


@pytest.fixture
def run(start_lhp: Start) -> Run:
    def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        process = start_lhp(*arguments, LHP_HOST="desk", **settings)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run_command


def sweeps_of(url: str, **headers: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = httpx.get(f"{url}/sweeps", headers=headers).json()["items"]
    return items


def wait_for_samples(url: str) -> dict[str, Any]:
    """The newest sweep, once it has samples of more than the point that it calibrates with."""
    wait_until(
        lambda: any(
            each["progress"] and each["progress"]["num_samples"] > 60 for each in sweeps_of(url)
        )
    )
    return sweeps_of(url)[0]


def test_a_question_is_measured_once_and_anew_when_the_code_changes(
    service: tuple[subprocess.Popen[str], str], run: Run, models: Path
) -> None:
    _, url = service
    asked = ("query", "--callable", "own_models:build", "hidden=2000", "--param", "layers=2")
    first = run(*asked, "--settle", "0.5", LHP_URL=url)
    assert first.returncode == 0, first.stderr
    match = re.search(
        r"callable\[function=own_models:build,layers=2,source=(\w{12}),", first.stdout
    )
    assert match and "on desk (own code)" in first.stdout
    assert [each["mode"] for each in sweeps_of(url)] == ["race"]

    again = run(*asked, "--settle", "0.5", "--json", LHP_URL=url)
    answer = json.loads(again.stdout)
    assert answer["dims"] == [2000] and answer["lhp"][0] >= 2000
    assert len(sweeps_of(url)) == 1
    # Whoever knows the address gets the same answer, without the code.
    params = {"workload": "callable", "function": "own_models:build", "vary": "hidden"}
    params |= {"source": match[1], "layers": "2", "dims": "2000", "settle": "0.5"}
    found = httpx.get(f"{url}/lhp", params=params | {"platform": answer["platform"]})
    assert found.json()["lhp"] == answer["lhp"]

    models.write_text(MODELS + "# another version\n")
    changed = run(*asked, "--settle", "0.5", LHP_URL=url)
    assert changed.returncode == 0 and match[1] not in changed.stdout
    assert len(sweeps_of(url)) == 2
    fresh = run(*asked, "--settle", "0.5", "--fresh", LHP_URL=url)
    assert fresh.returncode == 0
    assert len(sweeps_of(url)) == 3


def test_a_grid_is_measured_and_points_that_fail_are_listed(
    service: tuple[subprocess.Popen[str], str], run: Run
) -> None:
    _, url = service
    done = run("sweep", "--callable", "own_models:some", "hidden=64:68", LHP_URL=url)
    assert done.returncode == 0, done.stderr
    assert "3 of 5 points measured, 2 failed" in done.stdout
    listed = run("curves", LHP_URL=url)
    assert "desk (own code)" in listed.stdout and "64:68" in listed.stdout
    curve_id = re.search(r"curve (\w{32})", done.stdout)
    assert curve_id
    curve = httpx.get(f"{url}/curves/{curve_id[1]}").json()
    assert [each["dims"] for each in curve["failures"]] == [[67], [68]]
    assert "67 is too large (own_models.py, line" in curve["failures"][0]["reason"]
    plotted = run("plot", curve_id[1], "-o", "curve.html", LHP_URL=url)
    assert plotted.returncode == 0, plotted.stderr


def test_a_function_that_never_works_leaves_no_trace(
    service: tuple[subprocess.Popen[str], str], run: Run
) -> None:
    _, url = service
    for command, words, told in (
        ("sweep", "hidden=64:66", "none of the 3 points of own_models:raises that were tried"),
        ("query", "hidden=64", "own_models:raises can't be measured: "),
    ):
        failed = run(command, "--callable", "own_models:raises", words, LHP_URL=url)
        assert failed.returncode == 1
        assert told in failed.stderr
        assert "raised ValueError: not today (own_models.py, line 11)" in failed.stderr
    other = run("query", "--callable", "own_models:build", "width=64", LHP_URL=url)
    assert "unexpected keyword argument 'width'" in other.stderr
    assert sweeps_of(url) == []


def test_it_needs_a_token_with_the_scope_of_a_host(start_lhp: Start, run: Run) -> None:
    admin = bootstrap(start_lhp)
    process = start_lhp("serve", "--port", "0", "--no-worker")
    url = read_greeting(process)[0]
    tokens = {}
    for scope in ("measure", "host"):
        body = {"name": scope, "scopes": [scope]}
        made = httpx.post(f"{url}/tokens", json=body, headers=bearer(admin))
        tokens[scope] = made.json()["token"]
    swept = ("sweep", "--callable", "own_models:build", "hidden=64:66")
    without = run(*swept, LHP_URL=url)
    assert without.returncode == 1 and "LHP_TOKEN" in without.stderr
    assert "starting the measuring process" not in without.stderr
    refused = run(*swept, LHP_URL=url, LHP_TOKEN=tokens["measure"])
    assert refused.returncode == 1 and "host" in refused.stderr
    assert sweeps_of(url, **bearer(admin)) == []
    allowed = run(*swept, LHP_URL=url, LHP_TOKEN=tokens["host"])
    assert allowed.returncode == 0, allowed.stderr
    [sweep] = sweeps_of(url, **bearer(admin))
    assert sweep["state"] == "done"


def test_without_a_service_nothing_is_started(run: Run) -> None:
    done = run("sweep", "--callable", "own_models:build", "hidden=64:66", LHP_URL="http://[::1]:9")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no service at")
    assert "starting the measuring process" not in done.stderr


def test_ctrl_c_keeps_what_was_measured(
    service: tuple[subprocess.Popen[str], str], start_lhp: Start
) -> None:
    _, url = service
    process = start_lhp("sweep", "--callable", "own_models:slow", "hidden=1:200", LHP_URL=url)
    wait_for_samples(url)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted: ending the sweep and keeping what it measured" in err
    [sweep] = sweeps_of(url)
    assert sweep["state"] == "cancelled" and str(sweep["curve"]) in out


def test_somebody_else_can_cancel_it(
    service: tuple[subprocess.Popen[str], str], start_lhp: Start, run: Run
) -> None:
    _, url = service
    process = start_lhp("sweep", "--callable", "own_models:slow", "hidden=1:200", LHP_URL=url)
    sweep = wait_for_samples(url)
    assert run("cancel", str(sweep["id"]), LHP_URL=url).returncode == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was cancelled: its measured points are kept" in err and "curve " in out
    assert sweeps_of(url)[0]["state"] == "cancelled"


def test_a_service_that_goes_away_is_waited_for_and_then_told(
    service: tuple[subprocess.Popen[str], str], start_lhp: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = service
    process = start_lhp("sweep", "--callable", "own_models:slow", "hidden=1:200", LHP_URL=url)
    sweep = wait_for_samples(url)
    server.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: no service at" in err
    assert re.search(rf"[1-9][0-9]* batches are kept, as sweep {sweep['id']}", err)
    assert "the batch measured last is lost" in err


def test_the_worker_and_the_command_measure_in_turns(start_lhp: Start, run: Run) -> None:
    server = start_lhp("serve", "--port", "0", LHP_DEVICE="cpu", LHP_HOST="desk")
    url = read_greeting(server)[0]
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    body = {"workload": "matmul", "axes": [{"first": 64, "last": 1024}]}
    background = httpx.post(f"{url}/sweeps", json=body).json()["id"]

    def samples() -> int:
        progress = httpx.get(f"{url}/sweeps/{background}").json()["progress"]
        return int(progress["num_samples"]) if progress else 0

    wait_until(lambda: samples() > 0)
    before = samples()
    done = run("sweep", "--callable", "own_models:build", "hidden=2000:2020", LHP_URL=url)
    assert done.returncode == 0, done.stderr
    # The worker went on meanwhile, and neither waited for the other to end.
    assert samples() > before
    assert httpx.get(f"{url}/sweeps/{background}").json()["state"] == "running"
    # What it measures is on the worker's platform: a question about its host is answered by it.
    [curve] = httpx.get(f"{url}/curves", params={"workload": "callable"}).json()["items"]
    [host] = httpx.get(f"{url}/hosts").json()
    assert curve["platform"] == host["platform"]
    assert host["name"] == "desk" and curve["host"] == "desk (own code)"
