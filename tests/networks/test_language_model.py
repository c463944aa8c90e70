from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from profiler_service.networks import HLSTMLanguageModel, LSTMLanguageModel


def model_of(vocabulary: int, embedding_width: int, state_width: int) -> HLSTMLanguageModel:
    torch.manual_seed(0)
    return HLSTMLanguageModel(vocabulary, embedding_width, state_width, 6).double().eval()


WORDS_TB = torch.tensor([[0, 10], [3, 3], [9, 1]])


@pytest.mark.parametrize("state_width", [2, 4, 5])
def test_scores_are_states_times_the_tables_first_columns(state_width: int) -> None:
    model = model_of(11, 4, state_width)
    torch.nn.init.normal_(model.decoder_bias_v)
    scores_tbv, (h_bs, _) = model(WORDS_TB)
    assert scores_tbv.shape == (3, 2, 11)
    table = model.table_vm
    assert table.shape == (11, max(4, state_width))
    h_tbs, _ = model.layer(table[:, :4][WORDS_TB])
    torch.testing.assert_close(h_bs, h_tbs[-1])
    expected = h_tbs @ table[:, :state_width].t() + model.decoder_bias_v
    torch.testing.assert_close(scores_tbv, expected)


def test_a_text_may_be_cut_and_continued() -> None:
    model = model_of(11, 4, 3)
    whole, _ = model(WORDS_TB)
    first, state = model(WORDS_TB[:1])
    second, _ = model(WORDS_TB[1:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_gradients_reach_every_weight_and_the_table_from_both_ends() -> None:
    model = model_of(11, 4, 3).train()
    scores_tbv, _ = model(WORDS_TB)
    loss = F.cross_entropy(scores_tbv.flatten(0, 1), WORDS_TB.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    table_grad = model.table_vm.grad
    assert table_grad is not None
    # As decoder, every word's first three columns; as embedding, the fourth of words read.
    read = sorted(set(WORDS_TB.flatten().tolist()))
    assert (table_grad[:, :3] != 0).all()
    assert table_grad[:, 3].nonzero().flatten().tolist() == read


def test_published_number_of_weights() -> None:
    with torch.device("meta"):
        model = HLSTMLanguageModel(10_000, 400, 317, 1197)
    weights = model.layer.weights()
    matrices = (weights.input_kgi, weights.recurrent_kgs, weights.gate_ksg)
    # 4 · (1197 · (400 + 317) + 317 · 1197); the published 3.21M are 65 % of them.
    assert sum(each.numel() for each in matrices) == 4_950_792
    assert model.table_vm.shape == (10_000, 400)


def test_words_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(IndexError):
        model_of(10, 4, 3)(WORDS_TB)


def test_words_without_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[steps, batch, 4\]"):
        model_of(11, 4, 3)(WORDS_TB[:, 0])


def test_the_stacked_lstm_scores_by_the_table_that_embeds() -> None:
    torch.manual_seed(0)
    model = LSTMLanguageModel(11, 4, 6).double().eval()
    torch.nn.init.normal_(model.decoder_bias_v)
    h_tbe, _ = model.second(model.first(model.table_ve[WORDS_TB])[0])
    expected = h_tbe @ model.table_ve.t() + model.decoder_bias_v
    found_tbv, state = model(WORDS_TB)
    torch.testing.assert_close(found_tbv, expected)
    first_tbv, state = model(WORDS_TB[:2])
    second_tbv, _ = model(WORDS_TB[2:], state)
    torch.testing.assert_close(torch.cat([first_tbv, second_tbv]), expected)


def test_the_stacked_lstms_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = LSTMLanguageModel(10_000, 400, 1500)
    assert model.count_recurrent_parameters() == 14_455_200


def test_both_layers_of_the_baseline_begin_with_an_open_forget_gate() -> None:
    model = LSTMLanguageModel(11, 2, 3)
    for layer, hidden in ((model.first, 3), (model.second, 2)):
        weights = dict(layer.named_parameters())
        sums = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        # torch's order of the gates is i, f, g, o.
        assert sums[hidden : 2 * hidden].tolist() == [1.0] * hidden
        assert not (sums[:hidden] == 1.0).any()
