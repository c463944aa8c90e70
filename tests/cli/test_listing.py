"""`lhp curves`, `hosts`, `plot` and what holds for every command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from profiler_service.wire import (
    CurvePage,
    EvidenceInfo,
    Health,
    HostInfo,
    ParameterInfo,
    PlatformChangeInfo,
    WorkerInfo,
    WorkloadInfo,
)
from tests.cli.conftest import Lhp
from tests.cli.stub import CURVE, HEADER, HOST, MATMUL, NOW, RACE, RACED, Reply, StubService
from tests.plots.browser import needs_browser

EMPTY = CurvePage(items=[], next_cursor=None)


def test_curves_are_a_table_whose_lines_arent_folded(lhp: Lhp) -> None:
    done = lhp("curves")
    assert done.code == 0
    heading, line = done.out.splitlines()
    assert heading.split()[:3] == ["ID", "WORKLOAD", "RANGES"]
    # Brackets are markup to the table's library, and must come out as they are.
    assert line.split()[:6] == ["c7", MATMUL, "256:261", "grid", "anvil", "5/6"]
    # Two LHPs, and one of five points undecided.
    assert line.split()[6:9] == ["2", "20.0", "%"]


def test_a_curve_measured_beside_others_is_marked(lhp: Lhp, service: StubService) -> None:
    evidence = EvidenceInfo(others_share=0.5, disturbed=True)
    disturbed = HEADER.model_copy(update={"evidence": evidence})
    service.reply("GET /curves", CurvePage(items=[HEADER, disturbed], next_cursor=None))
    _, quiet, marked = lhp("curves").out.splitlines()
    assert "disturbed" not in quiet
    assert marked.endswith("ago, disturbed")


def test_options_of_curves_are_filters(lhp: Lhp, service: StubService) -> None:
    options = "--workload linear --dtype bfloat16 --param steps=3 --mode grid --host anvil"
    more = "--platform f00d --since 2026-03-01 --until 2026-04-01 --sort -measured --cursor zz"
    assert lhp("curves", *options.split(), *more.split(), "--search", "xeon packed").code == 0
    [(query, _)] = service.sent("GET /curves")
    assert query == {
        "workload": "linear",
        "dtype": "bfloat16",
        "steps": "3",
        "mode": "grid",
        "host": "anvil",
        "platform": "f00d",
        "since": "2026-03-01",
        "until": "2026-04-01",
        "search": "xeon packed",
        "sort": "-measured",
        "cursor": "zz",
        "limit": "20",
    }


def test_one_curve_names_its_ambiguous_pairs(lhp: Lhp, service: StubService) -> None:
    names = ["dominated", "undecided", "undecided", "lhp", "undecided"]
    points = CURVE.points.model_copy(update={"status": names})
    curve = CURVE.model_copy(update={"points": points, "num_undecided": 3})
    service.reply("GET /curves/c7", curve)
    done = lhp("curves", "c7", "--limit", "2")
    lines = done.out.splitlines()
    assert lines[0].startswith("curve c7: matmul[")
    assert lines[2].split()[0] == "UNDECIDED"
    assert lines[3].split() == ["257", "259", "0.8330", "0.8000", "to", "0.8600"]
    assert [line.split()[0] for line in lines[4:]] == ["258"]
    assert "1 more: add --limit 3" in done.err
    # The last of them has no rival that is known.
    assert lhp("curves", "c7").out.splitlines()[-1].split() == ["260", "–", "–", "–"]


def test_one_curve_without_ambiguous_pairs_is_summed_up(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves/c7", CURVE.model_copy(update={"num_undecided": 0}))
    assert len(lhp("curves", "c7").out.splitlines()) == 2
    service.reply("GET /curves/c7", CURVE.model_copy(update={"mode": "race"}))
    assert len(lhp("curves", "c7").out.splitlines()) == 2
    assert json.loads(lhp("curves", "c7", "--json").out)["points"]["rival"][0] == [259]


def test_curves_pass_their_filters_on_and_tell_of_further_pages(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("GET /curves", CurvePage(items=[HEADER], next_cursor="abc"))
    options = "--workload matmul --host anvil --platform f00d --limit 1 --cursor zz"
    done = lhp("curves", *options.split())
    [(query, _)] = service.sent("GET /curves")
    assert query == {
        "workload": "matmul",
        "host": "anvil",
        "platform": "f00d",
        "limit": "1",
        "cursor": "zz",
    }
    assert "--cursor abc" in done.err


def test_curves_as_json_are_the_page(lhp: Lhp) -> None:
    page = CurvePage.model_validate(json.loads(lhp("curves", "--json").out))
    assert [curve.id for curve in page.items] == ["c7"]


def test_no_curves_say_how_to_get_one(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves", EMPTY)
    done = lhp("curves")
    assert (done.code, done.out) == (0, "")
    assert "lhp sweep" in done.err


def test_hosts_are_a_table_with_their_device(lhp: Lhp) -> None:
    done = lhp("hosts")
    assert done.code == 0
    for text in ("anvil", "present", "cpu: Example 9000", "float32 bfloat16", "f00d"):
        assert text in done.out


def test_a_host_was_seen_when_the_service_says_whatever_the_clock_here_says(
    lhp: Lhp, service: StubService
) -> None:
    # By the clock here, its last heartbeat is years ago; by the database's, three minutes.
    service.reply("GET /hosts", [HOST.model_copy(update={"silent_s": 180.0})])
    done = lhp("hosts")
    assert "3 min ago" in done.out


def test_hosts_say_in_a_sentence_what_an_upgrade_changed(lhp: Lhp, service: StubService) -> None:
    said = "oneDNN 3.12 → 3.13: multiples of 16 no longer win; 12 of 30 facts changed"
    change = PlatformChangeInfo(
        before="d00d",
        after="f00d",
        changed_at=NOW,
        differences=["oneDNN: 3.12 → 3.13"],
        state="done",
        num_facts=30,
        num_agree=18,
        num_changed=12,
        num_unclear=0,
        num_failed=0,
        agreeing_share=(0.406, 0.773),
        verdict="unclear",
        inherited=False,
        finished_at=NOW,
        summary=said,
    )
    service.reply("GET /hosts", [HOST.model_copy(update={"platform_change": change}), HOST])
    done = lhp("hosts")
    assert done.err == f"anvil, since 2026-01-02: {said}\n"
    assert said not in done.out  # scripts read the table


def test_hosts_as_json(lhp: Lhp) -> None:
    listed = TypeAdapter(list[HostInfo]).validate_python(json.loads(lhp("hosts", "--json").out))
    assert listed == [HOST]


KILLED = WorkerInfo(
    host="anvil",
    state="restarting",
    since=NOW,
    last_exit="SIGKILL",
    detail="the worker of host 'anvil' ended 9 times in a row (SIGKILL)",
    hint="see `dmesg`",
)
DEGRADED = Health(status="degraded", detail=KILLED.detail, worker=KILLED)


def test_hosts_say_what_is_wrong_with_the_services_own_worker(
    lhp: Lhp, service: StubService
) -> None:
    there = HOST.model_copy(update={"name": "there"})
    service.reply("GET /hosts", [HOST, there])
    service.reply("GET /healthz", DEGRADED)
    done = lhp("hosts")
    assert done.code == 0
    assert done.err == "the worker of host 'anvil' ended 9 times in a row (SIGKILL) (see `dmesg`)\n"
    # Its last heartbeat was a moment ago, and says less than its end.
    assert [line.split()[:2] for line in done.out.splitlines()[1:]] == [
        ["anvil", "restarting"],
        ["there", "present"],
    ]
    service.reply("GET /hosts", [])
    assert "ended 9 times in a row (SIGKILL)" in lhp("hosts").err


@pytest.mark.parametrize(
    ("health", "verdict", "found"),
    [
        (DEGRADED, "poor", "ended 9 times in a row (SIGKILL)"),
        (Health(status="ok", worker=KILLED.model_copy(update={"state": "measuring"})), "good", ""),
        (Health(status="ok"), "good", "has no worker of its own"),
        (Reply("not a service"), "fair", ""),
    ],
)
def test_doctor_says_what_is_wrong_with_the_services_own_worker(
    lhp: Lhp, service: StubService, health: Health | Reply, verdict: str, found: str
) -> None:
    service.reply("GET /healthz", health)
    done = lhp("doctor", "--seconds", "0.5", "--json")
    diagnosis = json.loads(done.out)
    [worker] = [each for each in diagnosis["findings"] if each["name"] == "worker"]
    assert worker["verdict"] == verdict
    assert found in worker["found"]
    assert done.code == (0 if diagnosis["quiet_enough"] and verdict != "poor" else 1)


def test_doctor_says_so_too_where_this_machine_cant_measure_at_all(
    lhp: Lhp, service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.reply("GET /healthz", DEGRADED)
    monkeypatch.setenv("LHP_THREADS", "100000")
    done = lhp("doctor")
    assert done.code == 1
    assert "worker: the worker of host 'anvil' ended 9 times in a row (SIGKILL)" in done.err
    assert "LHP_THREADS" in done.err


def test_no_hosts_say_how_to_get_one(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /hosts", [])
    done = lhp("hosts")
    assert (done.code, done.out) == (0, "")
    assert "lhp worker" in done.err


def test_plot_draws_the_newest_curve_into_a_file_named_after_it(lhp: Lhp, tmp_path: Path) -> None:
    done = lhp("plot")
    assert done.code == 0, done.err
    assert done.out == "matmul-c7.html\n"
    assert (tmp_path / "matmul-c7.html").read_text().startswith("<!doctype html>")


def test_plot_draws_the_curve_named_into_the_file_named(lhp: Lhp, tmp_path: Path) -> None:
    done = lhp("plot", "c7", "-o", "picture.html")
    assert done.code == 0, done.err
    assert done.out == "picture.html\n"
    assert "Example 9000" in (tmp_path / "picture.html").read_text()


@needs_browser
def test_plot_prints_a_pdf(lhp: Lhp, tmp_path: Path) -> None:
    done = lhp("plot", "c7", "-o", "picture.pdf")
    assert (done.code, done.out) == (0, "picture.pdf\n"), done.err
    assert (tmp_path / "picture.pdf").read_bytes().startswith(b"%PDF-")


def test_plot_draws_how_a_race_went(lhp: Lhp, service: StubService, tmp_path: Path) -> None:
    service.reply("GET /curves/c7", RACED)
    service.reply("GET /sweeps/s1/race", RACE)
    assert lhp("plot", "c7", "-o", "picture.html").err == ""
    assert "dropped in contest" in (tmp_path / "picture.html").read_text()


def test_a_race_that_cant_be_told_any_more_leaves_its_curve_to_draw(
    lhp: Lhp, service: StubService, tmp_path: Path
) -> None:
    service.reply("GET /curves/c7", RACED)
    service.reply("GET /sweeps/s1/race", Reply.problem(409, "raced by another version", "look"))
    done = lhp("plot", "c7", "-o", "picture.html")
    assert (done.code, done.out) == (0, "picture.html\n")
    assert "the picture doesn't show how the race went: raced by another version" in done.err
    assert "dropped in contest" not in (tmp_path / "picture.html").read_text()


def test_plot_asks_for_no_race_of_a_grid_sweep(lhp: Lhp, service: StubService) -> None:
    lhp("plot", "c7")
    assert service.sent("GET /sweeps/s1/race") == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["plot", "-o", "picture.gif"], 2, ".pdf or .html"),
        (["plot", "-o", "picture"], 2, ".pdf or .html"),
        (["plot", "-o", "missing/picture.html"], 1, "can't write 'missing/picture.html'"),
        (["plot", "missing"], 1, "there is no /curves/missing"),
        # A slash must not lead to another resource.
        (["plot", "../hosts"], 1, "error:"),
    ],
)
def test_plot_that_cant_be_drawn(lhp: Lhp, arguments: list[str], code: int, message: str) -> None:
    done = lhp(*arguments)
    assert done.code == code
    assert message in done.err
    assert "hint:" in done.err


def test_plot_without_any_curve(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves", EMPTY)
    done = lhp("plot")
    assert done.code == 1
    assert "there is no curve yet" in done.err


def test_version(lhp: Lhp) -> None:
    assert lhp("--version").out == f"lhp {importlib.metadata.version('lhp-profiler')}\n"


def test_an_unknown_command_is_a_usage_error(lhp: Lhp) -> None:
    assert lhp("swep").code == 2


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from profiler_service.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = ['torch', 'matplotlib', 'plotly', 'dbos', 'sqlalchemy', 'numpy', 'fastapi',"
        " 'httpx', 'pydantic']\n"
        "print('imported:', [name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "imported: []" in done.stdout, done.stderr
    names = "serve worker query advise sweep curves plot hosts workloads doctor db"
    for name in names.split():
        assert f" {name} " in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(
    start_lhp: Callable[..., subprocess.Popen[str]], service: StubService, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "profiler_service.cli", "curves", "--json"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LHP_URL": service.url},
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_problems_of_the_service_are_told_by_every_command(lhp: Lhp, service: StubService) -> None:
    away = Reply.problem(503, "the database is away", "wait a little")
    for route in ("GET /curves", "GET /hosts", "POST /sweeps"):
        service.reply(route, away)
    for command in (["curves"], ["hosts"], ["plot"], ["sweep", "matmul", "1:2"]):
        done = lhp(*command)
        assert (done.code, done.err) == (
            1,
            "error: the database is away\nhint: wait a little\n",
        )


@pytest.mark.parametrize("json_wanted", [True, False])
def test_doctor_examines_this_machine(lhp: Lhp, json_wanted: bool) -> None:
    done = lhp("doctor", "--seconds", "0.5", *(["--json"] if json_wanted else []))
    if json_wanted:
        diagnosis = json.loads(done.out)
        assert {finding["name"] for finding in diagnosis["findings"]} > {"spread", "load"}
        quiet = diagnosis["quiet_enough"]
    else:
        assert "spread" in done.out
        quiet = "\nquiet enough: differences of " in done.out
        assert quiet or "\ntoo noisy: differences of " in done.out
    assert done.code == (0 if quiet else 1)
    assert done.err == "measuring one product for 0.5 s\n"


def test_workloads_lists_kinds_and_what_is_left_out(lhp: Lhp, service: StubService) -> None:
    parameter = ParameterInfo(
        name="batch", default=16, description="", choices=[], minimum=1, maximum=9
    )
    linear = WorkloadInfo(
        name="linear",
        description="",
        axes=["out_features", "in_features"],
        parameters=[parameter, parameter.model_copy(update={"name": "dtype", "default": "f"})],
    )
    broken = WorkloadInfo(name="mine", description="", axes=[], parameters=[], error="no package")
    service.reply("GET /workloads", [linear, broken])
    done = lhp("workloads")
    assert done.code == 0
    heading, row = done.out.splitlines()
    assert heading.split() == ["WORKLOAD", "AXES", "PARAMETERS"]
    assert row.split() == ["linear", "out_features,in_features", "batch=16", "dtype=f"]
    assert done.err == "mine is left out: no package\n"
    listed = json.loads(lhp("workloads", "--json").out)
    assert [each["error"] for each in listed] == ["", "no package"]
