from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from profiler_service.processes.serve import ListenError, listen_on
from profiler_service.storage.store import Store
from tests.api.curves import PLATFORM, PROTOCOL
from tests.processes.fake_worker import wait_until

Start = Callable[..., "subprocess.Popen[str]"]


# The whole service, as a process


def read_greeting(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The address that `lhp serve` says it listens on, and all that it says once it does."""
    assert process.stdout is not None and process.stderr is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C stops"):
            match = re.match(r"listening on (https?://\S+:\d+),", lines[0])
            assert match
            return match[1], "".join(lines)
    raise AssertionError(process.stderr.read())


def find_children(pid: int) -> list[int]:
    """Ids of the processes that `pid` has started and that still run."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (thread / "children").read_text().split())
    return children


def is_running(pid: int) -> bool:
    """Whether process `pid` lives and isn't waiting for its parent to notice its end."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_it_makes_its_database_serves_says_what_to_try_and_ends_cleanly(
    start_lhp: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_lhp("serve", "--port", "0", "--no-worker")
    url, greeting = read_greeting(process)
    assert httpx.get(f"{url}/readyz").status_code == 200
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert f"curl '{url}/lhp?dims=1197,317'" in greeting
    assert f"open {url} in a browser" in greeting
    # Whatever it is called here can be typed.
    typed = re.search(rf"LHP_URL={url} (\S+) query 1197,317", greeting)
    assert typed
    subprocess.run([typed[1], "--version"], cwd=tmp_path, env={"PATH": os.defpath}, check=True)
    assert "Traceback" not in err
    assert (tmp_path / "data" / "lhp" / "lhp.sqlite").exists()


def test_its_log_can_be_json(start_lhp: Start) -> None:
    process = start_lhp("serve", "--port", "0", "--no-worker", LHP_LOG_FORMAT="json")
    read_greeting(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    lines = [json.loads(line) for line in err.splitlines()]
    assert [(each["level"], each["event"]) for each in lines] == [("info", "stopped")]


def test_behind_a_proxy_that_strips_a_path_its_pages_know_the_path(start_lhp: Start) -> None:
    process = start_lhp("serve", "--port", "0", "--no-worker", LHP_ROOT_PATH="/tools/lhp")
    url, _ = read_greeting(process)
    # As the proxy sends it on: without the path, which is in what comes back.
    assert "/tools/lhp/openapi.json" in httpx.get(f"{url}/docs").text
    assert httpx.get(f"{url}/openapi.json").json()["servers"] == [{"url": "/tools/lhp"}]
    assert httpx.get(f"{url}/hosts/nobody").json()["type"] == "/problems/unknown-host"


@pytest.fixture
def served(start_lhp: Start, tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    """A running service and its address; its host is present, but never measures."""
    process = start_lhp("serve", "--port", "0", "--no-worker", LHP_HOST="anvil")
    url, _ = read_greeting(process)
    with contextlib.closing(Store.open(f"sqlite:///{tmp_path}/data/lhp/lhp.sqlite")) as store:
        store.register_host("anvil", PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
    return process, url


def wait_for_sweep(url: str) -> str:
    """The id of the first sweep, once there is one."""
    give_up = time.monotonic() + 30
    while not (found := httpx.get(f"{url}/sweeps").json()["items"]):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return str(found[0]["id"])


def test_on_ctrl_c_who_waits_is_answered_and_streams_end(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = served
    with (
        ThreadPoolExecutor() as threads,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        asking = threads.submit(client.get, "/lhp", params={"dims": "1197,317", "wait": 60})
        sweep = wait_for_sweep(url)
        with client.stream("GET", f"sweeps/{sweep}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: progress"
            interrupted_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert "event: end" not in list(lines)
        answer = asking.result(30)
    _, err = process.communicate(timeout=30)
    # Half of what a request that doesn't end would be given, and far less than its wait.
    assert time.monotonic() - interrupted_s < 5
    assert (answer.status_code, answer.headers["location"]) == (202, f"sweeps/{sweep}")
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "ERROR" not in err


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.15, 0.4])
def test_a_second_ctrl_c_is_quick_and_quiet(
    served: tuple[subprocess.Popen[str], str], pause_s: float
) -> None:
    process, url = served
    with ThreadPoolExecutor() as threads, httpx.Client(base_url=url, timeout=60) as client:
        asking = threads.submit(client.get, "/lhp", params={"dims": "1197,317", "wait": 60})
        wait_for_sweep(url)
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)  # what is tested, not waited for: people press at any moment
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        with contextlib.suppress(httpx.TransportError):
            assert asking.result(30).status_code == 202
    # A shell calls both 130; Python's last breath leaves Ctrl-C to the system.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err
    assert "ERROR" not in err


def test_a_killed_worker_is_started_again_and_ends_with_the_service(start_lhp: Start) -> None:
    process = start_lhp("serve", "--port", "0")
    read_greeting(process)
    wait_until(lambda: bool(find_children(process.pid)))
    [worker] = find_children(process.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: find_children(process.pid) not in ([], [worker]))
    [second] = find_children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the worker ended unexpectedly (SIGKILL): starting it again" in err
    assert "Traceback" not in err
    assert not is_running(second)


def test_no_worker_outlives_a_killed_service(start_lhp: Start) -> None:
    process = start_lhp("serve", "--port", "0")
    read_greeting(process)
    wait_until(lambda: bool(find_children(process.pid)))
    [worker] = find_children(process.pid)
    process.kill()
    wait_until(lambda: not is_running(worker))


def test_a_port_in_use_is_told_before_anything_starts(start_lhp: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_lhp("serve", LHP_PORT=str(port))
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert err == (f"error: port {port} is in use\nhint: choose another with --port or LHP_PORT\n")
    assert not (tmp_path / "data").exists()


def test_it_refuses_to_listen_wider_than_this_machine(start_lhp: Start) -> None:
    process = start_lhp("serve", "--listen", "0.0.0.0", "--port", "0")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "error: refusing to listen on 0.0.0.0" in err
    assert "no access tokens yet" in err
    assert "SSH tunnel" in err and "lhp tokens bootstrap" in err


def test_a_database_of_ones_own_is_upgraded_only_when_asked(
    start_lhp: Start, tmp_path: Path
) -> None:
    url = {"LHP_DATABASE_URL": f"sqlite:///{tmp_path / 'mine.sqlite'}"}
    refused = start_lhp("serve", "--port", "0", "--no-worker", **url)
    _, err = refused.communicate(timeout=30)
    assert refused.returncode == 1
    assert re.search("hint: run `(/.*/)?lhp db upgrade`", err)
    upgrade = start_lhp("db", "upgrade", **url)
    assert (upgrade.communicate(timeout=30)[0], upgrade.returncode) == ("", 0)
    served = start_lhp("serve", "--port", "0", "--no-worker", **url)
    url_served, _ = read_greeting(served)
    assert httpx.get(f"{url_served}/readyz").status_code == 200


def test_a_database_that_cant_be_reached_is_no_traceback(start_lhp: Start) -> None:
    url = "postgresql://lhp:secret@127.0.0.1:1/lhp"
    for command in (("serve", "--port", "0"), ("db", "upgrade")):
        process = start_lhp(*command, LHP_DATABASE_URL=url)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert err.startswith("error: ")
        assert "secret" not in err
        assert "Traceback" not in err


def test_a_second_worker_may_try_later(start_lhp: Start) -> None:
    first = start_lhp("worker")
    assert first.stderr is not None
    # The lock is held once it says that it measures.
    assert any("measuring for host" in line for line in first.stderr)
    second = start_lhp("worker")
    _, err = second.communicate(timeout=60)
    assert second.returncode == os.EX_TEMPFAIL
    assert f"running already (process {first.pid})" in err
    assert "Traceback" not in err
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0


def test_a_second_service_uses_the_worker_that_runs_already(start_lhp: Start) -> None:
    first = start_lhp("serve", "--port", "0")
    url, _ = read_greeting(first)
    wait_until(lambda: [h["present"] for h in httpx.get(f"{url}/hosts").json()] == [True])
    [worker] = find_children(first.pid)
    second = start_lhp("serve", "--port", "0")
    read_greeting(second)
    assert second.stderr is not None
    line = next(line for line in second.stderr if "running already" in line)
    assert f"running already (process {worker}): this service uses it" in line
    # It waits for the other one to end, instead of being started over and over.
    [waiting] = find_children(second.pid)
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 130
    assert not is_running(waiting)
    assert "Traceback" not in err
    assert "starting it again" not in err


@pytest.mark.parametrize("url", ["sqlite://relative", "mysql://db/lhp", "nonsense", "FILE"])
def test_a_worker_that_never_can_use_its_database_says_so(
    start_lhp: Start, tmp_path: Path, url: str
) -> None:
    other = tmp_path / "other.sqlite"
    other.write_text("no database " * 100)
    worker = start_lhp("worker", LHP_DATABASE_URL=url.replace("FILE", f"sqlite:///{other}"))
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == os.EX_CONFIG
    assert err.startswith("error: ")
    assert "hint: " in err


def test_an_unknown_device_is_refused_before_anything_starts(start_lhp: Start) -> None:
    process = start_lhp("serve", "--port", "0", LHP_DEVICE="tpu")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: LHP_DEVICE='tpu': the device is auto, cpu or cuda\n")


def test_more_threads_than_processors_are_refused_before_anything_starts(
    start_lhp: Start,
) -> None:
    process = start_lhp("serve", "--port", "0", LHP_THREADS="100000")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert "hint: set LHP_THREADS" in err


# Listening


def test_a_listening_socket_keeps_its_port_from_others() -> None:
    with listen_on("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} is in use"):
            listen_on("127.0.0.1", port)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "127.0.0.5"])
def test_every_name_of_this_machine_alone_will_do(address: str) -> None:
    with listen_on(address, 0) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid", ""])
def test_an_address_that_is_not_this_machines_is_refused(address: str) -> None:
    with pytest.raises(ListenError) as caught:
        listen_on(address, 0)
    assert caught.value.hint
