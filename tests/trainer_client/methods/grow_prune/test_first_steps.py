"""Runs that begin with the first steps of another, and whose they refuse."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler_service.errors import ConflictError
from tests.trainer_client.stand_ins import KilledError, Run, kill_after, make_run
from tests.trainer_client.texts import tiny_config, tiny_corpus, tiny_text
from trainer_client.export import load_sparse, write_models
from trainer_client.methods.grow_prune.config import LATER_SETTINGS
from trainer_client.methods.grow_prune.first_steps import begin_from
from trainer_client.methods.grow_prune.synthesis import synthesise
from trainer_client.presets import TrainingConfig
from trainer_client.report.text import to_markdown
from trainer_client.report.write import make_report
from trainer_client.run.checkpoint import (
    CheckpointConfigError,
    CheckpointError,
    NoCheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from trainer_client.run.logs import Row
from trainer_client.run.step_files import step_file

DENSE = tiny_config(growth_epochs=1, max_rounds=1, when_away="skip")


def go(run: Run, step: str = "") -> None:
    """Trains and exports, as `lhp-train` does."""
    kill = kill_after(step)

    def at_step_end(row: Row) -> None:
        write_models(run, (row["dims"][0], row["dims"][1]), run.directory / "models")
        kill(row)

    synthesise(run, None, at_step_end=at_step_end)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went the dense route to its end: what its checkpoint accepted is no longer (a)."""
    directory = tmp_path_factory.mktemp("runs") / "first"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    go(make_run(DENSE, directory))
    torch.set_num_threads(threads)
    return directory


def lines_of(directory: Path, name: str) -> list[bytes]:
    return (directory / name).read_bytes().splitlines(keepends=True)


def sparse_run(directory: Path) -> Run:
    return make_run(dataclasses.replace(DENSE, route="sparse"), directory)


def test_the_first_steps_are_taken_and_the_others_trained(trained: Path, tmp_path: Path) -> None:
    run = sparse_run(tmp_path / "second")
    begin_from(run, trained)
    assert run.step == "weights"
    # It is in the other run's state: the layer, its masks and its perplexity.
    rows = [json.loads(line) for line in lines_of(trained, "steps.jsonl")]
    assert run.compact.count_live_weights() == rows[1]["recurrent_parameters"]
    assert 0 < run.compact.count_live_weights() < 4 * 12 * (8 + 2 * 8)
    assert run.accepted is not None and run.accepted.value == rows[1]["valid_perplexity"]
    assert run.evaluate("test") == rows[1]["test_perplexity"]  # to the bit
    go(run)
    assert [row["step"] for row in run.rows] == ["baseline", "growth", "weights"]
    assert run.rows[1]["valid_perplexity"] == rows[1]["valid_perplexity"]
    # It never wakes what (a) left dead.
    assert run.rows[2]["recurrent_parameters"] < run.rows[1]["recurrent_parameters"]
    epochs = lines_of(tmp_path / "second", "epochs.jsonl")
    # An epoch of the baseline, one of growth and one after it; then (d)'s own.
    assert epochs[:3] == lines_of(trained, "epochs.jsonl")[:3]
    assert [json.loads(line)["step"] for line in epochs[3:]] == ["weights"]
    for step in ("baseline", "growth"):
        file = f"models/{step}.safetensors"
        assert (tmp_path / "second" / file).read_bytes() == (trained / file).read_bytes()
    sparse = load_sparse(tmp_path / "second" / "models" / "weights.csr.safetensors")
    assert sparse.num_weights == run.rows[2]["recurrent_parameters"]


