"""`lhp-train` as people run it: killed, resumed, mistyped; and by two processes at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.trainer_client.run.two_ranks import train_an_epoch
from tests.trainer_client.texts import TINY, write_tiny_corpus
from trainer_client.cli import run
from trainer_client.run.checkpoint import read_checkpoint
from trainer_client.run.ranks import Ranks

SETTINGS = [
    f"{name}={'none' if value is None else value}"
    for name, value in (TINY | {"when_away": "skip"}).items()
    if name not in ("preset", "corpus")
]
CHANGES = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_tiny_corpus(tmp_path / "data")
    return tmp_path / "data"


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    base = ["own-text", "--preset", "smoke", "--data", str(data), "--out", str(out)]
    return [*base, *CHANGES, *more]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[2],
    )


def finish(command: list[str]) -> None:
    with start(command) as process:
        try:
            _, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, err.decode()


def final_model(out: Path) -> dict[str, torch.Tensor]:
    saved = read_checkpoint(out / "checkpoint.lhp")
    assert saved["step"] == "done"
    weights: dict[str, torch.Tensor] = saved["model"]["weights"]
    kept = saved["model"]["masks"]
    masks = {f"{of} {name}": mask for of in kept for name, mask in kept[of].items()}
    return {**weights, **masks, "random": saved["ranks"][0]["random"]}


def num_epochs(out: Path) -> int:
    """How many epochs the run in `out` has ended."""
    log = out / "epochs.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_killed_and_resumed_it_ends_with_the_same_bits(data: Path, tmp_path: Path) -> None:
    finish(["trainer_client.cli", *arguments(data, tmp_path / "whole")])
    cut, kills = tmp_path / "cut", 0
    command = ["trainer_client.cli", *arguments(data, cut)]
    # In the baseline's second epoch, in (a)'s, and in the last step's: one epoch each but for (a).
    for epochs in (1, 2, 4):
        with start(command) as process:
            while process.poll() is None and num_epochs(cut) < epochs:
                time.sleep(0.005)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        command = ["trainer_client.cli", *arguments(data, cut, "--resume")]
    assert kills >= 2
    finish(command)
    expected, found = final_model(tmp_path / "whole"), final_model(cut)
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].equal(found[name]), name
    for name in ("growth", "weights", "weights.csr"):
        file = f"models/{name}.safetensors"
        assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_two_processes_grow_alike(data: Path, tmp_path: Path) -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    out = tmp_path / "out"
    out.mkdir()
    finish([*torchrun, "-m", "tests.trainer_client.run.two_ranks", str(out)])
    for rank in range(2):
        assert (out / f"heard{rank}.txt").read_text() == "nobody knows; ask later"
        assert "isn't finite" in (out / f"gradient{rank}.txt").read_text()
    alone = train_an_epoch(Ranks(torch.device("cpu")), out / "alone").model.state_dict()
    for rank in range(2):
        shared = torch.load(out / f"epoch{rank}.pt")
        for name, weight in alone.items():
            torch.testing.assert_close(shared[name], weight, rtol=1e-4, atol=1e-6)
    first, second = (torch.load(out / f"rank{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].equal(second[name]), name
    assert any(name.startswith("mask") and not first[name].all() for name in first)


Captured = pytest.CaptureFixture[str]
QUICK = ["--set", "max_rounds=0", "--set", "growth_epochs=0"]


def test_mistakes_are_told_without_a_traceback(data: Path, tmp_path: Path, capfd: Captured) -> None:
    out = tmp_path / "out"
    for more, code, told in (
        (["--preset", "large"], 2, "there is no preset 'large'"),
        (["--set", "momentum=0.9"], 2, "there is no setting 'momentum'"),
        (["--set", "batch"], 2, "isn't NAME=VALUE"),
        (["--data", str(tmp_path / "nonesuch")], 1, "train.txt can't be read"),
        (["--resume"], 1, "there is no checkpoint"),
        (["--set", "weight_decay=inf"], 2, "weight_decay=inf isn't 0 or more"),
    ):
        assert run(arguments(data, out, *more)) == code
        err = capfd.readouterr().err
        assert told in err and "hint: " in err and "Traceback" not in err
        assert list(tmp_path.iterdir()) == [data]


def test_an_estimate_needs_no_text(capfd: Captured) -> None:
    assert run(["estimate", "ptb", "--preset", "smoke", "--set", "max_train_tokens=3600000"]) == 0
    out = capfd.readouterr().out
    # 4 · (96 · (48 + 96) + 48 · (96 + 48)) weights and 8 · (96 + 48) biases of the baseline.
    assert "84,096 recurrent parameters" in out
    # 4 · (96 · 96 + 48 · 96). Two epochs of growth, one after it, one for each later step, and
    # the average gradient of step (c).
    assert "55,296 recurrent parameters" in out
    found = re.search(
        r"55,296 .* ([0-9,]+) tokens/s in float32, at most 7 epochs: ([0-9.]+) h", out
    )
    assert found
    # 7 · 929,589 tokens (PTB has no 3.6 million) at so many a second, in hours.
    hours = 7 * 929_589 / 3600 / float(found[1].replace(",", ""))
    assert float(found[2]) == pytest.approx(hours, abs=0.06)
    # Nothing bounds how many rounds there are: then it says what it counted.
    assert run(["estimate", "ptb", "--preset", "smoke", "--set", "max_rounds=none"]) == 0
    baseline, hlstm = capfd.readouterr().out.splitlines()
    assert "if (b) and (d) have one round each" in hlstm
    assert "if (b)" not in baseline
    assert run(["estimate", "own-text", "--preset", "small"]) == 2
    assert "--set max_train_tokens" in capfd.readouterr().err


def test_a_run_is_not_overwritten(data: Path, tmp_path: Path, capfd: Captured) -> None:
    assert run(arguments(data, tmp_path / "out", *QUICK)) == 0
    assert "weights" in capfd.readouterr().out
    assert run(arguments(data, tmp_path / "out", *QUICK)) == 1
    assert "already has a run" in capfd.readouterr().err
    # Another run begins with its first steps, and has its settings by default.
    own = ["own-text", "--data", str(data), "--start-from", str(tmp_path / "out"), "--out"]
    assert run([*own, str(tmp_path / "next"), "--set", "route=sparse"]) == 0
    assert [step for step in capfd.readouterr().out.split() if step in ("baseline", "units")] == [
        "baseline"
    ]
    assert run([*own, str(tmp_path / "next"), "--set", "route=sparse"]) == 1
    assert "already has a run" in capfd.readouterr().err
    assert run([*own, str(tmp_path / "next"), "--resume"]) == 2
    assert "give only one of them" in capfd.readouterr().err
    assert run([*own, str(tmp_path / "third"), "--set", "seed=1"]) == 1
    assert "seed=0 there, 1 now" in capfd.readouterr().err
    # Or with the file of a later step, and with that run's settings, too.
    file = tmp_path / "out" / "steps" / "units.lhp"
    own = ["own-text", "--data", str(data), "--start-from", str(file), "--out"]
    assert run([*own, str(tmp_path / "after")]) == 0
    rows = (tmp_path / "after" / "steps.jsonl").read_text().splitlines()
    assert len(rows) == len((tmp_path / "out" / "steps.jsonl").read_text().splitlines())
    capfd.readouterr()
    # Resumed without a preset it has its own settings; and there is nothing left to do.
    own = ["own-text", "--data", str(data), "--out", str(tmp_path / "out"), "--resume"]
    assert run(own) == 0
    capfd.readouterr()
    assert run(["report", str(tmp_path / "out")]) == 0
    assert "(d) weight pruning" in capfd.readouterr().out
