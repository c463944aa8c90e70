"""Descent on a tiny text: it learns, comes back from NaN, and survives being cut short."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.trainer_client.stand_ins import Run, hlstm_of, make_run
from tests.trainer_client.texts import tiny_config, tiny_corpus
from trainer_client.groups.masks import full_masks, seed_masks
from trainer_client.run.checkpoint import CheckpointConfigError
from trainer_client.run.descent import DivergedError, Observation, make_optimiser
from trainer_client.run.logs import CHECKPOINT
from trainer_client.tasks.language_model.evaluation import perplexity_of
from trainer_client.tasks.language_model.networks import LanguageModel, MaskedHLSTM


class Stopped(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


def train_hlstm(run: Run, **options: object) -> float:
    model = run.compact
    generator = torch.Generator().manual_seed(0)
    model.masks = seed_masks(model.layout, model.weights, density=0.5, generator=generator)
    run.begin_training(**({"max_epochs": 3, "learning_rate": 0.02} | options))  # type: ignore[arg-type]
    return run.train()


def state_of(run: Run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.model.state_dict().items()}


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].equal(b[name]), name


@pytest.mark.parametrize(("optimiser", "rate"), [("adamw", 0.02), ("sgd", 5.0), ("nt-asgd", 5.0)])
def test_it_learns(tmp_path: Path, optimiser: str, rate: float) -> None:
    run = make_run(tiny_config(optimiser=optimiser, dropout_embedding=0.0), tmp_path)
    assert run.compact is run.model
    start = run.evaluate("valid")
    # Guessing gives 12. Knowing that i + 1 follows i in 81.7 % of the cases, else anything,
    # would give exp(-(0.817 ln 0.817 + 0.183 ln(0.183 / 11))) = 2.5.
    assert start == pytest.approx(12, rel=0.2)
    perplexity = train_hlstm(run, max_epochs=12, learning_rate=rate)
    assert perplexity < 8
    assert run.evaluate("valid") == pytest.approx(perplexity)
    assert not run.is_training


def test_perplexity_is_that_of_the_whole_text(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    model = hlstm_of(run)
    # 120 tokens in 10 pieces of 12, read at once instead of in stretches of 5.
    words_nb = tiny_corpus().valid.view(10, 12).t()
    model.eval()
    scores_nv, _ = model(words_nb[:-1], model.zero_state(10))
    loss = F.cross_entropy(scores_nv, words_nb[1:].flatten())
    assert run.evaluate("valid") == pytest.approx(math.exp(float(loss.detach())), rel=1e-5)


def test_the_mean_gradient_is_that_of_the_mean_loss(tmp_path: Path) -> None:
    run = make_run(tiny_config(steps=200), tmp_path)
    model = hlstm_of(run)
    generator = torch.Generator().manual_seed(0)
    model.masks = seed_masks(model.layout, model.weights, density=0.5, generator=generator)
    before = state_of(run)
    gradients = run.mean_gradient(model.weights)
    # 400 tokens in 4 pieces of 100, all in one stretch: the mean is the gradient of one loss,
    # towards dormant weights, too.
    words_nb = tiny_corpus().train.view(4, 100).t()
    masks, model.masks = model.masks, full_masks(model.layout, model.weights)
    model.load_state_dict(before)
    scores_nv, _ = model.eval()(words_nb[:-1], model.zero_state(4))
    loss = F.cross_entropy(scores_nv, words_nb[1:].flatten())
    expected = torch.autograd.grad(loss, list(model.weights.values()))
    for (name, got), wanted in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(got, wanted)
        mask = masks.weights[name]
        assert mask.all() or got[~mask].any()
    assert_same_bits(state_of(run), before)


def test_both_models_begin_with_the_training_texts_words(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    # The last ten words are held out of training: they don't count.
    few = len(corpus.train) - 10
    run = make_run(tiny_config(max_train_tokens=few), tmp_path)
    count_v = torch.bincount(corpus.train[:few], minlength=len(corpus.vocabulary)) + 1
    assert not count_v.equal(torch.bincount(corpus.train) + 1)
    for model in (run.model, hlstm_of(run)):
        assert isinstance(model, LanguageModel)
        torch.testing.assert_close(model.decoder_bias_v.softmax(0), count_v / count_v.sum())


def read_epochs(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def test_the_best_epoch_stays(tmp_path: Path) -> None:
    """At this rate epochs get better and worse, in an order that depends on the processor.

    So a longer run first tells where to end: after an epoch that is worse than one before, when the
    rate has fallen, as the run stalled.
    """
    config = tiny_config(optimiser="sgd")
    train_hlstm(make_run(config, tmp_path / "long"), max_epochs=12, learning_rate=150.0)
    long = read_epochs(tmp_path / "long")
    found = [row["valid_perplexity"] for row in long]
    is_slower = [row["learning_rate"] < 150.0 for row in long]
    last = next(n for n in range(1, 12) if is_slower[n] and found[n] > min(found[:n]))
    run = make_run(config, tmp_path / "run")
    perplexity = train_hlstm(run, max_epochs=last + 1, learning_rate=150.0)
    rows = read_epochs(tmp_path / "run")
    assert [row["valid_perplexity"] for row in rows] == found[: last + 1]
    assert perplexity == min(row["valid_perplexity"] for row in rows)
    assert rows[-1]["valid_perplexity"] > perplexity
    assert run.evaluate("valid") == pytest.approx(perplexity)
    assert rows[-1]["learning_rate"] < 150.0


def test_the_rate_warms_up_and_falls_steadily(tmp_path: Path) -> None:
    lived: list[float] = []

    def watch(seen: Observation) -> None:
        assert run._descent is not None
        lived.append(run._descent.optimiser.param_groups[0]["lr"])

    run = make_run(tiny_config(warmup_batches=10, schedule="linear"), tmp_path, observe=watch)
    train_hlstm(run, max_epochs=3, learning_rate=0.06)
    # 99 rows in stretches of 5: 20 batches an epoch, the last of 4 rows.
    rates = [
        0.06 * min((20 * epoch + batch + 1) / 10, 1 - (99 * epoch + 5 * batch) / (3 * 99))
        for epoch in range(3)
        for batch in range(20)
    ]
    assert lived == pytest.approx(rates)
    assert lived[0] == pytest.approx(0.006) and lived[-1] == pytest.approx(0.06 * 4 / 297)
    rows = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    # As it is at the end of each epoch.
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.04, 0.02, 0.0])


def test_training_ends_once_the_threshold_is_kept(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    perplexity = train_hlstm(run, max_epochs=50, stop_at=10.0)
    num_epochs = len((tmp_path / "epochs.jsonl").read_text().splitlines())
    assert perplexity <= 10.0
    assert 1 < num_epochs < 50


def test_a_training_takes_its_fewest_epochs(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.begin_training(max_epochs=5, learning_rate=1e-3, stop_at=1000.0, min_epochs=3)
    run.train()
    assert len(read_epochs(tmp_path)) == 3


def test_random_lengths_cover_the_text_and_scale_the_rate(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    def watch(observation: Observation) -> None:
        assert run._descent is not None
        seen.append((observation.fraction, run._descent.optimiser.param_groups[0]["lr"]))

    config = tiny_config(random_steps=True, steps=20, patience_epochs=9)
    run = make_run(config, tmp_path, observe=watch)
    train_hlstm(run, max_epochs=2, learning_rate=0.06)
    lengths = []
    before = 0
    for fraction, rate in seen:
        row = round(99 * fraction)
        lengths.append(row - before)
        assert rate == pytest.approx(0.06 * lengths[-1] / 20)
        before = row % 99
    assert sum(lengths) == 2 * 99
    # Only what is left at the end of an epoch may be shorter.
    assert len(set(lengths)) > 3 and sum(length < 5 for length in lengths) <= 2
    ends = [n + 1 for n, (fraction, _) in enumerate(seen) if fraction == 1]
    assert lengths[: ends[0]] != lengths[ends[0] :]


def test_the_table_has_its_own_rate(tmp_path: Path) -> None:
    config = tiny_config(table_rate=4.0, schedule="plateau", warmup_batches=0, random_steps=False)
    run = make_run(config, tmp_path)
    for model in (run.model, hlstm_of(run)):
        run.model = model
        run.begin_training(max_epochs=1, learning_rate=0.01)
        run.train()
        assert isinstance(model, LanguageModel)
        optimiser = make_optimiser(config, run.task, model, 0.01)
        factors = {
            id(parameter): group["rate_factor"]
            for group in optimiser.param_groups
            for parameter in group["params"]
        }
        assert len(factors) == len(list(model.parameters()))
        for parameter in model.parameters():
            assert factors[id(parameter)] == (4.0 if parameter is model.table else 1.0)


def test_a_batch_is_trained_at_each_parameters_rate(tmp_path: Path) -> None:
    config = tiny_config(optimiser="sgd", table_rate=4.0, weight_decay=0.5, clip_norm=1e-12)
    run = make_run(config, tmp_path)
    model = hlstm_of(run)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    run.begin_training(max_epochs=1, learning_rate=0.01)
    assert run._descent is not None
    run._descent.train_batch(model, run.task, config, run.ranks)
    # Gradients are clipped to nothing, so only the decay is left: rate · 0.5 of each weight.
    for name, share in (("network.table_vm", 0.98), ("network.layer.gate_ksg", 0.995)):
        torch.testing.assert_close(
            dict(model.named_parameters())[name].detach(), share * before[name]
        )


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_biases_dont_decay(tmp_path: Path, optimiser: str) -> None:
    run = make_run(tiny_config(optimiser=optimiser, weight_decay=0.5), tmp_path)
    assert run.compact is run.model
    run.begin_training(max_epochs=1, learning_rate=0.1)
    assert run._descent is not None
    before = {name: each.detach().clone() for name, each in run.model.named_parameters()}
    for each in run.model.parameters():
        each.grad = torch.zeros_like(each)
    run._descent.optimiser.step()
    for name, each in run.model.named_parameters():
        # 0.05 of a weight is lost in a step without a gradient.
        share = 1.0 if "bias" in name else 0.95
        torch.testing.assert_close(each.detach(), share * before[name])


def test_nt_asgd_averages_and_keeps_the_average(tmp_path: Path) -> None:
    config = tiny_config(optimiser="nt-asgd", non_monotone_epochs=1, patience_epochs=100)
    run = make_run(config, tmp_path)
    train_hlstm(run, max_epochs=10, learning_rate=60.0)
    rows = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    averaging = [row["averaging"] for row in rows]
    assert not averaging[0] and averaging[-1]
    assert averaging == sorted(averaging)
    plain = min(row["valid_perplexity"] for row in rows if not row["averaging"])
    assert min(row["valid_perplexity"] for row in rows if row["averaging"]) < plain


# A run that is cut short


@pytest.mark.parametrize("random_steps", [False, True])
@pytest.mark.parametrize("optimiser", ["adamw", "nt-asgd"])
@pytest.mark.parametrize("stop_after", [4, 20, 45])
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, stop_after: int, optimiser: str, random_steps: bool
) -> None:
    # 99 rows in stretches of 5 are 20 batches an epoch; checkpoints every 3 batches.
    config = tiny_config(
        optimiser=optimiser,
        non_monotone_epochs=1,
        learning_rate=2.0,
        random_steps=random_steps,
        dropout_recurrent=0.3,
    )
    whole = make_run(config, tmp_path / "whole")
    expected = train_hlstm(whole)

    def stop(seen: Observation) -> None:
        if seen.num_batches == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        train_hlstm(make_run(config, tmp_path / "cut", observe=stop))
    torch.manual_seed(99)  # whatever happens in between
    resumed = make_run(config, tmp_path / "cut")
    resumed.restore()
    assert resumed.is_training
    assert resumed.train() == expected
    assert_same_bits(state_of(resumed), state_of(whole))
    epochs = [(tmp_path / each / "epochs.jsonl").read_bytes() for each in ("whole", "cut")]
    assert epochs[0] == epochs[1]


def test_a_widened_model_is_restored(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.compact.widen({"gate_width": 14, "state_width": 9})
    run.step, run.notes = "lhp", {"answer": None}
    run.accept(5.0)
    run.save()
    again = make_run(tiny_config(), tmp_path)
    again.restore()
    assert isinstance(again.model, MaskedHLSTM)
    assert again.model.widths == {"gate_width": 14, "state_width": 9}
    assert_same_bits(state_of(again), state_of(run))
    assert (again.step, again.notes) == ("lhp", {"answer": None})
    assert again.accepted is not None and again.accepted.value == 5.0


def test_another_configuration_cant_go_on(tmp_path: Path) -> None:
    make_run(tiny_config(), tmp_path).save()
    other = make_run(tiny_config(learning_rate=0.5), tmp_path)
    with pytest.raises(CheckpointConfigError, match=r"learning_rate=0\.005 there, 0\.5 now"):
        other.restore()


def test_another_text_of_the_same_size_cant_go_on(tmp_path: Path) -> None:
    make_run(tiny_config(), tmp_path).save()
    valid = torch.zeros_like(tiny_corpus().valid)
    other = make_run(tiny_config(), tmp_path)
    other.restore()
    corpus = dataclasses.replace(tiny_corpus(), valid=valid)
    other = make_run(tiny_config(), tmp_path, corpus)
    with pytest.raises(CheckpointConfigError, match="other data of the same size"):
        other.restore()


# A loss that isn't a number


def poison(run: Run, seen: Observation) -> None:
    with torch.no_grad():
        run.compact.weights["gate_ksg"][0, 0, 0] = torch.nan


def test_nan_sends_the_run_back_at_half_the_rate(tmp_path: Path) -> None:
    poisoned: list[Observation] = []

    def once(seen: Observation) -> None:
        if seen.num_batches == 31 and not poisoned:
            poisoned.append(seen)
            poison(run, seen)

    run = make_run(tiny_config(), tmp_path, observe=once)
    perplexity = train_hlstm(run)
    assert poisoned and math.isfinite(perplexity)
    rows = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    # 20 batches an epoch: the first is over, the second is not.
    assert [row["learning_rate"] for row in rows][:2] == [0.02, 0.01]


@pytest.mark.parametrize("batch", [24, 25, 27])
def test_a_checkpoint_never_keeps_a_model_that_fails_at_once(tmp_path: Path, batch: int) -> None:
    # Checkpoints are due every 3 batches: after the update that the 24th and the 27th made.
    poisoned: list[Observation] = []

    def once(seen: Observation) -> None:
        if seen.num_batches == batch and not poisoned:
            poisoned.append(seen)
            poison(run, seen)

    run = make_run(tiny_config(checkpoint_s=3, max_rollbacks=1), tmp_path, observe=once)
    assert math.isfinite(train_hlstm(run))
    assert poisoned


@pytest.mark.parametrize("checkpoint_s", [1000, 20])
def test_a_model_that_cant_be_validated_never_replaces_a_checkpoint(
    tmp_path: Path, checkpoint_s: int
) -> None:
    # 20 batches an epoch: nothing but the validation after it sees what the 20th did.
    poisoned: list[Observation] = []

    def once(seen: Observation) -> None:
        if seen.num_batches == 20 and not poisoned:
            poisoned.append(seen)
            poison(run, seen)

    config = tiny_config(checkpoint_s=checkpoint_s)
    run = make_run(config, tmp_path, observe=once)
    perplexity = train_hlstm(run)
    assert poisoned and math.isfinite(perplexity)
    rows = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0]["learning_rate"] == 0.01


def test_nan_again_and_again_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    seen_rates = []

    def always(seen: Observation) -> None:
        seen_rates.append(seen.learning_rate)
        poison(run, seen)

    run = make_run(tiny_config(max_rollbacks=2), tmp_path, observe=always)
    with pytest.raises(DivergedError, match=r"0\.005, after .* halving it 2 times") as raised:
        train_hlstm(run)
    assert "learning_rate" in raised.value.hint
    assert seen_rates == [0.02, 0.01, 0.005]
    assert (tmp_path / CHECKPOINT).exists()


def test_perplexity_of_a_hopeless_loss_is_infinite() -> None:
    assert perplexity_of(1e9) == math.inf
    assert perplexity_of(math.log(72.1)) == pytest.approx(72.1)
