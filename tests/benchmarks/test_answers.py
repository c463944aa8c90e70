"""The referee's arithmetic, its verdicts, and its behaviour towards a service."""

from __future__ import annotations

import datetime as dt
import gc
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from benchmarks import answers
from benchmarks.answers import Dims, Failure, Measurement, Ratio, Reply, Trial

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def test_the_median_interval_is_the_sign_tests() -> None:
    # n = 10: P(Bin < 2) = 11/1024 = 1.07 % <= 2.5 %, P(Bin < 3) = 56/1024 = 5.5 %: so the
    # 2nd smallest and the 2nd largest.
    assert answers.median_interval([9, 1, 8, 2, 7, 3, 6, 4, 5, 10]) == (2, 9)
    # n = 6: P(Bin < 1) = 1/64 = 1.6 %, P(Bin < 2) = 7/64: the extremes.
    assert answers.median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)


def test_five_values_give_no_interval() -> None:
    # P(Bin(5) < 1) = 1/32 = 3.1 % > 2.5 %: even the extremes promise too little.
    assert answers.median_interval([1, 2, 3, 4, 5]) == (-math.inf, math.inf)
    assert answers.median_interval([]) == (-math.inf, math.inf)


def test_rounding_up_leaves_multiples_alone() -> None:
    assert answers.round_up((1197, 317), 8) == (1200, 320)
    assert answers.round_up((1200, 320), 8) == (1200, 320)


def test_equal_seeds_draw_equal_queries_in_range() -> None:
    drawn = answers.draw_queries(200, seed=5)
    assert drawn == answers.draw_queries(200, seed=5) != answers.draw_queries(200, seed=6)
    assert all(100 <= dim <= 1300 for dims in drawn for dim in dims)


# --- Measuring ------------------------------------------------------------------------------


def measure(candidates: dict[str, Dims], dims: Dims = (64, 64)) -> Measurement:
    return answers.measure(
        dims, candidates, watch=["control"], max_seconds=0.2, seed=1, threads=1, cpus=1
    )


def test_a_product_64_times_as_large_is_seen_to_be_slower() -> None:
    affinity = os.sched_getaffinity(0)
    found = measure({"answer": (512, 512), "control": (64, 64)})
    # 64 times the operations; a call at 64 × 64 is mostly fixed cost, so far less than 64.
    assert found.ratios["answer"].low > 3
    assert found.num_rounds == len(found.blocks["answer"]) * answers.ROUNDS_PER_BLOCK
    assert 0 < found.latency_s < 0.01
    # Nothing of the measuring conditions stays behind.
    assert os.sched_getaffinity(0) == affinity
    assert gc.isenabled()


def test_equal_points_share_a_measurement_but_the_control_is_a_copy() -> None:
    found = measure({"answer": (72, 64), "up8": (72, 64), "up4": (64, 64), "control": (64, 64)})
    assert found.blocks["answer"] == found.blocks["up8"]
    assert set(found.blocks["up4"]) == {0.0}
    assert set(found.blocks["control"]) != {0.0}


def test_more_processors_than_there_are_is_refused() -> None:
    with (
        pytest.raises(answers.RefereeError, match="processors"),
        answers.measuring_conditions(threads=1, cpus=10_000),
    ):
        pass


# --- Verdicts -------------------------------------------------------------------------------


def trial(*, answer: float, rules: float = 1.0, control: float = 1.0, random: bool = True) -> Trial:
    """A trial with these latencies over the queried point's."""
    estimates = {"answer": answer, "control": control}
    estimates |= {f"up{rule}": rules for rule in (4, 8, 16, 32, 64)}
    return Trial(
        dims=(100, 100),
        answer=(101, 101),
        measurement=Measurement(
            ratios={
                name: Ratio(dims=(101, 101), estimate=x, low=x * 0.99, high=x * 1.01)
                for name, x in estimates.items()
            },
            latency_s=1e-4,
            blocks={},
            num_rounds=100,
            seconds=1.0,
        ),
        reply=None,
        random=random,
    )


def reply(*, wall_s: float, cold: bool = True) -> Reply:
    return Reply(
        dims=answers.FRESH_QUERY,
        wall_s=wall_s,
        cold=cold,
        answer=(1200, 320),
        claimed_speedup=1.1,
        claimed_interval=(1.05, 1.15),
        platform="p",
        body={},
    )


def verdicts(
    trials: list[Trial],
    failures: list[Failure] | None = None,
    fresh: Reply | Failure | None = None,
) -> dict[str, bool | None]:
    """Whether each goal is met, by the first word of its name."""
    goals = answers.judge(trials, failures or [], fresh=fresh, seed=1)
    return {goal.name.split()[0].rstrip(":"): goal.met for goal in goals}


