"""Two models on one text: paired, with an interval that holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.stand_ins import hlstm_of, make_run
from tests.trainer_client.texts import WORDS, tiny_config, tiny_text
from trainer_client.cli import run as run_command
from trainer_client.export import load_model, shrink_model, write_dense
from trainer_client.tasks.language_model.comparison import (
    BLOCK_TOKENS,
    bootstrap_interval,
    compare,
    mean_of_blocks,
)
from trainer_client.tasks.language_model.corpus import UnexpectedTextError, Vocabulary
from trainer_client.tasks.language_model.scoring import Scorer, load_scorer

VOCABULARY = Vocabulary(words=tuple(f"w{i}" for i in range(WORDS)), end_of_line="w0")


def text_of(num_tokens: int) -> str:
    return " ".join(VOCABULARY.words[i] for i in tiny_text(num_tokens, seed=5).tolist())


def write_models(directory: Path) -> tuple[Path, Path]:
    """An untrained model, and the same after three epochs."""
    run = make_run(tiny_config(), directory / "run")
    paths = directory / "first.safetensors", directory / "second.safetensors"
    write_dense(shrink_model(hlstm_of(run)), paths[0], VOCABULARY)
    run.begin_training(max_epochs=3, learning_rate=2e-2)
    run.train()
    write_dense(shrink_model(hlstm_of(run)), paths[1], VOCABULARY)
    return paths


def test_a_trained_model_is_better_and_the_ratio_that_of_the_scores(tmp_path: Path) -> None:
    first, second = (load_scorer(path) for path in write_models(tmp_path))
    text = text_of(4000)
    found = compare(first, second, text)
    expected = [each.score(text).perplexity for each in (first, second)]
    assert found.perplexities == pytest.approx(expected)
    assert found.ratio == pytest.approx(expected[1] / expected[0])
    low, high = found.interval
    assert low < found.ratio < high < 1 and found.verdict == "better"
    # 10 pieces of 400 tokens: 7 whole blocks of 50 in the 399 that are predicted.
    assert (found.num_predicted, found.num_blocks) == (3990, 70)
    other = compare(second, first, text)
    assert other.verdict == "worse"
    assert other.ratio == pytest.approx(1 / found.ratio)


def test_a_model_is_no_better_than_itself(tmp_path: Path) -> None:
    first, _ = write_models(tmp_path)
    scorer = load_scorer(first)
    found = compare(scorer, scorer, text_of(4000))
    assert found.interval == (1.0, 1.0) and found.ratio == 1.0 and found.verdict == "neither"


def test_blocks_are_of_neighbours_in_one_piece() -> None:
    losses_nb = torch.arange(2.0 * (2 * BLOCK_TOKENS + 7)).view(2, -1).t()
    # Column 0 counts from 0, column 1 from 107; the mean of a block is that of its ends.
    found = mean_of_blocks(losses_nb).tolist()
    assert found == [24.5, 74.5, 107 + 24.5, 107 + 74.5]


def test_the_interval_covers_the_truth_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer_client.tasks.language_model.comparison.NUM_RESAMPLES", 400)
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for number in range(200):
        # Skewed, as losses are; the mean is 1.
        value_n = torch.empty(100, dtype=torch.float64).exponential_(1.0, generator=generator)
        low, high = bootstrap_interval(value_n, seed=number)
        covered += low <= 1 <= high
    # 190 of 200 expected, standard deviation 3.
    assert 180 <= covered <= 199


def test_what_cant_be_paired_is_refused(tmp_path: Path) -> None:
    first, second = (load_scorer(path) for path in write_models(tmp_path))
    with pytest.raises(UnexpectedTextError, match="blocks of 50 tokens; an interval needs 20"):
        compare(first, second, text_of(900))
    other = Scorer(
        model=load_model(tmp_path / "second.safetensors"),
        vocabulary=Vocabulary(words=(*VOCABULARY.words[:-1], "new"), end_of_line="w0"),
    )
    with pytest.raises(InvalidRequestError, match="don't have the same words"):
        compare(first, other, text_of(4000))


def test_the_command_says_which_is_better(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = write_models(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text(text_of(4000).replace("w0 ", "\n"))
    assert run_command(["compare", str(first), str(second), str(text)]) == 0
    told = capfd.readouterr().out
    assert "the second model is better" in told and "95 %" in told
    assert run_command(["compare", str(first), str(tmp_path / "nonesuch"), str(text)]) == 1
    assert math.isfinite(float(told.split()[1]))
