"""Whatever the service sends is printed as it is: neither as markup nor as codes for a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from profiler_service.cli.progress import report_progress, show_progress
from profiler_service.client import Progress
from profiler_service.printable import printable
from profiler_service.wire import CrossoverAnswer, CurvePage, KernelCrossover, WorkloadInfo
from tests.cli.conftest import Lhp
from tests.cli.stub import (
    ANSWER,
    CURVE,
    HEADER,
    HOST,
    NOW,
    PLATFORM,
    Reply,
    StubService,
    make_sweep,
)

NAMES = [
    *("rack[/gpu]", "dgx[a100]", "[link=http://evil]x[/link]", "[bold]x", "[/]", "\\[x]"),
    *(":smile:", "$x^2$", "\x1b[31mred\x1b[0m", "\x9b31mred", "a\nerror: b", "\rx", "\u202egnp"),
]


@pytest.fixture(params=NAMES, ids=ascii)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_hosts_print_their_names_literally(lhp: Lhp, service: StubService, name: str) -> None:
    service.reply("GET /hosts", [HOST.model_copy(update={"name": name, "dtypes": [name]})])
    service.reply("GET /platforms", [PLATFORM.model_copy(update={"device_model": name})])
    done = lhp("hosts")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2
    assert done.out.count(printable(name)) == 3


def test_curves_print_names_literally(lhp: Lhp, service: StubService, name: str) -> None:
    odd = {"id": name, "workload": name, "host": name}
    service.reply("GET /curves", CurvePage(items=[HEADER.model_copy(update=odd)], next_cursor=name))
    done = lhp("curves")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2
    assert done.out.count(printable(name)) == 3
    assert done.err == f"more: add --cursor {printable(name)}\n"
    service.reply("GET /curves/c7", CURVE.model_copy(update={**odd, "axis_names": [name]}))
    done = lhp("curves", "c7")
    assert done.out.splitlines()[0].count(printable(name)) == 4


def test_answers_print_names_literally(lhp: Lhp, service: StubService, name: str) -> None:
    odd = {"workload": name, "host": name, "curve": name, "platform": name, "stale": True}
    service.reply("GET /lhp", ANSWER.model_copy(update=odd))
    done = lhp("query", "1197,317")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    assert done.out.count(printable(name)) == 4
    kernel = KernelCrossover(
        backend="dense", latency_s=1e-3, sparsity=None, sparsity_interval=(None, None)
    )
    crossover = CrossoverAnswer(
        dims=[5, 6],
        batch=16,
        dtype=name,
        best="dense",
        sparsity=None,
        sparsity_interval=(None, None),
        kernels=[kernel],
        sparse=[],
        failures={"csr": name},
        platform=name,
        host=name,
        curve=name,
        measured_at=NOW,
        num_samples=1,
        stale=True,
    )
    service.reply("GET /crossover", crossover)
    done = lhp("crossover", "5,6")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 5
    assert done.out.count(printable(name)) == 5


def test_sweeps_print_names_literally(lhp: Lhp, service: StubService, name: str) -> None:
    failed = make_sweep(state="failed", error=name, id=name, host=name)
    service.reply("POST /sweeps", Reply(failed, 200))
    done = lhp("sweep", "matmul", "1:2", "--detach")
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert done.out.count(printable(name)) == 2
    done = lhp("sweep", "matmul", "1:2")
    assert done.code == 1
    assert done.err.splitlines()[-1] == f"error: sweep {printable(name)} failed: {printable(name)}"


def test_workloads_print_names_literally(lhp: Lhp, service: StubService, name: str) -> None:
    kind = WorkloadInfo(name=name, description="", axes=[name], parameters=[])
    service.reply("GET /workloads", [kind, kind.model_copy(update={"error": name})])
    done = lhp("workloads")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2
    assert done.out.count(printable(name)) == 2
    assert done.err == f"{printable(name)} is left out: {printable(name)}\n"


def test_problems_are_printed_literally(lhp: Lhp, service: StubService, name: str) -> None:
    service.reply("GET /hosts", Reply.problem(422, name, name))
    done = lhp("hosts")
    assert done.code == 2
    assert done.err == f"error: {printable(name)}\nhint: {printable(name)}\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_printed_literally(name: str, is_terminal: bool) -> None:
    shown = io.StringIO()
    with show_progress(Console(file=shown, force_terminal=is_terminal, width=200)) as report:
        report_progress(Progress(sweep=make_sweep(error=name)), report)
    assert f"paused: {printable(name)}" in shown.getvalue()


def test_json_holds_names_exactly_and_no_codes_for_a_terminal(
    lhp: Lhp, service: StubService, name: str
) -> None:
    service.reply("GET /hosts", [HOST.model_copy(update={"name": name})])
    done = lhp("hosts", "--json")
    assert json.loads(done.out)[0]["name"] == name
    assert all(each.isprintable() for each in done.out.replace("\n", ""))


def test_plots_draw_names_literally(
    lhp: Lhp, service: StubService, tmp_path: Path, name: str
) -> None:
    service.reply("GET /curves/c7", CURVE.model_copy(update={"workload": name, "id": name}))
    service.reply("GET /platforms/f00d", PLATFORM.model_copy(update={"device_model": name}))
    done = lhp("plot", "c7")
    assert done.code == 0, done.err
    [picture] = tmp_path.iterdir()
    assert done.out == f"{picture.name}\n"
    assert picture.suffix == ".html"
    assert picture.name.isascii() and set("/\\ \n$:[").isdisjoint(picture.name)


@pytest.mark.parametrize(
    "text", ["../../escaped", "/tmp/escaped", "..", "-o", ".bashrc", "a/b", "x\0y", "a" * 500]
)
def test_a_plots_own_name_stays_in_this_directory(
    lhp: Lhp, service: StubService, tmp_path: Path, text: str
) -> None:
    service.reply("GET /curves/c7", CURVE.model_copy(update={"workload": text, "id": text}))
    assert lhp("plot", "c7").code == 0
    [picture] = tmp_path.iterdir()
    assert picture.read_text().startswith("<!doctype html>")
    assert picture.name[0] not in ".-"
