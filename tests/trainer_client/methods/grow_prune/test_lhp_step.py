"""Step (c) on a tiny text, with an oracle that answers as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer_client.stand_ins import AwayOracle, Oracle, Run, dims_of, hlstm_of, make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.export import shrink_model
from trainer_client.groups.masks import Masks
from trainer_client.methods.grow_prune.lhp_step import SEARCHED_SHARES, find_scale, grow_to_lhp
from trainer_client.methods.grow_prune.service_use import NoServiceError
from trainer_client.oracle.http import ServiceAwayError


def train_a_little(run: Run) -> None:
    run.begin_training(max_epochs=1, learning_rate=3e-3)
    run.accept(run.train())


def test_growth_beyond_the_seeds_width_widens_the_model(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(10.0)
    grow_to_lhp(run, Oracle(5, 3))
    assert dims_of(run) == (17, 11)
    assert hlstm_of(run).table.shape[1] == 11


def test_an_lhp_is_left_as_it_is_and_retraining_kept_where_it_helps(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    start = run.compact.weights["gate_ksg"].detach().clone()
    run.accept(1000.0)
    grow_to_lhp(run, Oracle(0, 0))
    assert dims_of(run) == (12, 8)
    assert run.accepted is not None and run.accepted.value < 1000
    assert not run.compact.weights["gate_ksg"].equal(start)


def test_retraining_at_an_lhp_never_replaces_a_better_model(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    start = run.compact.weights["gate_ksg"].detach().clone()
    run.accept(1.01)  # better than any training on this text can be
    grow_to_lhp(run, Oracle(0, 0))
    assert run.accepted is not None and run.accepted.value == 1.01
    assert run.compact.weights["gate_ksg"].equal(start)


@pytest.mark.parametrize(("threshold", "is_kept"), [(1000.0, True), (1.02, False)])
def test_growth_has_to_keep_the_threshold(tmp_path: Path, threshold: float, is_kept: bool) -> None:
    run = make_run(tiny_config(threshold=threshold), tmp_path)
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(1.01)
    grow_to_lhp(run, Oracle(2, 1))
    assert run.accepted is not None
    assert (run.accepted.value > 1.01) is is_kept
    assert dims_of(run) == ((14, 9) if is_kept else (12, 8))
    # Either way it can be exported with the LHP's dims, beyond those that it began with.
    run.revert()
    small = shrink_model(hlstm_of(run), gate_width=14, state_width=9)
    assert (small.layer.gate_width, small.layer.state_width) == (14, 9)


def test_woken_weights_start_where_the_loss_is_lowest(tmp_path: Path) -> None:
    run = make_run(tiny_config(woken_start="search"), tmp_path)
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(1000.0)
    train_a_little(run)
    before = run.evaluate("probe")
    grow_to_lhp(run, Oracle(4, 3))
    found = run.notes["woken_start"]
    assert len(found["values"]) == len(SEARCHED_SHARES)
    # From zero, the wider model computes the same. Some step down the gradient is better.
    assert found["values"][0] == pytest.approx(before, rel=1e-3)
    best = SEARCHED_SHARES.index(found["share"])
    assert best > 0
    assert found["values"][best] == min(found["values"]) < before


def test_without_a_gradient_there_is_no_step() -> None:
    weights = {"w": torch.ones(2, 2)}
    masks = Masks(weights={"w": torch.ones(2, 2, dtype=torch.bool)}, units={})
    assert find_scale(weights, masks, {"w": torch.zeros(2, 2)}) == 0.0


def test_a_step_of_the_scale_is_as_large_as_the_live_weights() -> None:
    weights = {"w": torch.tensor([[3.0, 5.0, 0.0]]), "b": torch.tensor([4.0])}
    masks = Masks(
        weights={"w": torch.tensor([[True, True, False]]), "b": torch.tensor([True])}, units={}
    )
    gradients = {"w": torch.tensor([[0.1, -0.1, 0.1]]), "b": torch.tensor([-0.1])}
    # √((9 + 25 + 16) / 3) and 0.1.
    scale = find_scale(weights, masks, gradients)
    assert scale == pytest.approx((50 / 3) ** 0.5 / 0.1)


@pytest.mark.parametrize("workload", ["hlstm_lm", "hlstm"])
def test_the_question_is_about_what_will_run(tmp_path: Path, workload: str) -> None:
    config = tiny_config(
        latency_workload=workload, latency_dtype="bfloat16", latency_backend="packed"
    )
    run = make_run(config, tmp_path)
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(10.0)
    oracle = Oracle(0, 0)
    grow_to_lhp(run, oracle)
    ((dims, asked, params),) = oracle.asked
    assert (dims, asked) == ((12, 8), workload)
    assert params is not None and (params["dtype"], params["backend"]) == ("bfloat16", "packed")
    # The layer alone has no vocabulary.
    assert ("vocabulary" in params) is (workload == "hlstm_lm")


@pytest.mark.parametrize("oracle", [None, AwayOracle()])
def test_without_the_service_the_run_fails_or_skips_as_told(
    tmp_path: Path, oracle: Oracle | None
) -> None:
    run = make_run(tiny_config(), tmp_path / "fail")
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(10.0)
    with pytest.raises((NoServiceError, ServiceAwayError)) as raised:
        grow_to_lhp(run, oracle)
    hint = getattr(raised.value, "hint", "")
    assert "then go on from here with --resume" in hint
    assert "or leave step (c) out: --resume --set when_away=skip" in hint
    run = make_run(tiny_config(when_away="skip"), tmp_path / "skip")
    run.step = "lhp"
    assert run.compact is run.model
    run.accept(10.0)
    grow_to_lhp(run, oracle)
    assert run.notes["answer"] is None
    assert run.accepted is not None and run.accepted.value == 10.0
