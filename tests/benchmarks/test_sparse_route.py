"""The sparse route's referee: its contenders compute the same, and its ratios are right."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.baseline_kernels import BATCH, STEPS, rearranged_lstm, stepping_lstm
from benchmarks.sparse_route import (
    compare,
    find_best,
    judging,
    make_models,
    measure,
    read_models,
    report,
)
from tests.trainer_client.stand_ins import dims_of, make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.export import ModelFileError, write_models


def test_every_way_of_an_lstm_computes_the_same() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(8, 12).requires_grad_(False)
    x_tbe = torch.randn(STEPS, BATCH, 8)
    expected, _ = lstm(x_tbe)
    for make in (rearranged_lstm, stepping_lstm):
        torch.testing.assert_close(make(lstm)(x_tbe), expected)


def test_synthetic_models_have_the_zeros_asked_for() -> None:
    torch.manual_seed(0)
    models = make_models("smoke", 0.75)
    # 4 · 96 · (48 + 48 + 48) weights, a quarter of them drawn: 13,824, give or take 102 (1 σ).
    assert models.sparse.num_weights == pytest.approx(13_824, abs=500)
    words_tb = torch.randint(len(models.baseline.table_ve), (5, 3))
    torch.testing.assert_close(models.sparse(words_tb)[0], models.dense(words_tb)[0])


def test_a_ratio_is_of_rounds_in_which_both_met() -> None:
    # A machine that grows slower and slower: in each round twice, but for one of three, thrice.
    faster = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ratio = compare(faster * np.array([2, 2, 3, 2, 2, 2]), faster)
    assert ratio.value == pytest.approx(2)
    assert ratio.low == pytest.approx(2)
    assert 2 <= ratio.high <= 3
    assert str(compare(2 * faster, faster)) == "2.00 (2.00 to 2.00)"


def test_rounds_that_choose_dont_judge() -> None:
    # `steps` is the fastest in rounds 0 and 3, which choose, and in no other.
    seconds = {
        "default": np.array([2.0, 1.0, 1.0, 2.0, 1.0, 1.0]),
        "steps": np.array([1.0, 5.0, 5.0, 1.0, 5.0, 5.0]),
    }
    assert find_best(seconds) == "steps"
    assert judging(seconds["steps"]).tolist() == [5, 5, 5, 5]


def test_each_call_is_timed_once_a_round_after_one_that_isnt() -> None:
    called: list[str] = []

    def call(name: str) -> torch.Tensor:
        called.append(name)
        return torch.zeros(1)

    calls = {name: functools.partial(call, name) for name in "abcde"}
    rng = random.Random(0)
    seconds = measure(calls, 3, rng)
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys("abcde", 3)
    # Three rounds and one more, in which each is called twice running.
    assert len(called) == 4 * 5 * 2
    assert called[::2] == called[1::2]
    # Measured again, it goes by other orders: what a place does averages out over blocks.
    first = called.copy()
    measure(calls, 3, rng)
    assert called[len(first) :] != first


def test_the_report_says_what_the_decoder_leaves_to_win() -> None:
    def constant(milliseconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.full(6, milliseconds * 1e-3)

    names = ("default", "rearranged", "steps", "compiled", "dense", "sparse")
    whole = dict(zip(names, map(constant, (50, 48, 60, 49, 47, 40)), strict=True))
    layers = dict(zip(names, map(constant, (20, 18, 30, 19, 12, 4)), strict=True))
    text = "\n".join(
        report({"whole": whole, "layers": layers, "decoder": {"default": constant(25)}})
    )
    assert "| sparse | 40.00 ms | 4.00 ms |  |" in text
    assert "as torch runs it (goal: ≥ 4) | 1.25 (1.25 to 1.25) | 5.00 (5.00 to 5.00) |" in text
    assert "| 1.20 (1.20 to 1.20), rearranged | 4.50 (4.50 to 4.50), rearranged |" in text
    # Half of the baseline's 50 ms, 25 of 40; without all else, 50 / 25.
    assert "The decoder is 50% of the baseline's time, and 62% of the sparse model's" in text
    assert "2.00 times as fast as the whole baseline" in text


def test_a_runs_models_are_read(tmp_path: Path) -> None:
    run = make_run(tiny_config(route="sparse"), tmp_path)
    run.step = "baseline"
    write_models(run, (12, 8), tmp_path / "models")
    run.step = "weights"
    write_models(run, dims_of(run), tmp_path / "models")
    models = read_models(tmp_path)
    assert (models.baseline.first.hidden_size, models.baseline.second.hidden_size) == (12, 8)
    # 4 · 12 · (8 + 8 + 8), none of them zero.
    assert models.sparse.num_weights == 1152
    assert sorted(models.digests) == [
        f"models/{name}.safetensors" for name in ("baseline", "weights.csr", "weights")
    ]
    (tmp_path / "models" / "weights.csr.safetensors").unlink()
    with pytest.raises(ModelFileError):
        read_models(tmp_path)
