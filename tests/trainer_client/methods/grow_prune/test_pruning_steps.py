"""Steps (b) and (d) on a tiny text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.stand_ins import KilledError, Run, dims_of, make_run, rows_of
from tests.trainer_client.texts import tiny_config
from trainer_client.groups.masks import count_weights, seed_masks
from trainer_client.groups.pruning import prune_matrices
from trainer_client.methods.grow_prune.pruning_steps import (
    find_threshold,
    prune_rows_and_columns,
    prune_weights,
)
from trainer_client.methods.grow_prune.synthesis import synthesise
from trainer_client.run.descent import Observation
from trainer_client.tasks.language_model.networks import StackedLSTM


def test_pruning_goes_on_while_the_threshold_is_kept(tmp_path: Path) -> None:
    run = make_run(tiny_config(max_rounds=3, threshold=1000.0), tmp_path)
    run.step = "units"
    assert run.compact is run.model
    run.accept(10.0)
    prune_rows_and_columns(run)
    # 12 → 10 → 8 → 7 and 8 → 7 → 6 → 5.
    assert dims_of(run) == (7, 5)
    assert (run.notes["num_accepted"], run.notes["ratio"]) == (3, 0.2)


def test_pruning_halves_its_rate_on_failure_and_comes_back(tmp_path: Path) -> None:
    config = tiny_config(max_rounds=None, threshold=1.01, min_prune_ratio=0.0)
    run = make_run(config, tmp_path)
    run.step = "units"
    before = run.compact.count_live_weights()
    run.accept(12.0)
    prune_rows_and_columns(run)
    # A fifth of 12 is 2; half of that is a single one, whose failure ends the step.
    assert (run.notes["round"], run.notes["num_accepted"], run.notes["ratio"]) == (2, 0, None)
    assert run.compact.count_live_weights() == before
    assert dims_of(run) == (12, 8)


@pytest.mark.parametrize("step", ["units", "weights"])
def test_a_round_may_prune_little_by_little(tmp_path: Path, step: str) -> None:
    config = tiny_config(
        max_rounds=1, unit_ratio=0.5, weight_ratio=0.5, prune_epochs=2, retrain_epochs=4
    )
    run = make_run(config, tmp_path)
    run.step = step
    assert run.compact is run.model
    run.accept(1000.0)
    seen: dict[int, tuple[tuple[int, int], int]] = {}

    def watch(observation: Observation) -> None:
        seen[observation.epoch] = (dims_of(run), run.compact.count_live_weights())

    run._observe = watch
    {"units": prune_rows_and_columns, "weights": prune_weights}[step](run)
    # The target, 1000, is kept all the time: only after the last pruning may it end the round.
    assert sorted(seen) == [1, 2, 3]
    # Done: 1 - (2/3)³ = 19/27 of the pruning, then 26/27, then all.
    if step == "units":
        # 6 · 19/27 = 4.2, 6 · 26/27 = 5.8 of 12; 4 · 19/27 = 2.8, 4 · 26/27 = 3.9 of 8.
        assert [dims for dims, _ in seen.values()] == [(8, 5), (6, 4), (6, 4)]
    else:
        # Of 1152 weights; each of eight matrices may round one up, and what is cut off goes, too.
        for (_, live), share in zip(seen.values(), (19 / 27, 26 / 27, 1.0), strict=True):
            assert 0.93 * 1152 * (1 - share / 2) < live <= 1152 * (1 - share / 2) + 24
    assert run.notes["num_accepted"] == 1


def test_a_run_that_was_cut_in_the_middle_of_a_gradual_round_ends_the_same(
    tmp_path: Path,
) -> None:
    config = tiny_config(max_rounds=2, prune_epochs=2, retrain_epochs=4, threshold=1000.0)

    def begin(directory: Path) -> Run:
        run = make_run(config, directory)
        run.step = "weights"
        assert run.compact is run.model
        run.accept(1000.0)
        return run

    whole = begin(tmp_path / "whole")
    prune_weights(whole)

    def stop(seen: Observation) -> None:
        if seen.num_batches == 50:  # in the third of three epochs of 20 batches
            raise KilledError

    cut = begin(tmp_path / "cut")
    cut._observe = stop
    with pytest.raises(KilledError):
        prune_weights(cut)
    resumed = make_run(config, tmp_path / "cut")
    resumed.restore()
    prune_weights(resumed)
    for name, expected in whole.compact.weights.items():
        assert torch.equal(resumed.compact.weights[name], expected)


def test_a_roll_back_in_a_pruning_round_forgets_no_round(tmp_path: Path) -> None:
    # 20 batches a round, of one epoch: the 31st is in the second.
    run = make_run(tiny_config(max_rounds=3), tmp_path)
    run.step = "units"
    assert run.compact is run.model
    run.accept(1000.0)
    poisoned: list[Observation] = []

    def poison(seen: Observation) -> None:
        if seen.num_batches == 31 and not poisoned:
            poisoned.append(seen)
            with torch.no_grad():
                run.compact.weights["gate_bias_ks"].fill_(torch.nan)

    run._observe = poison
    prune_rows_and_columns(run)
    assert poisoned
    assert (run.notes["round"], run.notes["num_accepted"]) == (3, 3)
    assert dims_of(run) == (7, 5)
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [row["round"] for row in epochs] == [0, 1, 2]


def test_a_pruning_round_that_diverges_is_one_that_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(max_rounds=2, max_rollbacks=1, threshold=1000.0), tmp_path)
    run.step = "units"
    assert run.compact is run.model
    run.accept(10.0)

    def poison(seen: Observation) -> None:
        if seen.round == 0:
            with torch.no_grad():
                run.compact.weights["gate_bias_ks"].fill_(torch.nan)

    run._observe = poison
    prune_rows_and_columns(run)
    assert "a round fails" in caplog.text
    # The second round prunes half as much, from the model that there was: 12 → 11, and a state
    # always goes, 8 → 7.
    assert (run.notes["round"], run.notes["num_accepted"], run.notes["ratio"]) == (2, 1, 0.1)
    assert dims_of(run) == (11, 7)
    assert run.accepted is not None and run.accepted.value < 1000


def test_a_threshold_that_cant_be_met_ends_with_the_best_so_far(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(threshold=1.01, when_away="skip"), tmp_path)
    synthesise(run, None)
    rows = rows_of(tmp_path)
    assert [row["kept_threshold"] for row in rows if "kept_threshold" in row] == [False, False]
    assert rows[-1]["recurrent_parameters"] == rows[1]["recurrent_parameters"]
    assert rows[-1]["valid_perplexity"] == rows[1]["valid_perplexity"]
    assert "can't keep a perplexity of 1.01" in caplog.text


def test_weight_pruning_never_wakes_anything(tmp_path: Path) -> None:
    run = make_run(tiny_config(max_rounds=2), tmp_path)
    run.step = "weights"
    before = {name: mask.clone() for name, mask in run.compact.masks.weights.items()}
    run.accept(10.0)
    prune_weights(run)
    after = run.compact.masks.weights
    assert all(not (after[name] & ~old).any() for name, old in before.items())
    # Twice 70 % of 1152, each of eight matrices rounded up; and what was cut off by it.
    assert 0 < run.compact.count_live_weights() <= 0.09 * 1152 + 16


def test_weight_pruning_without_bounds_ends(tmp_path: Path) -> None:
    config = tiny_config(max_rounds=None, min_prune_ratio=0.0, threshold=1e6)
    run = make_run(config, tmp_path)
    run.step = "weights"
    # So few live that shares of each matrix soon are less than one weight.
    generator = torch.Generator().manual_seed(0)
    run.compact.masks = seed_masks(
        run.compact.layout, run.compact.weights, density=0.05, generator=generator
    )
    run.accept(10.0)
    prune_weights(run)
    # Any model keeps this threshold, so it ends when one weight less leaves no network.
    run.revert()
    left = run.compact.count_live_weights()
    assert 0 < left < 12
    layout = run.compact.layout
    masks = prune_matrices(layout, run.compact.weights, run.compact.masks, ratio=0.01)
    assert left == 1 or count_weights(layout, masks) == 0


def test_the_baseline_sets_the_threshold_where_nothing_else_does(tmp_path: Path) -> None:
    run = make_run(tiny_config(threshold=None), tmp_path)
    with pytest.raises(InvalidRequestError) as raised:
        find_threshold(run)
    assert "threshold" in raised.value.hint
    run.rows.append({"step": "baseline", "valid_perplexity": 72.1})
    assert threshold_of(run) == (72.1, 72.1, "the baseline's")
    assert isinstance(run.model, StackedLSTM)
    # From a model that is better, pruning may come down to the baseline; one that is worse is not
    # to get worse still, and is trained towards the baseline.
    run.rows.append({"step": "growth", "valid_perplexity": 70.2})
    assert threshold_of(run) == (72.1, 72.1, "the baseline's")
    run.rows[1]["valid_perplexity"] = 75.0
    assert threshold_of(run) == (75.0, 72.1, "that of (a), worse than the baseline's")
    run.config = run.config.with_changes({"slack": 0.04})
    perplexity, target, source = threshold_of(run)
    assert perplexity == pytest.approx(78.0)
    assert (target, source) == (72.1, "that of (a), worse than the baseline's and 4% more")
    run.config = run.config.with_changes({"slack": 0.0})
    # It stays the same for all pruning.
    run.rows.append({"step": "units", "valid_perplexity": 74.0})
    assert threshold_of(run)[0] == 75.0


def threshold_of(run: Run) -> tuple[float, float, str]:
    found = find_threshold(run)
    return found.value, found.target, found.source


def test_above_the_baseline_retraining_takes_all_its_epochs(tmp_path: Path) -> None:
    config = tiny_config(threshold=None, max_rounds=2, retrain_epochs=3)
    run = make_run(config, tmp_path)
    run.rows.append({"step": "baseline", "valid_perplexity": 1.01})
    run.rows.append({"step": "growth", "valid_perplexity": 1000.0})
    run.step = "units"
    assert run.compact is run.model
    run.accept(1000.0)
    prune_rows_and_columns(run)
    assert run.notes["num_accepted"] == 2
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [(row["round"], row["epoch"]) for row in epochs] == [
        (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)
    ]  # fmt: skip
