"""Which precision a run chooses for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.texts import tiny_config
from trainer_client import dry_run
from trainer_client.dry_run import choose_precision
from trainer_client.tasks.language_model.networks import LanguageModel

CPU = torch.device("cpu")


def speeds(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> None:
    """The machine trains so many tokens a second, instead of what it does."""

    def speed(model: LanguageModel, *_: object) -> float:
        return float32 if model.config.precision == "float32" else bfloat16

    monkeypatch.setattr(dry_run, "_speed", speed)


@pytest.mark.parametrize(("bfloat16", "expected"), [(2000.0, "bfloat16"), (500.0, "float32")])
def test_the_faster_precision_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bfloat16: float,
    expected: str,
) -> None:
    speeds(monkeypatch, 1000.0, bfloat16)
    before = torch.get_rng_state()
    with caplog.at_level("INFO", "trainer_client"):
        assert choose_precision(tiny_config(precision="auto"), 12, CPU) == expected
    assert f"trains in {expected}" in caplog.text and "1,000 and 1,000 tokens/s" in caplog.text
    assert torch.equal(torch.get_rng_state(), before)


def test_one_that_has_another_loss_isnt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    speeds(monkeypatch, 1000.0, 2000.0)
    monkeypatch.setattr(dry_run, "LOSS_TOLERANCE", 1e-9)
    with caplog.at_level("INFO", "trainer_client"):
        assert choose_precision(tiny_config(precision="auto"), 12, CPU) == "float32"
    assert "bfloat16: 2,000 and 2,000 tokens/s, but another loss" in caplog.text


def test_a_precision_that_is_set_stays_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "_speed", None)
    assert choose_precision(tiny_config(precision="bfloat16"), 12, CPU) == "bfloat16"


def test_a_run_has_the_precision_that_it_chose(tmp_path: Path) -> None:
    run = make_run(tiny_config(precision="auto"), tmp_path)
    assert run.config.precision in ("float32", "bfloat16")
    run.save()
    # Its own settings name it: nothing is tried again.
    again = make_run(run.config, tmp_path)
    again.restore()
    # Weights are drawn as without the trial.
    other = make_run(tiny_config(precision=run.config.precision), tmp_path / "other")
    for name, each in other.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], each)
