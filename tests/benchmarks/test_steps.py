"""The referee of a run's steps: weights move, outputs don't; and what is faster is said to be."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.steps import are_alike, place_anew, ratio_of, read_models, report
from profiler_service.networks import HLSTMLanguageModel, LSTMLanguageModel
from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.texts import WORDS, tiny_config
from trainer_client.export import write_dense, write_models

WORDS_TB = torch.randint(WORDS, (7, 3), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The models of a run that ended step (c)."""
    run = make_run(tiny_config(), tmp_path)
    run.step = "baseline"
    write_models(run, (12, 8), tmp_path / "models")
    for step, (gate_width, state_width) in {"units": (9, 6), "lhp": (11, 7)}.items():
        network = HLSTMLanguageModel(WORDS, 8, state_width, gate_width)
        write_dense(network, tmp_path / "models" / f"{step}.safetensors")
    return tmp_path


def test_weights_move_and_results_stay(directory: Path) -> None:
    models = read_models(directory)
    assert list(models) == ["baseline", "units", "lhp"]
    assert isinstance(models["baseline"], LSTMLanguageModel)
    rng, places = random.Random(1), set()
    for model in models.values():
        expected_tbv = model(WORDS_TB)[0]
        for _ in range(3):
            place_anew(model, rng)
            assert torch.equal(model(WORDS_TB)[0], expected_tbv)
            for each in model.parameters():
                assert each.data_ptr() % 64 == 0
                places.add(each.data_ptr() % 4096)
    assert len(places) > 20
    assert not are_alike(models)
    assert are_alike({**models, "lhp": models["units"]})


def test_drift_between_blocks_cancels() -> None:
    drift = np.array([1.0, 3.0, 2.0])
    slower = [np.array([1.1, 1.2, 9.0]) * each for each in drift]
    faster = [np.array([1.0, 1.0, 1.0]) * each for each in drift]
    ratio = ratio_of(slower, faster)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.2, 1.2, 1.2))


@pytest.mark.parametrize(("scale", "told"), [(0.9, "yes"), (1.0, "NO"), (1.1, "NO")])
def test_goals_are_met_only_surely(scale: float, told: str) -> None:
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, 0.01, size=(2, 25, 3)))
    seconds = {
        "baseline": [np.full(3, 0.05)] * 25,
        "units": list(0.03 * noise[0]),
        "lhp": list(0.03 * scale * noise[1]),
    }
    lines = report(seconds)
    (line,) = [each for each in lines if each.startswith("| (c) is faster")]
    assert line.endswith(f"| {told} |")
    assert lines[-1].endswith("| yes |")
    (line,) = [each for each in report(seconds, alike=True) if "a control" in each]
    assert line.endswith("| NO |")
