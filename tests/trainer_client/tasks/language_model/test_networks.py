from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.trainer_client.groups.layers import live_hidden_units, live_states
from tests.trainer_client.texts import WORDS, tiny_config
from trainer_client.groups.masks import full_masks
from trainer_client.groups.pruning import prune_matrices, prune_units
from trainer_client.presets import PAPER
from trainer_client.tasks.language_model.networks import (
    LanguageModel,
    MaskedHLSTM,
    StackedLSTM,
    mean_loss,
)

WORDS_TB = torch.tensor([[0, 10], [3, 3], [9, 1], [4, 5]])


def test_published_numbers_of_recurrent_parameters() -> None:
    with torch.device("meta"):
        baseline = StackedLSTM(10_000, PAPER)
    # 4 · (1500 · (400 + 1500) + 400 · (1500 + 400)) weights and 2 · 4 · (1500 + 400) biases.
    assert baseline.count_recurrent_parameters() == 14_455_200
    # 4 · (1500 · (400 + 400) + 400 · 1500), biases not counted.
    assert MaskedHLSTM(10, PAPER).count_recurrent_parameters() == 7_200_000


def pruned_model(**changes: object) -> MaskedHLSTM:
    torch.manual_seed(0)
    model = MaskedHLSTM(WORDS, tiny_config(**changes))
    masks = prune_matrices(model.layout, model.weights, model.masks, ratio=0.4)
    counts = {"gate_width": 3, "state_width": 2}
    model.masks = prune_units(model.layout, model.weights, masks, counts=counts)
    return model


def test_the_model_is_the_network_measured() -> None:
    torch.manual_seed(0)
    model = MaskedHLSTM(WORDS, tiny_config()).eval()
    scores_nv, (h_sb, c_sb) = model(WORDS_TB, model.zero_state(2))
    expected, (h_bs, c_bs) = model.network(WORDS_TB)
    torch.testing.assert_close(scores_nv, expected.flatten(0, 1))
    torch.testing.assert_close(h_sb, h_bs.t())
    torch.testing.assert_close(c_sb, c_bs.t())


def test_leaving_dead_units_out_changes_nothing() -> None:
    model = pruned_model().eval()
    assert model.dims == (9, 6)
    scores_nv, (h_sb, _) = model(WORDS_TB, model.zero_state(2))
    assert h_sb.shape == (6, 2)
    # The masked weights are zero, so the whole network, dead units included, says the same.
    torch.testing.assert_close(scores_nv, model.network(WORDS_TB)[0].flatten(0, 1))


def test_only_what_lives_is_trained() -> None:
    model = pruned_model().train()
    scores_nv, _ = model(WORDS_TB, model.zero_state(2))
    F.cross_entropy(scores_nv, WORDS_TB.flatten()).backward()  # type: ignore[no-untyped-call]
    for name, weight in model.weights.items():
        mask = model.masks.weights[name]
        assert weight.grad is not None
        assert not weight.grad[~mask].any()
        assert weight.grad[mask].any()


def test_a_text_may_be_cut_and_continued() -> None:
    for model in (pruned_model().eval(), StackedLSTM(WORDS, tiny_config()).eval()):
        whole, _ = model(WORDS_TB, model.zero_state(2))
        first, state = model(WORDS_TB[:1], model.zero_state(2))
        second, _ = model(WORDS_TB[1:], state)
        torch.testing.assert_close(torch.cat([first, second]), whole)


@pytest.mark.parametrize("kind", [MaskedHLSTM, StackedLSTM])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_loss_and_weights_are_float32_at_any_precision(
    kind: type[LanguageModel], precision: str
) -> None:
    model = kind(WORDS, tiny_config(precision=precision)).train()
    scores_nv, state = model(WORDS_TB, model.zero_state(2))
    assert scores_nv.dtype == getattr(torch, precision)
    loss = mean_loss(scores_nv, WORDS_TB.flatten())
    assert loss.dtype == torch.float32
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    assert all(each.dtype == torch.float32 and not each.requires_grad for each in state)


@pytest.mark.parametrize("kind", [MaskedHLSTM, StackedLSTM])
def test_a_model_begins_with_how_common_words_are(kind: type[LanguageModel]) -> None:
    model = kind(WORDS, tiny_config()).eval()
    with torch.no_grad():
        model.table.zero_()
    count_v = torch.arange(WORDS)
    model.set_word_counts(count_v)
    scores_nv, _ = model(WORDS_TB, model.zero_state(2))
    # Without a table nothing but the bias is left: word v has v + 1 of 1 + 2 + … + V shares.
    expected_v = (count_v + 1) / (WORDS * (WORDS + 1) / 2)
    torch.testing.assert_close(scores_nv.softmax(1), expected_v.expand_as(scores_nv))


def test_the_mean_loss_of_rounded_scores_is_not_rounded_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_nv = torch.randn(400, 1000, generator=generator).bfloat16()
    words_n = torch.randint(1000, (400,), generator=generator)
    exact = F.cross_entropy(scores_nv.double(), words_n)
    loss = mean_loss(scores_nv, words_n).double()
    # Neighbours in bfloat16 lie 4e-3 apart, relatively; the mean of 400 is far closer.
    torch.testing.assert_close(loss, exact, rtol=3e-4, atol=0)


