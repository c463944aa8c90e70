"""A module of one's own through the four steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.trainer_client.stand_ins import KilledError, Oracle
from trainer_client.compression import DEFAULT, Compressed, compress
from trainer_client.groups.layout import LayoutError
from trainer_client.run.checkpoint import CheckpointConfigError
from trainer_client.run.descent import NotFiniteError, Observation
from trainer_client.run.task import Metric, Question
from trainer_client.tasks.supervised import Pair, Supervised

QUICK = DEFAULT.with_changes(
    {
        "learning_rate": 2e-2,
        "retrain_learning_rate": 5e-3,
        "baseline_epochs": 3,
        "growth_epochs": 1,
        "growth_settling_epochs": 2,
        "retrain_epochs": 3,
        "prune_epochs": 1,
        "lhp_epochs": 2,
        "max_rounds": 2,
        "threshold": 0.3,
        "checkpoint_s": 0.0,
    }
)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 12, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x_bti: Tensor) -> Tensor:
        h_bth, _ = self.lstm(x_bti)
        scores: Tensor = self.out(h_bth[:, -1])
        return scores


def draw(num_batches: int, seed: int) -> list[Pair]:
    """Sequences, and which of the first three columns has the largest sum."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(16, 5, 4, generator=generator) for _ in range(num_batches)]
    return [(x_bti, x_bti[:, :, :3].sum(1).argmax(1)) for x_bti in drawn]


def accuracy(scores: Tensor, targets: Tensor) -> float:
    return float((scores.argmax(1) == targets).float().mean())


def ask_about(widths: Mapping[str, int]) -> Question:
    return Question(
        axes=("lstm.units",), dims=(widths["lstm.units"],), workload="matmul", params={}
    )


def make_task(**changes: Any) -> Supervised:
    options: dict[str, Any] = {
        "train": draw(12, 1),
        "valid": draw(4, 2),
        "test": draw(4, 3),
        "loss": F.cross_entropy,
        "score": accuracy,
        "metric": Metric(name="accuracy", lower_is_better=False),
    }
    return Supervised(**(options | changes))


def reader() -> Reader:
    torch.manual_seed(0)
    return Reader()


EXAMPLE = (torch.zeros(2, 5, 4),)


def go(directory: Path, **changes: Any) -> Compressed[Reader]:
    options: dict[str, Any] = {"example": EXAMPLE, "directory": directory, "config": QUICK}
    task = changes.pop("task", None) or make_task()
    return compress(changes.pop("module", None) or reader(), task, **(options | changes))


def test_it_gets_smaller_and_keeps_the_threshold(tmp_path: Path) -> None:
    module = reader()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    found = go(tmp_path, module=module)
    # What was given stays as it was.
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert isinstance(found.module, Reader)
    # Two rounds of a fifth each: 12 → 10 → 8.
    assert found.widths == {"lstm.units": 8}
    assert found.module.lstm.hidden_size == 8 and found.module.out.in_features == 8
    assert [row["step"] for row in found.rows] == ["baseline", "growth", "units", "lhp", "weights"]
    last = found.rows[-1]
    assert last["valid_accuracy"] >= 0.3 and last["kept_threshold"]
    # The module that comes out is the one that was measured.
    with torch.no_grad():
        scores = [accuracy(found.module(x), targets) for x, targets in draw(4, 2)]
    assert sum(scores) / 4 == pytest.approx(last["valid_accuracy"])
    assert last["density"] < 0.5


def test_a_better_accuracy_is_a_higher_one(tmp_path: Path) -> None:
    # No model is right more often than always: pruning can't keep that.
    found = go(tmp_path, config=QUICK.with_changes({"threshold": 1.01}))
    rows = {row["step"]: row for row in found.rows}
    assert not rows["units"]["kept_threshold"]
    assert found.widths == {"lstm.units": 12}
    # Each training keeps its best epoch: the highest accuracy.
    assert rows["baseline"]["valid_accuracy"] > 1 / 3


def test_a_trained_module_is_pruned_as_it_is(tmp_path: Path) -> None:
    module, task = reader(), make_task()
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-2)
    for x_bti, targets in draw(12, 1) * 5:
        optimiser.zero_grad()
        F.cross_entropy(module(x_bti), targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    expected = task.measure(module, "valid")
    found = go(tmp_path, module=module, config=QUICK.with_changes({"route": "trained"}))
    assert [row["step"] for row in found.rows] == ["baseline", "units", "lhp", "weights"]
    assert found.rows[0]["valid_accuracy"] == expected


def test_growth_goes_to_what_the_oracle_names(tmp_path: Path) -> None:
    oracle = Oracle(3)
    # `matmul` is no kind with one axis: the stand-in takes any question.
    task = make_task(ask_about=ask_about)
    oracle_asked = oracle.asked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer_client.methods.grow_prune.service_use.check_lhp", lambda *_: None)
        patch.setattr("trainer_client.methods.grow_prune.route.check_lhp", lambda *_: None)
        found = go(tmp_path, task=task, oracle=oracle)
    assert oracle_asked == [((8,), "matmul", {})]
    assert found.widths == {"lstm.units": 11}
    assert found.module.lstm.hidden_size == 11


def test_it_goes_on_where_it_was_with_the_same_bits(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")

    def stop(seen: Observation) -> None:
        if seen.step == "units" and seen.round == 1:
            raise KilledError

    with pytest.raises(KilledError):
        go(tmp_path / "cut", observe=stop)
    torch.manual_seed(99)
    again = go(tmp_path / "cut")
    for name, each in whole.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], each)
    # Once more: nothing is trained again.
    seen: list[Observation] = []
    assert go(tmp_path / "cut", observe=seen.append).widths == whole.widths
    assert seen == []
    with pytest.raises(CheckpointConfigError, match="other data of the same size"):
        go(tmp_path / "cut", task=make_task(train=draw(12, 7)))


def test_a_metric_that_is_no_number_is_told(tmp_path: Path) -> None:
    task = make_task(score=lambda *_: math.nan)
    with pytest.raises(NotFiniteError, match="accuracy of the model isn't a number"):
        go(tmp_path, task=task, config=QUICK.with_changes({"route": "trained"}))


def test_a_module_without_units_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(LayoutError):
        compress(nn.Linear(4, 3), make_task(), example=EXAMPLE, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
