"""What `lhp-train` leaves on the disk where it is refused or fails, and how it says so."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.test_cli import QUICK, Captured, arguments
from tests.trainer_client.texts import tiny_config, write_tiny_corpus
from trainer_client.cli import run
from trainer_client.run.checkpoint import read_checkpoint
from trainer_client.tasks.language_model.corpus import OWN_TEXT, load_corpus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_tiny_corpus(tmp_path / "data")
    return tmp_path / "data"


def test_a_refused_start_leaves_nothing_behind(
    data: Path, tmp_path: Path, capfd: Captured, closed_url: str
) -> None:
    out = tmp_path / "runs" / "out"
    earlier = tmp_path / "earlier"
    assert run(arguments(data, earlier, *QUICK)) == 0
    assert run(arguments(data, tmp_path / "other", *QUICK, "--set", "seed=1")) == 0
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    fail = ["--set", "when_away=fail"]
    logs = importlib.util.find_spec("tensorboard") is not None
    for more, told in (
        (["--set", "batch=300"], "401 tokens don't make 300 texts"),
        (["--set", "batch=300", "--tensorboard"], "401 tokens" if logs else "needs tensorboard"),
        (["--set", "latency_batch=2000000"], "batch"),
        (fail, "step (c) needs a latency service, and none was named"),
        ([*fail, "--service", "nowhere"], "no address of a service"),
        ([*fail, "--service", closed_url], f"no service at {closed_url}"),
        (["--start-from", str(tmp_path / "nonesuch")], "there is no checkpoint"),
        (["--start-from", str(tmp_path / "other")], "another configuration"),
        (["--resume"], "there is no checkpoint"),
        (["--resume", "--preset", "small"], "there is no checkpoint"),
    ):
        assert run(arguments(data, out, *more)) in (1, 2), more
        err = capfd.readouterr().err
        assert told in err and "hint: " in err and "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before, more


def test_every_fault_of_a_file_is_told_with_its_path(
    data: Path, tmp_path: Path, capfd: Captured
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = tmp_path / "done"
    assert run(arguments(data, done, *QUICK)) == 0
    blocked = {}
    for name in ("checkpoint.lhp", "steps.jsonl", ".lock", "models"):
        blocked[name] = tmp_path / f"no {name}"
        blocked[name].mkdir()
        if name == "models":
            (blocked[name] / name).write_text("")
        else:
            (blocked[name] / name).mkdir()
    (done / "report.md").mkdir()
    (tmp_path / "directory.safetensors").mkdir()
    model = str(done / "models" / "weights.safetensors")
    capfd.readouterr()
    long = tmp_path / ("n" * 300)
    for words, path in (
        (arguments(data, file), file),
        (arguments(data, file / "run"), file / "run"),
        (arguments(data, long), long),
        (arguments(data, blocked["steps.jsonl"], *QUICK), blocked["steps.jsonl"] / "steps.jsonl"),
        (arguments(data, blocked[".lock"]), blocked[".lock"] / ".lock"),
        (arguments(data, blocked["models"], *QUICK), blocked["models"] / "models"),
        (["own-text", "--data", str(data), "--out", str(blocked["checkpoint.lhp"]), "--resume"],
         blocked["checkpoint.lhp"] / "checkpoint.lhp"),
        (arguments(long, tmp_path / "new"), long),
        (["report", str(done)], done / "report.md"),
        (["report", str(file)], file / "checkpoint.lhp"),
        (["score", str(tmp_path / "none.safetensors"), str(file)], tmp_path / "none.safetensors"),
        (["score", str(tmp_path / "directory.safetensors"), str(file)],
         tmp_path / "directory.safetensors"),
        (["score", model, str(tmp_path / "none.txt")], tmp_path / "none.txt"),
        (["score", model, str(tmp_path)], tmp_path),
    ):  # fmt: skip
        assert run(words) == 1, words
        err = capfd.readouterr().err
        assert str(path) in err and "hint: " in err
        assert "Errno" not in err and "Traceback" not in err
    left = [each for each in tmp_path.rglob("*") if each.name.endswith(".writing")]
    assert left == []
    assert not (tmp_path / "new").exists()


def test_a_limit_on_the_size_of_files_is_told_and_the_run_goes_on_without_it(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    program = (
        "import resource, sys; from trainer_client.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "sys.exit(run(sys.argv[2:]))"
    )

    def train(limit: int, *more: str) -> tuple[int, str]:
        words = [sys.executable, "-c", program, str(limit), *arguments(data, out, *QUICK, *more)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stderr

    # No checkpoint fits: nothing is left.
    code, err = train(2000)
    assert code == 1 and f"{out / 'checkpoint.lhp'} can't be written: File too large" in err
    assert "ulimit -f" in err and "Traceback" not in err
    assert not out.exists()
    # The first one fits, but not the one with an optimiser's state.
    size = make_first_checkpoint(data, tmp_path / "small")
    code, err = train(size)
    assert code == 1 and f"{out / 'checkpoint.lhp'} can't be written: File too large" in err
    assert {each.name for each in out.iterdir()} >= {"checkpoint.lhp"}
    assert not list(out.rglob("*.writing"))
    assert train(10**9, "--resume")[0] == 0
    assert read_checkpoint(out / "checkpoint.lhp")["step"] == "done"


def make_first_checkpoint(data: Path, out: Path) -> int:
    """The size in bytes of a run's first checkpoint, with some room for the time being."""
    config = tiny_config(when_away="skip")
    corpus = load_corpus(OWN_TEXT, data)
    first = make_run(config, out, corpus)
    first.step = "baseline"
    first.save()
    return (out / "checkpoint.lhp").stat().st_size + 500
