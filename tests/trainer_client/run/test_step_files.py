"""Files of a step's end: small, and exact for what is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer_client.stand_ins import hlstm_of, make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.groups.masks import seed_masks
from trainer_client.run.step_files import pack_small, step_file, unpack_small


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_models_metric_is_the_same_to_the_bit(tmp_path: Path, precision: str) -> None:
    config = tiny_config(precision=precision)
    run = make_run(config, tmp_path)
    model = hlstm_of(run)
    generator = torch.Generator().manual_seed(0)
    model.masks = seed_masks(model.layout, model.weights, density=0.3, generator=generator)
    run.accept(5.0)
    expected = [run.evaluate(split) for split in ("valid", "test")]
    assert run.accepted is not None
    packed = pack_small(run.accepted, run.task.weight_dtype)
    again = make_run(config.with_changes({"seed": 7}), tmp_path / "again")
    again.adopt({"accepted": packed})
    assert [again.evaluate(split) for split in ("valid", "test")] == expected
    found = unpack_small(packed)
    assert found.value == 5.0 and found.masks is not None
    for name, mask in model.masks.weights.items():
        assert torch.equal(found.masks.weights[name], mask)
    for name, live_u in model.masks.units.items():
        assert torch.equal(found.masks.units[name], live_u)


def test_it_is_several_times_smaller_than_a_checkpoint(tmp_path: Path) -> None:
    config = tiny_config(precision="bfloat16", embedding_width=96, state_width=96, gate_width=192)
    run = make_run(config, tmp_path)
    run.step = "growth"
    model = hlstm_of(run)
    run.begin_training(max_epochs=1, learning_rate=1e-3)
    assert run._descent is not None
    run._descent.train_batch(model, run.task, config, run.ranks)
    run.accept(5.0)
    run.save()
    before = (tmp_path / "checkpoint.lhp").stat().st_size
    run.end_training()
    run.end_step({"step": "growth"}, "weights")
    assert step_file(tmp_path, "growth").stat().st_size < before / 5
