"""`--resume` knows the run's settings; what contradicts them is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer_client.stand_ins import KilledError
from tests.trainer_client.test_cli import CHANGES, QUICK, Captured, arguments, final_model
from tests.trainer_client.texts import write_tiny_corpus
from trainer_client.cli import run
from trainer_client.presets import TrainingConfig
from trainer_client.run.checkpoint import read_checkpoint
from trainer_client.run.logs import Row
from trainer_client.run.training_run import TrainingRun


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_tiny_corpus(tmp_path / "data")
    return tmp_path / "data"


def cut_short(data: Path, out: Path, *more: str) -> None:
    """Leaves a run in `out` that has ended the baseline: nobody answers for the rest."""
    saved: list[Row] = []

    def kill(self: TrainingRun[TrainingConfig], row: Row, next_step: str) -> None:
        end_step(self, row, next_step)
        saved.append(row)
        raise KilledError

    end_step = TrainingRun.end_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "end_step", kill)
        with pytest.raises(KilledError):
            run(arguments(data, out, *QUICK, *more))
    assert [row["step"] for row in saved] == ["baseline"]


def test_a_run_is_resumed_without_its_settings(data: Path, tmp_path: Path, capfd: Captured) -> None:
    own = ["own-text", "--data", str(data), "--out"]
    cut_short(data, tmp_path / "whole")
    assert run(arguments(data, tmp_path / "whole", *QUICK, "--resume")) == 0
    for name, more in (("bare", []), ("preset", ["--preset", "smoke"]), ("one", CHANGES[:2])):
        cut_short(data, tmp_path / name)
        assert run([*own, str(tmp_path / name), "--resume", *more]) == 0, name
        expected, found = final_model(tmp_path / "whole"), final_model(tmp_path / name)
        assert all(expected[each].equal(found[each]) for each in expected)
    assert "Traceback" not in capfd.readouterr().err


def test_what_contradicts_the_run_is_refused_by_name(
    data: Path, tmp_path: Path, capfd: Captured
) -> None:
    out = tmp_path / "out"
    cut_short(data, out)
    before = (out / "checkpoint.lhp").read_bytes()
    own = ["--data", str(data), "--out", str(out), "--resume"]
    capfd.readouterr()
    for words, told in (
        (["own-text", *own, "--set", "batch=2"], "batch=4 there, 2 now"),
        (["own-text", *own, "--preset", "small"], "preset='smoke' there, 'small' now"),
        (["ptb", *own], "corpus='own-text' there, 'ptb' now"),
        (
            ["own-text", *own, "--set", "seed=1", "--set", "steps=7", "--set", "when_away=fail"],
            "seed=0 there, 1 now; steps=5 there, 7 now",
        ),
    ):
        assert run(words) == 1
        err = capfd.readouterr().err
        assert f"{told}\n" in err
        hint = err[err.index("hint: ") :]
        # What may change is said; nothing that is refused is among it.
        assert "retrain_epochs" in hint and "when_away" in hint and "seed" not in hint
    assert (out / "checkpoint.lhp").read_bytes() == before
    # The same command, and what no step has used yet or no model depends on.
    changes = ["--set", "retrain_epochs=2", "--set", "max_away_s=5", "--set", "seed=0"]
    assert run(["own-text", *own, *changes]) == 0
    assert read_checkpoint(out / "checkpoint.lhp")["config"]["retrain_epochs"] == 2
    assert run(["own-text", *own, "--set", "retrain_epochs=3"]) == 1
    hint = capfd.readouterr().err.split("hint: ")[1]
    assert "checkpoint_s, max_away_s, when_away" in hint and "retrain_epochs" not in hint
