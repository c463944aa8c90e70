"""What `lhp` says of a command line that it can't carry out, for people and for scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiler_service.cli.explaining import NEEDED_EXTRAS
from profiler_service.errors import UnknownHostError, UnknownWorkloadError
from profiler_service.wire import CurvePage
from tests.cli.conftest import Lhp
from tests.cli.stub import ANSWER, Reply, StubService

# What was meant


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("qery 1197,317", "no such command 'qery'", "did you mean 'query'"),
        ("query 1197,317 --jsn", "no such option: --jsn", "did you mean --json?"),
        ("query --json", "give either DIMS or --file", "lhp query --file FILE"),
        ("query 1197,317 --batch x", "invalid value for '--batch'", "lhp query --help"),
        ("curves c7 c8", "(c8)", "lhp curves --help"),
        ("query 1197,317 abc", "unexpected argument: abc", "lhp query --help"),
    ],
)
def test_a_wrong_command_line_is_told_what_was_meant(
    lhp: Lhp, arguments: str, message: str, hint: str
) -> None:
    done = lhp(*arguments.split())
    assert done.code == 2
    first, second = done.err.splitlines()
    assert first.startswith("error: ") and message in first
    assert second.startswith("hint: ") and hint in first + second


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        ("query 1197 317", "1197,317"),
        ("query 1197, 317", "1197,317"),
        ("query 1197 x 317", "1197,317"),
        ("query 1197 317 --batch 8", "1197,317"),
        ("crossover 1500 1500", "1500,1500"),
        ("query 1 2 3", "1,2,3"),
    ],
)
def test_dims_in_several_arguments_are_told_of_the_comma(
    lhp: Lhp, service: StubService, arguments: str, joined: str
) -> None:
    done = lhp(*arguments.split())
    assert done.code == 2
    assert f"hint: separate dims by commas, without spaces: {joined}\n" in done.err
    assert service.requests == []


def test_ranges_joined_by_commas_are_told_of_the_space(lhp: Lhp) -> None:
    done = lhp("sweep", "linear", "1190:1210,310:330")
    assert done.code == 2
    assert "hint: separate the ranges of several axes by spaces: 1190:1210 310:330" in done.err


@pytest.mark.parametrize("dims", ["1,197", "50,257"])
def test_dims_that_look_like_one_number_are_told_how_they_are_read(
    lhp: Lhp, service: StubService, dims: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("query", dims)
    assert done.code == 0
    first, second = dims.split(",")
    assert done.err == (
        f"note: {dims} is read as 2 dimensions, {first} and {second};"
        f" the number {first}{second} is written without commas\n"
    )


@pytest.mark.parametrize("dims", ["1197,317", "512,768", "5,6", "1197,31"])
def test_plain_dims_are_asked_without_a_note(lhp: Lhp, service: StubService, dims: str) -> None:
    service.reply("GET /lhp", ANSWER)
    assert lhp("query", dims).err == ""


def test_dims_that_can_only_be_one_number_are_refused(lhp: Lhp, service: StubService) -> None:
    done = lhp("query", "1,024")
    assert done.code == 2
    assert "hint: write the number as 1024, or the dims as 1,24" in done.err
    assert service.requests == []


def test_no_curves_of_a_filter_is_not_no_curves_at_all(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves", CurvePage(items=[], next_cursor=None))
    done = lhp("curves", "--workload", "matmul")
    assert (done.code, done.out) == (0, "")
    assert "no curve is like that" in done.err
    unknown = UnknownWorkloadError("there is no workload 'nope'", hint="choose one")
    service.reply("GET /curves", Reply.of_error(unknown))
    done = lhp("curves", "--workload", "nope")
    assert done.code == 1
    assert done.err == "error: there is no workload 'nope'\nhint: choose one\n"


# Errors for scripts


def test_with_json_an_error_of_the_service_is_json_too(lhp: Lhp, service: StubService) -> None:
    error = UnknownHostError("there is no host 'nil'", hint="ask for another", see="/hosts")
    service.reply("GET /lhp", Reply.of_error(error))
    done = lhp("query", "1197,317", "--host", "nil", "--json")
    assert done.code == 1
    told = json.loads(done.out)["error"]
    assert told.pop("see").endswith("hosts`")
    assert told == {
        "type": "/problems/unknown-host",
        "message": "there is no host 'nil'",
        "hint": "ask for another",
        "exit_code": 1,
    }
    assert done.err.startswith("error: there is no host 'nil'\n")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("query 1197 317 --json", "invalid-dims"),
        ("query --json", "invalid-request"),
        ("query 1197,317 --json --nope", "invalid-request"),
        ("sweep matmul 9:3 --json", "invalid-dims"),
        ("advise nowhere --json", "invalid-request"),
        ("curves --json --limit 0", "invalid-request"),
    ],
)
def test_with_json_a_wrong_command_line_is_json_too(lhp: Lhp, arguments: str, kind: str) -> None:
    done = lhp(*arguments.split())
    assert done.code == 2
    told = json.loads(done.out)["error"]
    assert (told["type"], told["exit_code"]) == (f"/problems/{kind}", 2)
    assert told["message"] and told["hint"]


def test_without_json_an_error_leaves_stdout_empty(lhp: Lhp) -> None:
    assert lhp("query").out == ""
    assert lhp("plot", "missing").out == ""


# Help and completion


def test_the_help_of_sweep_says_where_kinds_are_and_how_axes_are_written(lhp: Lhp) -> None:
    shown = " ".join(lhp("sweep", "--help").out.split())
    assert "`lhp workloads`" in shown or "lhp workloads" in shown
    assert "linear 1190:1210 310:330:2" in shown
    assert "separated by spaces" in shown


def test_without_arguments_the_help_is_shown(lhp: Lhp) -> None:
    done = lhp()
    assert done.code == 2
    assert "Exit codes:" in done.out
    assert done.err == ""


@pytest.mark.parametrize("module", ["profiler_service.cli", "trainer_client.cli"])
def test_a_shell_can_be_taught_to_complete_commands(module: str, tmp_path: Path) -> None:
    program = "lhp" if module.startswith("profiler") else "lhp-train"
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    done = subprocess.run(
        [sys.executable, "-m", module],
        env=os.environ
        | {variable: "complete_bash", "COMP_WORDS": f"{program} ", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    names = done.stdout.split()
    assert done.stderr == ""
    wanted = {*NEEDED_EXTRAS, "query", "curves"} if program == "lhp" else {"ptb", "report"}
    assert wanted <= set(names)
