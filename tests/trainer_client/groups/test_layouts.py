"""The same functions over other layouts, by hand: `nn.LSTM`, `nn.GRU`, heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.growth import grow_units, open_dormant
from trainer_client.groups.layers import HLSTM_LAYOUT, recurrent_layout
from trainer_client.groups.layout import Layout, LayoutError, Matrix, Part, Tensors, UnitGroup
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    count_weights,
    full_masks,
    without_unconnected,
    without_units,
)
from trainer_client.groups.pruning import prune_matrices, prune_units
from trainer_client.groups.shrinking import shrink, widen

DECODER = Part(parameter="decoder.weight", axis=1, role="outgoing", is_ranked=False)


class Reader(nn.Module):
    """A recurrent layer with three inputs, read by a linear layer."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.rnn = kind(3, hidden, num_layers=layers)
        self.decoder = nn.Linear(hidden, 4)

    def forward(self, x_tbi: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.rnn(x_tbi)[0])
        return decoded


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def lstm_layout(layers: int = 1) -> Layout:
    return recurrent_layout("rnn", num_gates=4, layers=layers, readers=(DECODER,))


def random_lstm(hidden: int = 4, layers: int = 1, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return parameters_of(Reader(nn.LSTM, hidden, layers).double())


def run(kind: type[nn.LSTM] | type[nn.GRU], weights: Tensors, layers: int = 1) -> Tensor:
    """What a model of these parameters computes of fixed inputs."""
    hidden = weights["decoder.weight"].shape[1]
    x_tbi = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    model = Reader(kind, hidden, layers).double()
    return torch.func.functional_call(model, dict(weights), (x_tbi,))  # type: ignore[no-any-return]


def test_a_unit_of_an_lstm_is_a_row_of_each_gate_and_a_column() -> None:
    weights = random_lstm(hidden=2)
    masks = full_masks(lstm_layout(), weights)
    after = without_units(lstm_layout(), masks, {"rnn.l0": torch.tensor([True, False])})
    # Rows 0 … 7 are i0 i1 f0 f1 g0 g1 o0 o1: unit 0 is every second one.
    assert after.weights["rnn.weight_ih_l0"].any(1).tolist() == [False, True] * 4
    # Of the recurrent matrix also column 0.
    assert after.weights["rnn.weight_hh_l0"].int().tolist() == [[0, 0], [0, 1]] * 4
    assert after.weights["rnn.bias_hh_l0"].tolist() == [False, True] * 4
    assert after.weights["decoder.weight"].int().tolist() == [[0, 1]] * 4
    assert after.weights["decoder.bias"].all()
    # 4 · (3 + 2) · 2 of the recurrent layer, then 4 · (3 + 1).
    assert (count_weights(lstm_layout(), masks), count_weights(lstm_layout(), after)) == (40, 16)


def test_an_lstms_units_are_ranked_by_what_belongs_to_each() -> None:
    weights = {name: torch.zeros_like(each) for name, each in random_lstm(hidden=3).items()}
    # Rows 0 … 2 are gate i's, 3 … 5 f's, 6 … 8 g's, 9 … 11 o's. Unit 0 has 1 in f, and 2 in its
    # column of the recurrent matrix. That weight is also in g's row of unit 1, which has 2.5 in o:
    # 4.5. Unit 2 has 2 in i. The decoder's 100 don't count, and a bias doesn't.
    weights["rnn.weight_ih_l0"][3, 0] = -1
    weights["rnn.weight_hh_l0"][7, 0] = 2
    weights["rnn.weight_ih_l0"][10, 1] = 2.5
    weights["rnn.weight_ih_l0"][2, 1] = -2
    weights["decoder.weight"][:, 2] = 100
    weights["rnn.bias_ih_l0"][2] = 100
    masks = full_masks(lstm_layout(), weights)
    pruned = prune_units(lstm_layout(), weights, masks, counts={"rnn.l0": 1})
    assert pruned.units["rnn.l0"].tolist() == [True, True, False]
    # Without unit 2: 3 and 4.5, so unit 0 goes.
    again = prune_units(lstm_layout(), weights, pruned, counts={"rnn.l0": 1})
    assert again.units["rnn.l0"].tolist() == [False, True, False]
    with pytest.raises(InvalidRequestError, match=r"units of rnn\.l0 can't be pruned"):
        prune_units(lstm_layout(), weights, again, counts={"rnn.l0": 1})


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_shrunk_network_computes_the_same(
    kind: type[nn.LSTM] | type[nn.GRU], gates: int, layers: int
) -> None:
    torch.manual_seed(1)
    weights = parameters_of(Reader(kind, 5, layers).double())
    layout = recurrent_layout("rnn", num_gates=gates, layers=layers, readers=(DECODER,))
    dead = {f"rnn.l{each}": torch.arange(5) % 3 == each for each in range(layers)}
    masks = without_units(layout, full_masks(layout, weights), dead)
    live = apply_masks(weights, masks)
    # Layers of one nn.LSTM have one width: the widest of them.
    width = max(masks.count_live().values())
    widths = {f"rnn.l{each}": width for each in range(layers)}
    small = shrink(layout, weights, masks, widths=widths)
    assert small.weights["rnn.weight_hh_l0"].shape == (gates * width, width)
    torch.testing.assert_close(run(kind, small.weights, layers), run(kind, live, layers))
    # And back: zeros at the end, the same function.
    wide, wide_masks = widen(layout, small.weights, small.masks, widths=dict.fromkeys(widths, 7))
    torch.testing.assert_close(run(kind, wide, layers), run(kind, live, layers))
    assert wide_masks.count_live() == masks.count_live()
    assert count_weights(layout, wide_masks) == count_weights(layout, masks)


def grown_lstm() -> tuple[Masks, Tensors, Tensors, Tensors]:
    """Two of four units live: the masks, live weights, opened weights, gradients at the latter."""
    layout, weights = lstm_layout(), random_lstm()
    dead = torch.tensor([False, True, False, True])
    masks = without_units(layout, full_masks(layout, weights), {"rnn.l0": dead})
    opened = open_dormant(layout, weights, masks, generator=torch.Generator().manual_seed(1))
    leaves = {name: each.clone().requires_grad_() for name, each in opened.items()}
    loss = ((run(nn.LSTM, leaves) - 1) ** 2).mean()
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return masks, apply_masks(weights, masks), opened, gradients


def test_opened_units_change_nothing_and_are_heard() -> None:
    masks, live, opened, gradients = grown_lstm()
    torch.testing.assert_close(run(nn.LSTM, opened), run(nn.LSTM, live), rtol=0, atol=0)
    # Rows of dormant units 1 and 3, of each gate, over the 3 inputs and the live states 0 and 2.
    rows = opened["rnn.weight_hh_l0"].view(4, 4, 4)[:, [1, 3]]
    assert (rows[:, :, [0, 2]] != 0).all() and not rows[:, :, [1, 3]].any()
    # Five live inputs: all are within ±1/√5, and some are near it.
    drawn = opened["rnn.weight_ih_l0"].view(4, 4, 3)[:, [1, 3]]
    assert 0.3 < float(drawn.abs().max()) <= 5**-0.5
    # So the decoder's columns have gradients; without opening they would have none.
    assert gradients["decoder.weight"][:, [1, 3]].abs().min() > 0
    assert masks.units["rnn.l0"].tolist() == [True, False, True, False]


def test_a_woken_unit_is_joined_with_what_lived() -> None:
    masks, live, opened, gradients = grown_lstm()
    grown = grow_units(
        lstm_layout(), opened, masks, gradients, counts={"rnn.l0": 2}, learning_rate=0.5
    )
    assert grown.masks.units["rnn.l0"].all()
    # Each woken unit has weights from the inputs and from both old units, to both old units and to
    # the decoder; none from or to the other new one, nor from itself.
    recurrent = grown.masks.weights["rnn.weight_hh_l0"].view(4, 4, 4)
    assert not recurrent[:, [1, 3]][:, :, [1, 3]].any()
    assert recurrent[:, [1, 3]][:, :, [0, 2]].all() and recurrent[:, [0, 2]].all()
    assert grown.masks.weights["decoder.weight"].all()
    for name, after in grown.weights.items():
        woken = grown.masks.weights[name] & ~masks.weights[name]
        torch.testing.assert_close(after[woken], (opened[name] - 0.5 * gradients[name])[woken])
        assert after[~woken].equal(live[name][~woken])


def test_the_lstm_unit_with_the_largest_gradients_wakes() -> None:
    masks, _, opened, _ = grown_lstm()
    gradients = {name: torch.zeros_like(each) for name, each in opened.items()}
    # Unit 3 has 9 from unit 1, which sleeps; unit 1 has 2 from the living unit 0.
    gradients["rnn.weight_hh_l0"][3, 1] = 9
    gradients["rnn.weight_hh_l0"][1, 0] = 2
    grown = grow_units(
        lstm_layout(), opened, masks, gradients, counts={"rnn.l0": 1}, learning_rate=0.1
    )
    assert grown.masks.units["rnn.l0"].tolist() == [True, True, True, False]


def test_weights_are_pruned_matrix_by_matrix_and_lonely_units_follow() -> None:
    weights = random_lstm(hidden=2)
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0"):
        weights[name].view(4, 2, -1)[:, 1] *= 1e-6
    masks = full_masks(lstm_layout(), weights)
    # Half of the 40: the 20 of unit 1, whose inputs are then all gone.
    pruned = prune_matrices(lstm_layout(), weights, masks, ratio=0.5)
    assert pruned.units["rnn.l0"].tolist() == [True, False]
    assert not pruned.weights["decoder.weight"][:, 1].any()
    # Its column of the recurrent matrix goes too: 4 of the 20 that stayed.
    assert count_weights(lstm_layout(), pruned) == 16


def test_heads_have_several_rows_each() -> None:
    # Two heads of width 3: rows 0 … 2 and 3 … 5 of q and v, columns 0 … 2 and 3 … 5 of the output.
    group = UnitGroup(
        name="heads",
        parts=(
            Part(parameter="q", axis=0, role="incoming", after=3),
            Part(parameter="v", axis=0, role="incoming", after=3),
            Part(parameter="out", axis=1, role="outgoing", after=3),
        ),
    )
    layout = Layout(groups=(group,), matrices=(Matrix(blocks=(("q", ()),)),))
    weights = {
        "q": torch.arange(12.0).view(6, 2),
        "v": torch.arange(12.0).view(6, 2),
        "out": torch.arange(12.0).view(2, 6),
    }
    masks = full_masks(layout, weights)
    # Sums: q and v 0 + … + 5 = 15 each against 51; out 0 + 1 + 2 + 6 + 7 + 8 = 24 against 42.
    pruned = prune_units(layout, weights, masks, counts={"heads": 1})
    assert pruned.units["heads"].tolist() == [False, True]
    small = shrink(layout, weights, pruned)
    assert small.weights["q"].equal(weights["q"][3:])
    assert small.weights["out"].equal(weights["out"][:, 3:])
    wide, _ = widen(layout, small.weights, small.masks, widths={"heads": 2})
    assert wide["out"].tolist() == [[3, 4, 5, 0, 0, 0], [9, 10, 11, 0, 0, 0]]


def test_what_is_connected_with_nothing_dies_only_where_it_must() -> None:
    weights = random_lstm(hidden=2)
    masks = full_masks(lstm_layout(), weights)
    for name in ("rnn.weight_hh_l0", "decoder.weight"):
        masks.weights[name][:, 0] = False
    assert without_unconnected(lstm_layout(), masks).units["rnn.l0"].tolist() == [False, True]
    # If something outside reads them, nobody needs outgoing weights.
    output = recurrent_layout("rnn", num_gates=4)
    assert without_unconnected(output, masks).units["rnn.l0"].all()


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        (Layout(groups=(), matrices=()), "no group of units"),
        (recurrent_layout("other", num_gates=4), "needs a parameter other"),
        # Eight rows of a layer with two units aren't three gates.
        (recurrent_layout("rnn", num_gates=3), "isn't a multiple of 3"),
        # Two gates would be four units, but the recurrent matrix has two columns.
        (recurrent_layout("rnn", num_gates=2), "disagree about its units: 4 along axis 0 of rnn"),
        (
            Layout(groups=(UnitGroup(name="g", parts=()),) * 2, matrices=()),
            "several groups are called g",
        ),
        (
            Layout(
                groups=(
                    UnitGroup(
                        name="g",
                        parts=(Part(parameter="decoder.bias", axis=1, role="incoming"),),
                    ),
                ),
                matrices=(),
            ),
            r"decoder\.bias has 1 axes",
        ),
        (
            Layout(
                groups=(
                    *recurrent_layout("rnn", num_gates=4).groups,
                    UnitGroup(
                        name="words",
                        axis="rnn.l0",
                        parts=(Part(parameter="decoder.weight", axis=0, role="incoming"),),
                    ),
                ),
                matrices=(),
            ),
            r"share the axis rnn\.l0, but have 2 and 4 units",
        ),
    ],
)
def test_a_layout_that_doesnt_fit_is_refused(layout: Layout, told: str) -> None:
    with pytest.raises(LayoutError, match=told) as raised:
        layout.check(random_lstm(hidden=2))
    assert raised.value.hint


def test_a_layout_that_fits_is_taken() -> None:
    lstm_layout().check(random_lstm(hidden=2))
    with pytest.raises(LayoutError, match="needs a parameter input_kgi"):
        HLSTM_LAYOUT.check(random_lstm())


def test_a_network_is_only_widened() -> None:
    layout, weights = lstm_layout(), random_lstm()
    with pytest.raises(InvalidRequestError, match="there are 4 units"):
        widen(layout, weights, full_masks(layout, weights), widths={"rnn.l0": 3})
