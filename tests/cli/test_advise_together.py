"""`lhp advise --together`: sizes that change together, asked of a real service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from profiler_service.cli.together import describe_rest, group_rows
from profiler_service.widths.latencies import NotMeasured
from profiler_service.widths.structure import Group, LayerSizes, Number
from profiler_service.widths.tied import Kept, Tied, TiedGroup
from profiler_service.widths.widening import Widened
from tests.cli.conftest import Lhp

MODEL = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.up = nn.Linear(48, 61), nn.LayerNorm(61), nn.Linear(61, 80)
        self.down, self.head = nn.Linear(80, 61), nn.Linear(61, 7)

    def forward(self, x):
        x = self.first(x)
        return self.head(x + self.down(torch.relu(self.up(self.norm(x)))))

def rows(): return torch.zeros(8, 48)
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A module of the user's, new for each test."""
    name = f"tied_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    return name


def test_a_real_service_is_asked_about_each_group(
    real_service: str, start_lhp: Callable[..., subprocess.Popen[str]], small: str
) -> None:
    words = ["advise", f"{small}:Block", "--example", f"{small}:rows", "--together", "--time", "8"]

    def advise(*more: str) -> tuple[str, str]:
        process = start_lhp(*words, *more, LHP_URL=real_service)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        return out, err

    told = json.loads(advise("--json")[0])
    groups = {each["name"]: each for each in told["groups"]}
    assert {name: (each["now"], each["layers"]) for name, each in groups.items()} == {
        "first": (61, ["first", "up", "down", "head"]),
        "up": (80, ["up", "down"]),
    }
    assert groups["first"]["not_measured"] == ["norm"]
    for each in groups.values():
        assert each["now"] <= each["chosen"] <= 1.25 * each["now"]
        assert 0 < each["chosen_s"] <= each["now_s"]
    assert [each["name"] for each in told["kept"]] == ["head"]

    out, err = advise()
    assert out.splitlines()[0].split("  ")[0] == "OUTPUTS OF"
    assert "first, up, down and 2 more" in out
    assert "head stays 7: it is the size of the model's output" in err


def test_what_it_needs_is_said(lhp: Lhp, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = lhp("advise", f"{small}:Block", "--together")
    assert (done.code, done.out) == (2, "")
    assert "hint: add --example" in done.err
    words = ["advise", f"{small}:Block", "--example", f"{small}:rows", "--together"]
    for more in (
        ["--meta"],
        ["--params-within", "2%"],
        ["--config", "a=1"],
        ["--dtype", "float32"],
    ):
        done = lhp(*words, *more)
        assert (done.code, done.out) == (2, "")
        assert "--together goes with" in done.err
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    done = lhp(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        "error: Torch-Pruning finds which sizes belong together, and isn't installed",
        "hint: pip install torch-pruning",
    ]


def widened(
    width: int, now_s: float | None, chosen_s: float | None, *missing: NotMeasured
) -> Widened:
    layer = LayerSizes(
        name="up",
        kind="linear",
        fixed=(),
        sizes={"out_features": Number(now=61, changes={0: np.array([0, 3])})},
    )
    tied = TiedGroup(
        group=Group(name="up", width=61, candidates=(61, 64)),
        multiple_of=1,
        layers=(layer,),
        left_out=("norm",),
    )
    return Widened(tied=tied, width=width, now_s=now_s, chosen_s=chosen_s, missing=missing)


def test_rows_and_lines() -> None:
    lost = NotMeasured(names=("up",), reason="too large")
    found = [widened(64, 2e-3, 1.5e-3), widened(61, 2e-3, 2e-3), widened(61, None, None, lost)]
    assert group_rows(found) == [
        ["up", "61", "64", "1", "2.00 ms → 1.50 ms (-25%)", "up, (norm)"],
        ["up", "61", "61", "1", "2.00 ms, keep", "up, (norm)"],
        ["up", "61", "61", "1", "not measured", "up, (norm)"],
    ]
    tied = Tied(groups=(), kept=(Kept(name="head", width=7, reason="of the output"),))
    assert describe_rest(tied, found) == [
        "head stays 7: of the output",
        "not measured: up: too large",
    ]
