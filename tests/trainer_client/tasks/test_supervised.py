"""Batches in memory as a task."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from profiler_service.errors import InvalidRequestError
from trainer_client.run.task import Metric
from trainer_client.tasks.supervised import Supervised

PAIRS = [(torch.full((2, 3), float(n)), torch.zeros(2, 1)) for n in range(6)]


def test_every_epoch_has_every_batch_in_its_own_order() -> None:
    task = Supervised(PAIRS, PAIRS[:1], loss=F.mse_loss)
    orders = [
        [int(task.draw(position, epoch=epoch).content[0][0, 0]) for position in range(task.end)]
        for epoch in (None, 0, 1, 0)
    ]
    assert orders[0] == [0, 1, 2, 3, 4, 5]
    assert orders[1] == orders[3] != orders[2]
    assert all(sorted(order) == orders[0] for order in orders)


def test_the_metric_is_the_mean_over_batches() -> None:
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.zero_()
    task = Supervised(PAIRS[:3], PAIRS[1:4], loss=F.mse_loss)
    # Outputs are 3, 6 and 9; squares 9, 36, 81.
    assert task.measure(model, "valid") == pytest.approx(42)
    assert task.measure(model, "test") == pytest.approx(42)
    loss = task.find_loss(model, task.draw(2, epoch=None), ())
    assert float(loss.value.detach()) == pytest.approx(36)


def test_data_are_told_apart_by_their_values() -> None:
    task = Supervised(PAIRS, PAIRS[:1], loss=F.mse_loss)
    same = Supervised([(x.clone(), y) for x, y in PAIRS], PAIRS[:1], loss=F.mse_loss)
    other = Supervised([(x + 1, y) for x, y in PAIRS], PAIRS[:1], loss=F.mse_loss)
    assert task.facts == same.facts != other.facts


def test_what_is_missing_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="0 to validate with"):
        Supervised(PAIRS, [], loss=F.mse_loss)
    with pytest.raises(InvalidRequestError) as raised:
        Supervised(PAIRS, PAIRS, loss=F.mse_loss, score=lambda *_: 0.5)
    assert "lower_is_better=False" in raised.value.hint


@pytest.mark.parametrize("lower", [True, False])
def test_a_metric_knows_what_is_better(lower: bool) -> None:
    metric = Metric(name="m", lower_is_better=lower)
    sign = -1 if lower else 1
    assert metric.is_better(2 + sign, 2) and not metric.is_better(2 - sign, 2)
    assert not metric.is_better(2, 2) and metric.keeps(2, 2)
    assert not metric.keeps(2 - sign * 0.1, 2)
    assert metric.worse_by(10, 0.1) == pytest.approx(10 - sign)
    # A negative one gets worse, too: a log likelihood.
    assert metric.worse_by(-10, 0.1) == pytest.approx(-10 - sign)
    assert metric.best([1, 3, 2]) == (1 if lower else 3)
    assert metric.is_better(0.0, metric.worst)
    nan = float("nan")
    assert not metric.keeps(nan, 2) and not metric.is_better(nan, 2)
