"""The referee of answers towards a service: what it reads, and how a run ends."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.answers.__main__ import main, parse_arguments
from benchmarks.answers.dims import draw_queries, growth
from benchmarks.answers.machine import RefereeError
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
    # A service that doesn't say whether it knows has not said so.
    assert found.settled is None and found.margin is None
    assert "a-secret-name" not in str(found)


def test_what_an_answer_says_of_itself_is_read_wherever_it_stands() -> None:
    found = read(body(settled=True, margin=0.008, evidence={"seconds": 1.5, "settled": False}))
    assert isinstance(found, Reply)
    assert (found.settled, found.margin, found.measuring_s) == (True, 0.008, 1.5)


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


# --- Whole runs against a stand-in for the command `lhp` --------------------------------------

SERVICE = """#!{python}
import datetime, json, os, sys, urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer
if sys.argv[1:] == ["db", "upgrade"]:
    sys.exit(0)
BODY = {body}
GROWN = {grown}
SWEEPS = {sweeps}
{serve}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        reply = dict()
        if url.path == "/lhp":
            query = urllib.parse.parse_qs(url.query)
            dims = [int(dim) for dim in query["dims"][0].split(",")]
            now = datetime.datetime.now(datetime.timezone.utc).isoformat()
            reply = BODY | dict(dims=dims, lhp=[d + GROWN for d in dims], measured_at=now)
            reply["prefer"] = query.get("prefer", ["fastest"])[0]
        elif url.path == "/sweeps":
            reply = dict(items=SWEEPS)
        elif url.path.startswith("/platforms/"):
            reply = dict(device="cpu", threads=1, cpus=1, framework="torch 1")
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *arguments):
        pass
HTTPServer(("127.0.0.1", int(os.environ["LHP_PORT"])), Handler).serve_forever()
"""


def script(
    folder: Path,
    serve: str = "",
    *,
    grown: int = 8,
    sweeps: list[dict[str, str]] | None = None,
    **changes: Any,
) -> Path:
    """A stand-in for the command `lhp`, which answers each query with dims that are larger by
    `grown`."""
    path = folder / "lhp"
    path.write_text(
        SERVICE.format(
            python=sys.executable,
            serve=serve,
            body=repr(body(**changes)),
            grown=grown,
            sweeps=repr(sweeps or []),
        )
    )
    path.chmod(0o755)
    return path


RUN = ["--seed=3", "--seconds=0.3", "--processes=3"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the stand-in in the place of `lhp`, and lets the referee's search be short."""
    monkeypatch.setattr("benchmarks.answers.processes.SEARCH_S", 0.1)

    def place(**options: Any) -> None:
        monkeypatch.setattr("benchmarks.answers.asking.COMMAND", script(tmp_path, **options))

    return place


def read_run(folder: Path) -> tuple[dict[str, Any], str]:
    """Raw figures and report."""
    return json.loads((folder / "answers.json").read_text()), (folder / "answers.md").read_text()


def test_a_run_that_was_ended_goes_on_where_it_was(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(settled=True, margin=0.02)
    out = tmp_path / "out"
    asked = [*RUN, "--parts=agreement", "--queries=2", f"--out={out}"]
    assert main([*asked, "--max-minutes=0"]) == 3
    first, _ = read_run(out)
    assert [trial["dims"] for trial in first["trials"]] == [list(draw_queries(2, 3)[0])]
    code = main([*asked, "--resume"])
    raw, report = read_run(out)
    assert raw["trials"][0] == first["trials"][0]
    assert [trial["dims"] for trial in raw["trials"]] == [list(d) for d in draw_queries(2, 3)]
    # Both services gave equal dims, and both said that they are settled.
    assert "2 of 2 = 100.0%" in report and "4 of 4 = 100.0%" in report
    assert code == (1 if "**no**" in report else 0)
    assert report in capsys.readouterr().out
    assert "--queries 2 --seconds 0.3 --processes 3 --seed 3 --out DIR" in report
    assert "answers-calibration.png" in report and (out / "answers-calibration.png").exists()
    for text in (report, json.dumps(raw)):
        assert str(tmp_path) not in text and "a-secret-name" not in text


def test_a_run_of_preferences_asks_for_both_in_turn(
    command: Callable[..., None], tmp_path: Path
) -> None:
    command(grown=2)
    main([*RUN, "--parts=preferences", "--preferences=2", f"--out={tmp_path}"])
    raw, report = read_run(tmp_path)
    assert [trial["prefer"] for trial in raw["trials"]] == ["nearest", "largest"]
    bodies = [trial["replies"][0]["body"] for trial in raw["trials"]]
    assert [each["prefer"] for each in bodies] == ["nearest", "largest"]
    assert "`prefer=nearest`, two axes, cold" in report
    # Nothing that grows more than a nearest answer is its rival.
    nearest = raw["trials"][0]
    rivals = nearest["measurement"]["points"][2:]
    limit = growth(nearest["dims"], nearest["replies"][0]["answer"])
    assert all(growth(nearest["dims"], rival) <= limit for rival in rivals)


def test_wrong_answers_are_reported_and_miss(command: Callable[..., None], tmp_path: Path) -> None:
    command(grown=-1)
    assert main([*RUN, "--parts=agreement", "--queries=1", f"--out={tmp_path}"]) == 1
    raw, report = read_run(tmp_path)
    assert raw["trials"][0]["measurement"] is None
    assert "smaller than the query" in report


def test_an_answer_without_its_fields_is_reported_and_misses(
    command: Callable[..., None], tmp_path: Path
) -> None:
    command(speedup_interval=None)
    assert main([*RUN, "--parts=agreement", "--queries=1", f"--out={tmp_path}"]) == 1
    assert "not an answer as documented" in read_run(tmp_path)[1]


def test_no_verdict_while_the_service_measures(
    command: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.answers.asking.IDLE_LIMIT_S", 0.0)
    command(sweeps=[{"id": "s1", "state": "running"}])
    assert main([*RUN, "--parts=agreement", "--queries=1"]) == 2
    assert "wait until it is idle" in capsys.readouterr().err


def test_a_run_with_other_settings_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers.json").write_text(json.dumps({"settings": {"seed": 4}}))
    assert main([*RUN, "--parts=agreement", "--resume", f"--out={tmp_path}"]) == 2
    assert "was measured with" in capsys.readouterr().err


# --- The service's process ------------------------------------------------------------------


def test_a_fresh_service_is_ended_after_an_error(tmp_path: Path) -> None:
    urls = []

    def use() -> None:
        with fresh_service(script(tmp_path)) as (url, start_s):
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
    "arguments",
    [["--queries=0"], ["--seed=-1"], ["--seconds=0"], ["--parts=all"], ["--resume"]],
)
def test_senseless_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
