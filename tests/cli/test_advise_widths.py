"""`lhp advise` with a budget for the whole model: with a real service, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from profiler_service.analysis.comparison import compare
from profiler_service.cli.widths import describe_found, found_to_json, width_rows
from profiler_service.widths.race import Outcome
from profiler_service.widths.search import Found, Proposal
from profiler_service.widths.structure import Group
from tests.cli.conftest import Lhp
from tests.cli.stub import StubService

MODELS = """
import torch
from torch import nn

def make(hidden=150, heads=3, depth=4, unused=7):
    if hidden % heads:
        raise ValueError("hidden must be divisible by heads")
    layers = [nn.Linear(64, hidden)]
    for _ in range(depth):
        layers += [nn.ReLU(), nn.Linear(hidden, hidden)]
    return nn.Sequential(*layers, nn.LayerNorm(hidden))

def rows():
    return torch.zeros(64, 64)

def raises(hidden=100):
    raise OSError("no weights here")

def plain():
    return nn.Linear(4, 4)

model = nn.Linear(4, 4)
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    (tmp_path / "wide.py").write_text(MODELS)
    return "wide"


@pytest.fixture
def real_service(start_lhp: Callable[..., subprocess.Popen[str]]) -> str:
    """The address of a service that measures, with an empty database of its own."""
    process = start_lhp("serve", "--port", "0")
    assert process.stdout is not None
    found = re.match(r"listening on (http://\S+:\d+),", process.stdout.readline())
    assert found
    return found[1]


def test_the_widths_of_a_factory_are_chosen_and_the_whole_model_raced(
    real_service: str, start_lhp: Callable[..., subprocess.Popen[str]], models: str
) -> None:
    ask = ("advise", f"{models}:make", "--example", f"{models}:rows", "--json", "--time", "6")

    def advise(*more: str) -> tuple[dict[str, Any], str]:
        process = start_lhp(*ask, *more, LHP_URL=real_service)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found, err

    told, err = advise("--params-within", "30%")
    (width,) = told["widths"]  # only one of the arguments is one
    assert (width["name"], width["now"]) == ("hidden", 150)
    assert all(each % 3 == 0 for each in width["candidates"])  # three heads share it
    assert width["raced"] in width["candidates"]
    is_faster = told["race"]["verdict"] == "faster"
    assert width["chosen"] == (width["raced"] if is_faster else 150)
    assert width["layers"] == ["0", "2", "4", "6", "8"]
    for name, reason in (
        ("heads stays 3", "must be divisible by heads"),
        ("depth stays 4", "changes which layers"),
        ("unused stays 7", "no size of a layer or weight depends on unused"),
    ):
        assert re.search(rf"^{name}: .*{reason}", err, re.MULTILINE), err
    # 64·w + w, four times w·w + w, and 2·w of the norm
    number = {w: 65 * w + 4 * (w * w + w) + 2 * w for w in (150, width["chosen"])}
    assert told["num_parameters"] == {"now": number[150], "chosen": number[width["chosen"]]}
    assert abs(number[width["chosen"]] / number[150] - 1) <= 0.3
    assert told["not_in_the_choice"] == [
        "not in the choice: 9: nn.LayerNorm: no workload kind measures it"
    ]
    race = told["race"]
    assert race["interval"][0] < race["ratio"] < race["interval"][1]

    # What the service has measured isn't measured again: the largest width, for a long time.
    largest, _ = advise("--latency-at-most", "10s", "--config", "hidden=150", "--config", "depth=1")
    (width,) = largest["widths"]
    assert width["chosen"] == width["candidates"][-1]


def found(goal: Literal["fastest", "largest"], ratios: list[float]) -> Found:
    """A search whose race gave these ratios of the latencies of 64 and of 61 units."""
    return Found(
        goal=goal,
        groups=(Group(name="hidden", width=61, candidates=(56, 64)),),
        now=Proposal(widths={"hidden": 61}, num_parameters=1000),
        proposals={"best": Proposal(widths={"hidden": 64}, num_parameters=1050)},
        outcome=Outcome(
            chosen="best",
            comparison=compare(np.log(ratios)),
            reference_s=0.010,
            chosen_s=0.009,
            medians={},
        ),
        layers=(("up", "down"),),
        missing=(),
        left_out=(),
    )


FASTER, SLOWER, UNCLEAR = [0.9] * 6, [1.1] * 6, [0.9, 1.1] * 6


@pytest.mark.parametrize(
    ("ratios", "chosen", "race"),
    [
        (FASTER, 64, "11.1 % faster (11.1 to 11.1 %)"),
        (SLOWER, 61, "10.0 % slower (10.0 to 10.0 %)"),
        (UNCLEAR, 61, "neither confidently faster nor slower (-9.1 to 11.1 % faster)"),
    ],
)
def test_only_what_is_confidently_faster_is_advised(
    ratios: list[float], chosen: int, race: str
) -> None:
    searched = found("fastest", ratios)
    assert width_rows(searched) == [["hidden", "61", str(chosen), "up, down"]]
    lines = describe_found(searched)
    assert race in lines[-1]
    is_kept = lines[0] == "keep your widths; what was tried: hidden=64"
    assert is_kept == (chosen == 61)
    told: Any = found_to_json(searched)
    assert (told["widths"][0]["chosen"], told["widths"][0]["raced"]) == (chosen, 64)
    assert told["num_parameters"]["chosen"] == (1050 if chosen == 64 else 1000)


def test_the_largest_within_a_time_may_be_slower() -> None:
    assert width_rows(found("largest", SLOWER))[0][2] == "64"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("make", "--params-within", "2%"), "the whole model is run to be compared"),
        (
            ("make", "--params-within", "2%", "--latency-at-most", "9ms", "--example", "x:y"),
            "either --params-within or --latency-at-most",
        ),
        (("make", "--params-within", "2", "--example", "x:y"), "no share above 0 and below 1"),
        (("make", "--latency-at-most", "9", "--example", "x:y"), "write a number above 0"),
        (("make", "--config", "hidden=1197"), "--config is for the choice of all widths"),
        (
            ("make", "--params-within", "2%", "--config", "hidden=wide", "--example", "x:y"),
            "write NAME=NUMBER",
        ),
        (
            ("make", "--params-within", "2%", "--dtype", "bfloat16", "--example", "x:y"),
            "don't go with a budget",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    lhp: Lhp, service: StubService, models: str, arguments: tuple[str, ...], message: str
) -> None:
    done = lhp("advise", f"{models}:{arguments[0]}", *arguments[1:])
    assert done.code == 2
    assert message in done.err
    assert not service.requests


@pytest.mark.parametrize(
    ("factory", "more", "message"),
    [
        ("raises", (), "the factory raised OSError at hidden=100: no weights here"),
        ("plain", (), "the factory has no argument that is a width"),
        ("model", (), "no function"),
        ("make", ("--config", "width=8"), "unexpected keyword argument 'width'"),
        ("make", ("--config", "depth=4"), "no layer that a workload kind measures depends"),
        ("make", ("--config", "depth=1"), "the factory has no argument that is a width"),
    ],
)
def test_a_factory_that_cant_be_used_is_named(
    lhp: Lhp, service: StubService, models: str, factory: str, more: tuple[str, ...], message: str
) -> None:
    done = lhp(
        *("advise", f"{models}:{factory}", "--example", f"{models}:rows"),
        *("--params-within", "2%", *more),
    )
    assert done.code != 0
    assert message in done.err