def test_log_and_report_say_where_they_come_from(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = sparse_run(tmp_path / "second")
    with caplog.at_level("INFO", "trainer_client"):
        begin_from(run, trained)
    told = to_markdown(make_report(tmp_path / "second", None))
    assert "taken from the run `first`" in told
    for name, count in (("steps.jsonl", 2), ("epochs.jsonl", 3)):
        digest = hashlib.sha256(b"".join(lines_of(trained, name)[:count])).hexdigest()
        assert f"the first {count} lines of its {name} have SHA-256 {digest}" in told
        assert (digest in caplog.text) == (name == "steps.jsonl")
    assert "taken from" not in to_markdown(make_report(trained, None))


def test_a_run_begun_so_is_resumed_to_the_same_bits(trained: Path, tmp_path: Path) -> None:
    whole = sparse_run(tmp_path / "whole")
    begin_from(whole, trained)
    go(whole)
    cut = sparse_run(tmp_path / "cut")
    begin_from(cut, trained)
    with pytest.raises(KilledError):
        go(cut, step="weights")
    resumed = sparse_run(tmp_path / "cut")
    resumed.restore()
    go(resumed)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_later_settings_may_differ(trained: Path, tmp_path: Path) -> None:
    changes = {"retrain_epochs": 2, "weight_ratio": 0.5, "latency_batch": 8, "max_rounds": 2}
    run = make_run(DENSE.with_changes(changes), tmp_path / "second")
    begin_from(run, trained)
    assert run.step == "units"
    names = {field.name for field in dataclasses.fields(TrainingConfig)}
    assert names > LATER_SETTINGS


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 1), ("growth_epochs", 2), ("dropout_gates", 0.5), ("batch", 2)]
)
def test_other_settings_may_not(trained: Path, tmp_path: Path, name: str, value: object) -> None:
    run = make_run(DENSE.with_changes({name: value}), tmp_path / "second")
    with pytest.raises(CheckpointConfigError, match=f"{name}=.* there, {value} now") as raised:
        begin_from(run, trained)
    assert raised.value.hint
    assert not (tmp_path / "second" / "checkpoint.lhp").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": tiny_text(396)}, "400 tokens to train on there, 396 now"),
        # As many words, but all the same one.
        ({"valid": torch.zeros(120, dtype=torch.int64)}, "other data of the same size"),
        ({"test": torch.zeros(120, dtype=torch.int64)}, "other data of the same size"),
    ],
)
def test_other_texts_are_refused(
    trained: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    run = make_run(DENSE, tmp_path / "second", dataclasses.replace(tiny_corpus(), **changes))
    with pytest.raises(CheckpointConfigError, match=told) as raised:
        begin_from(run, trained)
    assert raised.value.hint


def test_a_run_that_hasnt_ended_step_a_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError):
        begin_from(sparse_run(tmp_path / "second"), tmp_path / "nonesuch")
    # Killed between (a)'s export and its row.
    with pytest.raises(KilledError):
        go(make_run(DENSE, tmp_path / "first"), step="growth")
    assert (tmp_path / "first" / "models" / "growth.safetensors").exists()
    with pytest.raises(ConflictError, match=r"hasn't ended step \(a\) yet: it is at growth"):
        begin_from(sparse_run(tmp_path / "second"), tmp_path / "first")


def test_a_run_may_begin_with_the_file_of_any_step(trained: Path, tmp_path: Path) -> None:
    # Only that file is left of the other run.
    file = tmp_path / "lost" / "steps" / "units.lhp"
    file.parent.mkdir(parents=True)
    shutil.copy(step_file(trained, "units"), file)
    run = make_run(DENSE.with_changes({"lhp_epochs": 2}), tmp_path / "second")
    begin_from(run, file)
    rows = [json.loads(line) for line in lines_of(trained, "steps.jsonl")]
    assert run.step == "lhp"
    assert list(run.compact.live_widths.values()) == rows[2]["live_dims"]
    assert run.evaluate("test") == rows[2]["test_perplexity"]
    go(run)
    assert [row["step"] for row in run.rows] == [row["step"] for row in rows]
    # The baseline's epochs can't be changed any more, nor can anything after the last step.
    other = make_run(DENSE.with_changes({"baseline_epochs": 2}), tmp_path / "third")
    with pytest.raises(CheckpointConfigError, match="baseline_epochs=1 there, 2 now"):
        begin_from(other, file)
    with pytest.raises(ConflictError, match="no step follows on weights"):
        begin_from(make_run(DENSE, tmp_path / "third"), step_file(trained, "weights"))


def test_what_is_no_file_of_a_step_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint of a run, not the file of a step"):
        begin_from(sparse_run(tmp_path / "second"), trained / "checkpoint.lhp")
    path = tmp_path / "growth.lhp"
    path.write_bytes(step_file(trained, "growth").read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        begin_from(sparse_run(tmp_path / "second"), path)


def test_a_model_that_isnt_the_logged_one_is_refused(trained: Path, tmp_path: Path) -> None:
    saved = read_checkpoint(step_file(trained, "growth"))
    saved["accepted"]["weights"]["network.decoder_bias_v"] = torch.arange(12.0)
    path = tmp_path / "growth.lhp"
    write_checkpoint(path, saved)
    with pytest.raises(CheckpointError, match="on the valid data; its run logged"):
        begin_from(sparse_run(tmp_path / "second"), path)
    assert not (tmp_path / "second" / "checkpoint.lhp").exists()