def test_all_goals_are_met_by_faster_answers() -> None:
    assert verdicts([trial(answer=0.9), trial(answer=1.0)], fresh=reply(wall_s=14)) == {
        "cold": True,
        "slowest": True,
        "mean": True,
        "control": True,
    }


def test_one_answer_more_than_a_percent_slower_misses() -> None:
    assert verdicts([trial(answer=0.9), trial(answer=1.009)])["slowest"] is True
    assert verdicts([trial(answer=0.9), trial(answer=1.011)])["slowest"] is False
    # The fixed query counts here too.
    fixed = trial(answer=1.011, random=False)
    assert verdicts([trial(answer=0.9), fixed])["slowest"] is False


def test_the_mean_speed_is_compared_with_the_best_rule_over_random_queries() -> None:
    # Speeds 1/0.8 = 1.25 and 1: mean 1.125 against 1/0.9 = 1.111 of every rule.
    good = [trial(answer=0.8, rules=0.9), trial(answer=1.0, rules=0.9)]
    assert verdicts(good)["mean"] is True
    assert answers.mean_speeds(good)["answer"] == pytest.approx(1.125)
    # 1/0.9 against 1/0.89.
    bad = [trial(answer=0.9, rules=0.89)]
    assert verdicts(bad)["mean"] is False
    # A fixed query, however fast, doesn't help.
    assert verdicts([*bad, trial(answer=0.1, random=False)])["mean"] is False


def test_multiples_of_64_are_no_part_of_the_goal() -> None:
    one = trial(answer=0.9, rules=0.95)
    ratio = Ratio(dims=(128, 128), estimate=0.5, low=0.5, high=0.5)
    measurement = Measurement(
        ratios={**one.measurement.ratios, "up64": ratio},
        latency_s=1e-4,
        blocks={},
        num_rounds=1,
        seconds=1.0,
    )
    changed = Trial(dims=one.dims, answer=one.answer, measurement=measurement, reply=None)
    assert verdicts([changed])["mean"] is True


def test_the_bootstrap_interval_of_equal_differences_is_that_difference() -> None:
    # 1/0.8 - 1 = 0.25 for every query: resampling changes nothing.
    found = answers.speed_difference([trial(answer=0.8)] * 5, "up8", seed=1)
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_a_referee_that_errs_by_more_than_a_percent_cannot_judge() -> None:
    assert verdicts([trial(answer=0.9, control=1.009)])["control"] is True
    assert verdicts([trial(answer=0.9, control=0.985)])["control"] is False


def test_a_slow_warm_or_missing_first_answer_misses() -> None:
    good = [trial(answer=0.9)]
    assert verdicts(good, fresh=reply(wall_s=15.5))["cold"] is False
    assert verdicts(good, fresh=reply(wall_s=1, cold=False))["cold"] is False
    failed = Failure(dims=answers.FRESH_QUERY, wall_s=1, reason="status 503")
    assert verdicts(good, [failed], failed) == {
        "cold": False,
        "queries": False,
        "slowest": True,
        "mean": True,
        "control": True,
    }
    assert verdicts(good, fresh=None)["cold"] is None


# --- Answers as documented ------------------------------------------------------------------


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
    return answers.read_answer(fields, dims=(1197, 317), wall_s=2.0, sent_at=NOW)


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


# --- Towards a service ----------------------------------------------------------------------


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
    code = answers.main(
        ["--url", url, "--queries=2", "--seed=3", "--max-seconds=0.2", f"--out={folder}"]
    )
    (raw,), (report,) = folder.glob("answers-*.json"), folder.glob("answers-*.md")
    return code, json.loads(raw.read_text()), report.read_text()


def test_a_run_against_a_service_reports_and_exits_by_its_verdicts(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = stub()
    code, raw, report = run(url, tmp_path / "new")
    assert code == (1 if any(goal["met"] is False for goal in raw["goals"]) else 0)
    assert [t["dims"] for t in raw["trials"]] == [list(d) for d in answers.draw_queries(2, 3)]
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
    monkeypatch.setattr(answers, "IDLE_LIMIT_S", 0.0)
    url = stub(sweeps=[{"id": "s1", "state": "running"}])
    assert answers.main(["--url", url, "--queries=1", "--max-seconds=0.2"]) == 2
    assert "let it come to rest" in capsys.readouterr().err


def test_no_verdict_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 needs privileges to listen on, and nobody does.
    assert answers.main(["--url", "http://127.0.0.1:1", "--queries=1"]) == 2
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
        with answers.fresh_service(script(tmp_path, "")) as (url, start_s):
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
        pytest.raises(answers.RefereeError, match="no luck in sqlite:///TMP/"),
        answers.fresh_service(command),
    ):
        pass


@pytest.mark.parametrize(
    "arguments", [["--queries=0"], ["--seed=-1"], ["--max-seconds=0"], ["--self-check", "--url=x"]]
)
def test_senseless_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        answers.parse_arguments(arguments)
