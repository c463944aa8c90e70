"""Exported models score texts as the trainer does, with the vocabulary that they hold."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.trainer_client.stand_ins import dims_of, hlstm_of, make_run
from tests.trainer_client.test_cli import QUICK, arguments
from tests.trainer_client.texts import tiny_config, tiny_corpus, write_tiny_corpus
from trainer_client.cli import run
from trainer_client.export import (
    ModelFileError,
    load_dense,
    load_model,
    load_vocabulary,
    shrink_model,
    write_dense,
    write_models,
)
from trainer_client.tasks.language_model.corpus import UnexpectedTextError, Vocabulary
from trainer_client.tasks.language_model.scoring import Scorer, load_scorer

MODELS = ("baseline", "growth", "units", "lhp", "weights", "weights.csr")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("texts") / "data"
    write_tiny_corpus(data)
    return data


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    """A run through all steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run(arguments(data, data.parent / "run", *QUICK)) == 0
    torch.set_num_threads(threads)
    return data.parent / "run"


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_scores_as_the_trainer_evaluated_it(
    data: Path, trained: Path, name: str
) -> None:
    rows = [json.loads(line) for line in (trained / "steps.jsonl").read_text().splitlines()]
    (row,) = (each for each in rows if each["step"] == name.partition(".")[0])
    scorer = load_scorer(trained / "models" / f"{name}.safetensors")
    for split in ("valid", "test"):
        # 120 words and the end of the line: 10 pieces of 12, of which one word is only read.
        score = scorer.score((data / f"{split}.txt").read_text(), pieces=10)
        assert score.perplexity == pytest.approx(row[f"{split}_perplexity"], rel=1e-5)
        assert (score.num_predicted, score.num_unknown, score.pieces) == (110, 0, 10)


def test_a_short_text_is_scored_as_a_whole(trained: Path) -> None:
    path = trained / "models" / "weights.safetensors"
    score = load_scorer(path).score("w0 w1 w2\nw3")
    # By hand: w0 w1 w2 <eos> w3 <eos>, of which all but the first are predicted.
    words = load_vocabulary(path).words
    text = ["w0", "w1", "w2", "<eos>", "w3", "<eos>"]
    ids = torch.tensor([words.index(each) for each in text])
    scores_tbv, _ = load_dense(path)(ids[:-1, None])
    loss = F.cross_entropy(scores_tbv[:, 0], ids[1:])
    assert score.perplexity == pytest.approx(math.exp(float(loss)), rel=1e-5)
    assert (score.num_predicted, score.num_unknown, score.pieces) == (5, 0, 1)


def test_a_long_text_is_read_as_the_trainer_reads_its_own(trained: Path) -> None:
    scorer = load_scorer(trained / "models" / "weights.safetensors")
    text = "w0 w1 w2 w3 w4\n" * 200  # with the ends of lines 1,200 tokens
    assert scorer.score(text) == scorer.score(text, pieces=10)
    assert scorer.score(text, max_tokens=999).pieces == 1
    assert scorer.score(text, max_tokens=999).num_predicted == 998


def test_words_that_a_model_doesnt_know_are_counted_or_refused(
    trained: Path, tmp_path: Path
) -> None:
    path = trained / "models" / "weights.safetensors"
    with pytest.raises(UnexpectedTextError, match="doesn't know the word 'cat'") as raised:
        load_scorer(path).score("w1 cat w2")
    assert raised.value.hint
    known = load_vocabulary(path)
    words = tuple("<unk>" if each == "w3" else each for each in known.words)
    scorer = Scorer(model=load_model(path), vocabulary=Vocabulary(words=words))
    assert scorer.score("w1 cat w2 dog").num_unknown == 2
    # The word for unknown words is itself known; and what isn't read isn't counted.
    assert scorer.score("w1 <unk> w2 dog", max_tokens=3).num_unknown == 0


@pytest.mark.parametrize(("text", "pieces"), [("", 1), ("\n", 1), ("w1 w2", 2)])
def test_a_text_with_nothing_to_predict_is_refused(trained: Path, text: str, pieces: int) -> None:
    with pytest.raises(UnexpectedTextError, match="can't be scored") as raised:
        load_scorer(trained / "models" / "weights.safetensors").score(text, pieces=pieces)
    assert raised.value.hint


def test_a_model_exported_without_its_vocabulary_still_loads_and_says_so(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path / "run")
    assert run.compact is run.model
    write_dense(shrink_model(hlstm_of(run)), tmp_path / "old.safetensors")
    assert load_model(tmp_path / "old.safetensors")(torch.zeros(2, 1).long())[0].shape == (2, 1, 12)
    with pytest.raises(ModelFileError, match=r"old\.safetensors has no vocabulary") as raised:
        load_scorer(tmp_path / "old.safetensors")
    assert "it can be loaded" in raised.value.hint
    run.step = "growth"
    write_models(run, dims_of(run), tmp_path / "models")
    assert load_vocabulary(tmp_path / "models" / "growth.safetensors") == Vocabulary(
        words=tiny_corpus().vocabulary
    )


def test_a_file_that_holds_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no model")
    with pytest.raises(ModelFileError, match=str(tmp_path / "text")):
        load_model(tmp_path / "text")


def test_the_command_scores_files_and_its_input(data: Path, trained: Path) -> None:
    command = [sys.executable, "-m", "trainer_client.cli", "score"]
    model = str(trained / "models" / "weights.csr.safetensors")
    text = (data / "valid.txt").read_bytes()
    for words, given in ((["--pieces", "10", str(data / "valid.txt")], b""), (["-"], text)):
        done = subprocess.run(
            [*command, model, *words], input=given, capture_output=True, timeout=120
        )
        score = load_scorer(model).score(text.decode(), pieces=10 if given == b"" else 1)
        assert done.stdout.decode().startswith(
            f"perplexity {score.perplexity:.2f}: {score.num_predicted} tokens predicted, in"
            f" {score.pieces} piece"
        )
        assert (done.returncode, done.stderr) == (0, b"")
    closed = f"exec {shlex.join([*command, model, '-'])} <&-"
    done = subprocess.run(["sh", "-c", closed], capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"0 tokens can't be scored" in done.stderr and b"Traceback" not in done.stderr
    done = subprocess.run([*command, model, "-"], input=b"\xff", capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"the input isn't UTF-8 text (byte 0)" in done.stderr