@pytest.mark.parametrize(
    "name", ["dropout_words", "dropout_embedding", "dropout_gates", "dropout_output"]
)
@pytest.mark.parametrize("kind", [MaskedHLSTM, StackedLSTM])
def test_each_dropout_acts_in_training_alone(kind: type[LanguageModel], name: str) -> None:
    none = dict.fromkeys(
        ("dropout_words", "dropout_embedding", "dropout_gates", "dropout_output"), 0.0
    )
    torch.manual_seed(0)
    model = kind(WORDS, tiny_config(**{**none, name: 0.5}))
    state = model.zero_state(2)
    exact = model.eval()(WORDS_TB, state)[0]
    assert model.eval()(WORDS_TB, state)[0].equal(exact)
    model.train()
    assert not model(WORDS_TB, state)[0].equal(model(WORDS_TB, state)[0])
    model.config = model.config.with_changes({name: 0.0})
    torch.testing.assert_close(model(WORDS_TB, state)[0], exact)


def test_dropped_words_read_as_zero_and_the_others_grow() -> None:
    torch.manual_seed(1)
    config = tiny_config(dropout_words=0.5, dropout_embedding=0.0)
    model = MaskedHLSTM(WORDS, config).train()
    words_tb = torch.arange(WORDS)[:, None].expand(-1, 2)
    x_tbe = model.embed(words_tb)
    table_ve = model.table
    dropped = x_tbe.abs().sum((1, 2)) == 0
    assert 0 < int(dropped.sum()) < WORDS
    # Kept ones count double, so that the mean stays; both occurrences of a word alike.
    torch.testing.assert_close(x_tbe[~dropped], 2 * table_ve[~dropped][:, None].expand(-1, 2, -1))


def test_dropped_columns_stay_dropped_at_all_steps() -> None:
    torch.manual_seed(1)
    model = MaskedHLSTM(WORDS, tiny_config(dropout_words=0.0, dropout_embedding=0.5)).train()
    x_tbe = model.embed(WORDS_TB)
    is_zero = x_tbe == 0
    assert is_zero.any() and not is_zero.all()
    assert is_zero.equal(is_zero[:1].expand_as(is_zero))


def test_widening_adds_dead_units_and_keeps_the_function() -> None:
    model = pruned_model().eval()
    before = model(WORDS_TB, model.zero_state(2))[0]
    live = model.count_recurrent_parameters()
    model.widen({"gate_width": 15, "state_width": 10})
    assert model.widths == {"gate_width": 15, "state_width": 10}
    assert model.dims == (9, 6)
    assert model.count_recurrent_parameters() == live
    assert model.table.shape == (WORDS, 10)
    torch.testing.assert_close(model(WORDS_TB, model.zero_state(2))[0], before)
    # Under full masks, the new units are there, but silent: their weights are zero.
    model.masks = full_masks(model.layout, model.weights)
    assert model.dims == (15, 10)
    assert not model.weights["gate_ksg"][:, 8:].any()
    assert model.table[:, 8:].all()


def test_masks_and_dims_follow_each_other() -> None:
    model = pruned_model()
    assert int(live_hidden_units(model.masks).sum()) == 4 * 9
    assert int(live_states(model.masks).sum()) == 6
    masks = model.masks.weights
    assert not any(weight[~masks[name]].any() for name, weight in model.weights.items())


def test_masks_move_with_the_model() -> None:
    model = pruned_model()
    assert not any("mask" in name for name in model.state_dict())  # they are saved by themselves
    live = model.count_recurrent_parameters()
    masks = model.to("meta").masks
    assert all(mask.is_meta for mask in (*masks.weights.values(), *masks.units.values()))
    assert pruned_model().double().count_recurrent_parameters() == live


@pytest.mark.parametrize("kind", [MaskedHLSTM, StackedLSTM])
def test_penalties_are_those_of_the_states(kind: type[LanguageModel]) -> None:
    torch.manual_seed(0)
    model = kind(WORDS, tiny_config(activation_penalty=2.0, change_penalty=3.0)).eval()
    targets_tb = torch.randint(WORDS, WORDS_TB.shape)
    with torch.no_grad():
        loss = model.find_loss(WORDS_TB, targets_tb, model.zero_state(2))
        h_tbs, _, _ = model.run(WORDS_TB, model.zero_state(2))
        scores_nv, _ = model(WORDS_TB, model.zero_state(2))
    torch.testing.assert_close(loss.value, F.cross_entropy(scores_nv, targets_tb.flatten()))
    squares = sum(float(h.square().sum()) for h in h_tbs) / h_tbs.numel()
    changes = h_tbs.diff(dim=0)
    expected = float(loss.value) + 2 * squares + 3 * float((changes**2).sum()) / changes.numel()
    assert float(loss.penalised) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [MaskedHLSTM, StackedLSTM])
def test_weight_drop_spares_what_isnt_recurrent(kind: type[LanguageModel]) -> None:
    torch.manual_seed(0)
    none = {"dropout_words": 0.0, "dropout_embedding": 0.0, "dropout_gates": 0.0}
    model = kind(WORDS, tiny_config(dropout_output=0.0, dropout_recurrent=0.5, **none))
    state = model.zero_state(2)
    with torch.no_grad():
        one = model.eval().run(WORDS_TB[:1], state)[0]
        # From zero states, recurrent weights have no effect: the first step is the same.
        assert torch.equal(model.train().run(WORDS_TB[:1], state)[0], one)
        first, second = (model.run(WORDS_TB, state)[0] for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(model.eval().run(WORDS_TB, state)[0], model.run(WORDS_TB, state)[0])
