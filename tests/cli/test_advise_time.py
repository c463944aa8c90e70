"""The time of `lhp advise`: shared out, said, and never exceeded; also by a real service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiler_service.client import ServiceClient
from profiler_service.processes.exit_codes import PARTLY
from profiler_service.wire import EvidenceInfo, SweepPage
from tests.cli.conftest import Lhp
from tests.cli.stub import ANSWER, KEPT, Reply, StubService, make_sweep

# A race that ended because its budget was spent, and one that ended by itself.
CUT = EvidenceInfo(settled=False, asked_budget_s=3.0, budget_s=3.0)
UNSETTLED = ANSWER.model_copy(update={"evidence": CUT})
ENDED = ANSWER.model_copy(update={"evidence": CUT.model_copy(update={"budget_s": 2.0})})
SETTLED = ANSWER.model_copy(update={"evidence": EvidenceInfo(settled=True), "settled": True})


def test_a_question_that_isnt_settled_is_asked_once_more_without_a_budget(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", UNSETTLED, ENDED, SETTLED)
    done = lhp("advise", f"{models}:make", "--time", "15")
    assert done.code == 0, done.err
    first, second, again = (query for query, _ in service.sent("GET /lhp"))
    # 60 % of 15 s for two questions are 4.5 s each.
    assert (first.pop("budget"), second["budget"]) == ("3.0", "3.0")
    assert "budget" not in again
    for query in (first, again):
        query.pop("wait")
    assert first == again  # the other one had all the time that it takes
    assert done.out.count("not settled") == 1
    lines = [line.partition(", about ") for line in done.err.splitlines() if " left" in line]
    assert [(what, left) for what, _, left in lines[:2]] == [
        ("1 of 2: linear 1197,317", "7 s left"),  # 3.5 s each
        ("2 of 2: gru 6,5", "1 s left"),
    ]
    assert lines[2][0] == ("once more, for certainty (Ctrl-C shows what is known): linear 1197,317")


def test_what_is_known_stays_if_asking_once_more_fails(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", UNSETTLED, KEPT, Reply.problem(503, "the host is away", "wait"))
    done = lhp("advise", f"{models}:make", "--time", "15")
    assert done.code == 0, done.err
    assert len(list(service.sent("GET /lhp"))) == 3
    assert "120 µs → 116 µs, not settled" in done.out


def test_what_is_known_is_shown_after_an_interrupt(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", UNSETTLED, KEPT, Reply.accepted(make_sweep(mode="race")))
    service.reply("GET /sweeps/s1", make_sweep(mode="race"))

    def interrupt_at_sweep(route: str) -> None:
        if route.startswith("GET /sweeps/s1"):
            service.at_request = lambda _: None
            os.kill(os.getpid(), signal.SIGINT)

    service.at_request = interrupt_at_sweep
    done = lhp("advise", f"{models}:make", "--time", "15")
    assert done.code == 0, done.err
    assert "interrupted: the sweep goes on" in done.err
    assert "120 µs → 116 µs, not settled" in done.out and "keep: an LHP" in done.out


def test_without_time_nothing_is_asked_once_more(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", UNSETTLED, KEPT)
    done = lhp("advise", f"{models}:make", "--time", "1.2")
    assert done.code == 0, done.err
    assert [query["budget"] for query, _ in service.sent("GET /lhp")] == ["0.25", "0.25"]
    assert "not settled" in done.out


def test_an_answer_that_was_cut_short_says_so(lhp: Lhp, service: StubService, models: str) -> None:
    cut = KEPT.model_copy(update={"is_lhp": False, "cut_short": True})
    service.reply("GET /lhp", cut)
    done = lhp("advise", f"{models}:make", "--time", "1")
    assert "keep: the time ended before anything larger could be judged" in done.out


def test_questions_for_which_no_time_is_left_are_rows(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:make", "--time", "0")
    assert done.code == PARTLY
    assert done.out.count("not asked: the time was up") == 2
    assert not list(service.sent("GET /lhp"))


def test_a_worker_that_is_starting_is_waited_for(
    lhp: Lhp, service: StubService, models: str
) -> None:
    starting = Reply.problem(503, "it is starting", "wait", type="/problems/host-starting")
    service.reply("GET /lhp", starting, starting, ANSWER, KEPT)
    done = lhp("advise", f"{models}:make", "--time", "20")
    assert done.code == 0, done.err
    assert len(list(service.sent("GET /lhp"))) == 4


def test_a_real_service_is_asked_once_for_each_layer_in_the_time_given(
    real_service: str, start_lhp: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "small.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def make():\n"
        "    layers = [nn.Linear(61, 61) for _ in range(5)]\n"
        "    ends = [nn.Linear(61, 30), nn.LayerNorm(30), nn.Linear(30, 61)]\n"
        "    return nn.Sequential(*layers, *ends)\n"
        "def rows(): return torch.zeros(8, 61)\n"
    )
    arguments = ("advise", "small:make", "--example", "small:rows", "--json", "--time", "25")

    def advise() -> tuple[dict[str, Any], str]:
        process = start_lhp(*arguments, LHP_URL=real_service)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        told: dict[str, Any] = json.loads(out)
        return told, err

    told, err = advise()
    layers = told["layers"]
    answers = [each["answer"] for each in layers if each["answer"]]
    assert [each["dims"] for each in answers] == [[61, 61]] * 5 + [[30, 61], [61, 30]]
    assert all(min(each["grow_by"]) >= 0 for each in answers)
    assert re.findall(r"^(\d of 3): linear \d", err, re.MULTILINE) == ["1 of 3", "2 of 3", "3 of 3"]
    assert 0 < sum(each["time_share"] for each in layers) < 1
    with ServiceClient(real_service) as client:
        assert count_races(client.list_sweeps({})) == 3
        again, _ = advise()
        assert count_races(client.list_sweeps({})) == 3  # all is known
    assert find_curves(again) == find_curves(told)


def find_curves(told: dict[str, Any]) -> list[str]:
    """The curve that each layer's answer was read from."""
    return [each["answer"]["curve"] for each in told["layers"] if each["answer"]]


def count_races(page: SweepPage) -> int:
    """How many windows were raced, of all sweeps."""
    return sum(each.mode == "race" for each in page.items)


def test_a_service_that_is_busy_doesnt_make_it_longer(
    lhp: Lhp, service: StubService, models: str
) -> None:
    sweep = make_sweep(mode="race")
    service.reply("GET /lhp", Reply.accepted(sweep))
    service.reply("GET /sweeps/s1", sweep)
    began_s = time.monotonic()
    done = lhp("advise", f"{models}:make", "--time", "2")
    assert done.code == PARTLY
    assert time.monotonic() - began_s < 20  # without a bound it would never end
    assert "sweep s1 is running" in done.out
