"""The referee of answers towards a service: what it reads, and how a run ends."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from benchmarks.answers.__main__ import main, parse_arguments
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.measuring import (
    draw_queries,
)
from benchmarks.answers.service import Failure, Reply, fresh_service, read_answer

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def body(**changes: Any) -> dict[str, Any]:
    return {
        "dims": [1197, 317],
        "lhp": [1200, 320],
        "is_lhp": False,
        "speedup": 1.1,
        "speedup_interval": [1.05, 1.15],
        "workload": "linear[backend=dense,batch=16,dtype=float32]",
        "platform": "0123456789abcdef",
        "host": "a-secret-name",
        "measured_at": "2026-01-02T03:04:06Z",
        "stale": False,
    } | changes


def read(fields: dict[str, Any]) -> Reply | Failure:
    return read_answer(fields, dims=(1197, 317), wall_s=2.0, sent_at=NOW)


def test_an_answer_is_read_without_the_hosts_name() -> None:
    found = read(body())
    assert isinstance(found, Reply)
    assert found.answer == (1200, 320)
    assert found.claimed_interval == (1.05, 1.15)
    # Measured one second after the query was sent.
    assert found.cold
    assert "a-secret-name" not in str(found)


def test_an_answer_measured_before_the_query_is_not_cold() -> None:
    found = read(body(measured_at="2026-01-02T03:04:04Z"))
    assert isinstance(found, Reply) and not found.cold


@pytest.mark.parametrize(
    "changes",
    [
        {"lhp": [1196, 320]},
        {"dims": [1, 1]},
        {"stale": True},
        {"workload": "linear[backend=dense,batch=16,dtype=bfloat16]"},
        {"workload": "matmul[backend=dense,batch=16,dtype=float32]"},
    ],
)
def test_an_answer_that_breaks_the_contract_is_a_failure(changes: dict[str, Any]) -> None:
    assert isinstance(read(body(**changes)), Failure)


Stub = Callable[..., str]


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Starts an HTTP server that answers as documented, with what a test changes."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(*, sweeps: list[dict[str, str]] | None = None, **changes: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                reply: dict[str, Any] = {}
                if url.path == "/lhp":
                    dims = [int(dim) for dim in parse_qs(url.query)["dims"][0].split(",")]
                    now = dt.datetime.now(dt.UTC).isoformat()
                    reply = body(dims=dims, lhp=[d + 8 for d in dims], measured_at=now) | changes
                elif url.path == "/sweeps":
                    reply = {"items": sweeps or [], "next_cursor": None}
                elif url.path == "/platforms/0123456789abcdef":
                    reply = {"device": "cpu", "threads": 1, "cpus": 1, "framework": "torch 1"}
                content = json.dumps(reply).encode()
                self.send_response(200 if reply else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def run(url: str, folder: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, raw figures and report of a short run against `url`."""
    code = main(["--url", url, "--queries=2", "--seed=3", "--max-seconds=0.2", f"--out={folder}"])
    (raw,), (report,) = folder.glob("answers-*.json"), folder.glob("answers-*.md")
    return code, json.loads(raw.read_text()), report.read_text()


def test_a_run_against_a_service_reports_and_exits_by_its_verdicts(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = stub()
    code, raw, report = run(url, tmp_path / "new")
    assert code == (1 if any(goal["met"] is False for goal in raw["goals"]) else 0)
    assert [t["dims"] for t in raw["trials"]] == [list(d) for d in draw_queries(2, 3)]
    assert report in capsys.readouterr().out
    assert "--queries 2 --seed 3" in report
    for text in (report, json.dumps(raw)):
        assert url not in text and str(tmp_path) not in text and "a-secret-name" not in text


def test_wrong_answers_are_reported_and_miss(stub: Stub, tmp_path: Path) -> None:
    code, raw, report = run(stub(lhp=[1, 1]), tmp_path)
    assert code == 1
    assert len(raw["failures"]) == 2 and not raw["trials"]
    assert "smaller than the query" in report


def test_an_answer_without_its_fields_is_reported_and_misses(stub: Stub, tmp_path: Path) -> None:
    code, raw, _ = run(stub(speedup_interval=None), tmp_path)
    assert code == 1
    assert "not an answer as documented" in raw["failures"][0]["reason"]


def test_no_verdict_while_the_service_measures(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.answers.__main__.IDLE_LIMIT_S", 0.0)
    url = stub(sweeps=[{"id": "s1", "state": "running"}])
    assert main(["--url", url, "--queries=1", "--max-seconds=0.2"]) == 2
    assert "wait until it is idle" in capsys.readouterr().err


def test_no_verdict_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 needs privileges to listen on, and nobody does.
    assert main(["--url", "http://127.0.0.1:1", "--queries=1"]) == 2
    assert "no verdict" in capsys.readouterr().err


SERVICE = """#!{python}
import os, pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if sys.argv[1:] == ["db", "upgrade"]:
    sys.exit(0)
{serve}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(os.environ["LHP_PORT"])), Handler).serve_forever()
"""


def script(folder: Path, serve: str) -> Path:
    """A stand-in for the command `lhp`."""
    path = folder / "lhp"
    path.write_text(SERVICE.format(python=sys.executable, serve=serve))
    path.chmod(0o755)
    return path


def test_a_fresh_service_is_ended_after_an_error(tmp_path: Path) -> None:
    urls = []

    def use() -> None:
        with fresh_service(script(tmp_path, "")) as (url, start_s):
            urls.append(url)
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert start_s > 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls[0]}/readyz")


def test_a_service_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = script(tmp_path, "sys.exit('error: no luck in ' + os.environ['LHP_DATABASE_URL'])")
    with (
        pytest.raises(RefereeError, match="no luck in sqlite:///TMP/"),
        fresh_service(command),
    ):
        pass


@pytest.mark.parametrize(
    "arguments", [["--queries=0"], ["--seed=-1"], ["--max-seconds=0"], ["--self-check", "--url=x"]]
)
def test_senseless_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
