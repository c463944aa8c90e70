"""The four steps on a tiny text, with an oracle that answers as it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from profiler_service.errors import InvalidWorkloadError
from tests.trainer_client.stand_ins import (
    HALF,
    KilledError,
    LeavingCrossovers,
    LeavingOracle,
    Oracle,
    make_run,
    rows_of,
)
from tests.trainer_client.texts import tiny_config
from trainer_client.groups.layout import Tensors
from trainer_client.methods.grow_prune.synthesis import grow_from_seed, synthesise
from trainer_client.oracle.http import ServiceAwayError
from trainer_client.run.checkpoint import CheckpointConfigError
from trainer_client.run.descent import Observation
from trainer_client.tasks.language_model.task import LanguageModelling


def test_all_steps_in_order(tmp_path: Path) -> None:
    oracle = Oracle(2, 1)
    ends: list[str] = []
    run = make_run(tiny_config(), tmp_path)
    synthesise(run, oracle, at_step_end=lambda row: ends.append(row["step"]))
    rows = rows_of(tmp_path)
    assert (
        [row["step"] for row in rows] == ["baseline", "growth", "units", "lhp", "weights"] == ends
    )
    # A fifth of 12 hidden units is 2, of 8 states 1: one round, as the preset has it.
    assert [row["dims"] for row in rows[:4]] == [[12, 8], [12, 8], [10, 7], [12, 8]]
    # The oracle was asked about what was trained, once.
    params = {
        "batch": 4,
        "steps": 10,
        "input_size": 8,
        "dtype": "float32",
        "backend": "dense",
        "vocabulary": 12,
    }
    assert oracle.asked == [((10, 7), "hlstm_lm", params)]
    answer = rows[3]["answer"]
    assert isinstance(answer, dict)
    assert (answer["lhp"], answer["speedup_interval"]) == ([12, 8], [1.9, 2.1])
    assert rows[4]["dims"] == [12, 8]  # whatever has died since
    # 70 % of the weights went, of each of eight matrices: rounded down; and what was cut off by it.
    before, after = (int(str(rows[i]["recurrent_parameters"])) for i in (3, 4))
    assert after <= 0.3 * before + 8
    assert rows[4]["kept_threshold"] is True
    assert all(isinstance(row["test_perplexity"], float) for row in rows)


def test_growth_wakes_weights_and_no_more_than_the_ratio(tmp_path: Path) -> None:
    run = make_run(tiny_config(growth_epochs=2, seed_density=0.25), tmp_path)
    run.step = "growth"
    grow_from_seed(run)
    # 4 · 12 · (8 + 2 · 8) = 1152 weights; a quarter live at first, and twice at most a tenth wakes.
    live = run.compact.count_live_weights()
    assert 288 < live <= 288 + 2 * 116
    assert run.notes["round"] == 2


def test_growth_is_one_training_of_which_the_best_has_grown_to_the_end(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=3, growth_settling_epochs=2, growth_ratio=0.2)
    run = make_run(config, tmp_path)
    run.step = "growth"
    optimisers: list[object] = []
    live: list[int] = []

    def watch(seen: Observation) -> None:
        assert run._descent is not None
        optimisers.append(run._descent.optimiser)
        live.append(run.compact.count_live_weights())

    run._observe = watch
    grow_from_seed(run)
    assert all(each is optimisers[0] for each in optimisers)
    # 20 batches an epoch; it grows at the first of each of the first three.
    per_epoch = [set(live[at : at + 20]) for at in range(0, 100, 20)]
    assert [len(each) for each in per_epoch] == [1] * 5
    counts = [each.pop() for each in per_epoch]
    assert counts[0] < counts[1] < counts[2] == counts[3] == counts[4]
    assert run.compact.count_live_weights() == counts[2]
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [(row["round"], row["epoch"]) for row in epochs] == [
        (1, 1), (2, 2), (3, 3), (3, 4), (3, 5)
    ]  # fmt: skip
    assert run.accepted is not None
    assert run.accepted.value == min(row["valid_perplexity"] for row in epochs[2:])


@pytest.mark.parametrize("stop_after", [2, 20, 21, 45, 70])
def test_growth_that_is_cut_short_ends_with_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    config = tiny_config(
        growth_epochs=3, growth_settling_epochs=1, warmup_batches=30, schedule="linear"
    )

    def stop(seen: Observation) -> None:
        if seen.num_batches == stop_after:
            raise KilledError

    whole = make_run(config, tmp_path / "whole")
    whole.step = "growth"
    grow_from_seed(whole)
    cut = make_run(config, tmp_path / "cut")
    cut.step, cut._observe = "growth", stop
    with pytest.raises(KilledError):
        grow_from_seed(cut)
    torch.manual_seed(99)
    resumed = make_run(config, tmp_path / "cut")
    resumed.restore()
    grow_from_seed(resumed)
    for name, weight in whole.compact.weights.items():
        assert weight.equal(resumed.compact.weights[name])
        assert whole.compact.masks.weights[name].equal(resumed.compact.masks.weights[name])
    logs = [(tmp_path / each / "epochs.jsonl").read_bytes() for each in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_woken_weights_first_step_is_no_longer_than_the_others(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=2, growth_settling_epochs=1, growth_ratio=0.3)
    run = make_run(config, tmp_path)
    run.step = "growth"
    woken: list[float] = []
    before: list[tuple[Tensors, Tensors]] = []

    def watch(seen: Observation) -> None:
        now = {name: weight.detach().clone() for name, weight in run.compact.weights.items()}
        if seen.num_batches == 20:  # the last before the second growth
            before.append((now, run.compact.masks.weights))
            assert run._descent is not None
            for each in run._descent.optimiser.state.values():  # as after a long training
                each["exp_avg_sq"] /= 1 - 0.999**20
                each["step"].fill_(1e5)
        if seen.num_batches == 21:
            old, lived = before[0]
            for name, mask in run.compact.masks.weights.items():
                wakes = mask & ~lived[name]
                woken.extend((now[name] - old[name])[wakes].abs().tolist())

    run._observe = watch
    grow_from_seed(run)
    assert len(woken) > 40
    # From second moments of zero each were 0.1 / √0.001 = 3.2 times the rate long.
    assert 0 < max(woken) < config.learning_rate


def test_a_roll_back_in_an_epoch_that_grew_grows_the_same(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=3, growth_settling_epochs=1, checkpoint_s=1000)
    poisoned = False
    live: list[int] = []

    def poison(seen: Observation) -> None:
        nonlocal poisoned
        if seen.num_batches == 25:
            live.append(run.compact.count_live_weights())
            if not poisoned:
                poisoned = True
                with torch.no_grad():
                    run.compact.weights["gate_bias_ks"].fill_(torch.nan)

    run = make_run(config, tmp_path)
    run.step, run._observe = "growth", poison
    grow_from_seed(run)
    # Back at the end of the first epoch, it grew again, from there.
    assert len(live) == 2 and live[0] == live[1]
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [row["round"] for row in epochs] == [1, 2, 3, 3]
    rates = [row["learning_rate"] for row in epochs]
    assert rates[:2] == [config.learning_rate, config.learning_rate / 2]


def test_what_cant_be_measured_isnt_trained(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    assert isinstance(run.task, LanguageModelling)
    run.task.words = ("word",) * 1_100_000  # a vocabulary has at most 1,048,576
    with pytest.raises(InvalidWorkloadError, match="vocabulary"):
        synthesise(run, Oracle(2, 1))
    assert run.rows == []


def test_a_run_whose_service_left_goes_on_as_its_hints_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(when_away="fail", growth_epochs=0), tmp_path)
    with pytest.raises(ServiceAwayError) as raised:
        synthesise(run, LeavingOracle())
    assert "--resume --set when_away=skip" in raised.value.hint
    caplog.set_level("INFO", logger="trainer_client")
    resumed = make_run(tiny_config(when_away="skip", growth_epochs=0), tmp_path)
    resumed.restore()
    assert "when_away='fail' there, 'skip' now" in caplog.text
    synthesise(resumed, None)
    assert [row["step"] for row in resumed.rows][-2:] == ["lhp", "weights"]
    # And if a route was to be measured.
    run = make_run(HALF, tmp_path / "route")
    with pytest.raises(ServiceAwayError):
        synthesise(run, None, crossovers=LeavingCrossovers())
    resumed = make_run(HALF.with_changes({"route": "sparse"}), tmp_path / "route")
    resumed.restore()
    synthesise(resumed, None)
    assert [row["step"] for row in resumed.rows] == ["baseline", "growth", "weights"]
    # Once a step has gone by a setting it stays.
    late = make_run(HALF.with_changes({"route": "sparse", "weight_ratio": 0.5}), tmp_path / "route")
    with pytest.raises(CheckpointConfigError, match="weight_ratio"):
        late.restore()
