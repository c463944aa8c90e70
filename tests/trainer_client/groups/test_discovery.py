"""What is found of modules, and that what was found can be removed and added."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer_client.groups.discovery import find_units
from trainer_client.groups.layout import Layout, LayoutError, Part
from trainer_client.groups.masks import apply_masks, full_masks
from trainer_client.groups.pruning import prune_units
from trainer_client.groups.shrinking import shrink, widen
from trainer_client.groups.surgery import with_parameters

# Shapes: T time steps, B batch.


class Tagger(nn.Module):
    """Words, two recurrent layers, a hidden layer, tags: a user's own module."""

    def __init__(
        self, kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN] = nn.LSTM, layers: int = 2
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.rnn = kind(5, 6, num_layers=layers)
        self.hidden = nn.Linear(6, 7)
        self.tags = nn.Linear(7, 3)

    def forward(self, words_tb: Tensor) -> Tensor:
        h_tbh, _ = self.rnn(self.embed(words_tb))
        tags: Tensor = self.tags(torch.sigmoid(self.hidden(h_tbh)))
        return tags


WORDS = torch.randint(0, 11, (4, 2), generator=torch.Generator().manual_seed(0))


def parts_of(layout: Layout) -> dict[str, set[tuple[str, int]]]:
    """For each group, the parameters and axes that its units lie along."""
    return {
        group.name: {(part.parameter, part.axis) for part in group.parts} for group in layout.groups
    }


def recurrent(layer: int) -> set[tuple[str, int]]:
    return {
        (f"rnn.weight_ih_l{layer}", 0),
        (f"rnn.weight_hh_l{layer}", 0),
        (f"rnn.weight_hh_l{layer}", 1),
        (f"rnn.bias_ih_l{layer}", 0),
        (f"rnn.bias_hh_l{layer}", 0),
    }


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_units_between_layers_are_found(
    kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN],
) -> None:
    found = find_units(Tagger(kind), WORDS)
    assert parts_of(found.layout) == {
        "embed": {("embed.weight", 1), ("rnn.weight_ih_l0", 1)},
        "rnn.l0": recurrent(0) | {("rnn.weight_ih_l1", 1)},
        "rnn": recurrent(1) | {("hidden.weight", 1)},
        "hidden": {("hidden.weight", 0), ("hidden.bias", 0), ("tags.weight", 1)},
    }
    # Both layers of an nn.LSTM have one width.
    axes = {group.name: group.dimension for group in found.layout.groups}
    assert axes["rnn.l0"] == axes["rnn"] and len(set(axes.values())) == 3
    assert found.fixed == {"tags": "the model returns them"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_was_found_can_be_removed_and_added(
    kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN],
) -> None:
    torch.manual_seed(0)
    model = Tagger(kind).double()
    layout = find_units(model, WORDS).layout
    weights = {name: each.detach() for name, each in model.named_parameters()}
    counts = {group.dimension: 2 for group in layout.groups}
    masks = prune_units(layout, weights, full_masks(layout, weights), counts=counts)
    masked = torch.func.functional_call(model, apply_masks(weights, masks), (WORDS,))
    small = shrink(layout, weights, masks)
    smaller = with_parameters(model, small.weights)
    assert (smaller.embed.embedding_dim, smaller.rnn.hidden_size) == (3, 4)
    assert (smaller.hidden.in_features, smaller.hidden.out_features) == (4, 5)
    torch.testing.assert_close(smaller(WORDS), masked)
    wide, _ = widen(
        layout, small.weights, small.masks, widths={group.dimension: 8 for group in layout.groups}
    )
    torch.testing.assert_close(with_parameters(model, wide)(WORDS), masked)
    assert model.rnn.hidden_size == 6  # the module itself stays


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(3, 6), nn.Linear(6, 4)
        self.outer, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.outer(torch.relu(self.inner(x)))
        result: Tensor = self.last(x)
        return result


def test_layers_whose_outputs_are_added_have_their_units_in_common() -> None:
    found = find_units(Residual(), torch.randn(2, 3))
    assert parts_of(found.layout) == {
        "first": {
            ("first.weight", 0),
            ("first.bias", 0),
            ("outer.weight", 0),
            ("outer.bias", 0),
            ("inner.weight", 1),
            ("last.weight", 1),
        },
        "inner": {("inner.weight", 0), ("inner.bias", 0), ("outer.weight", 1)},
    }


class Flattened(nn.Module):
    """Each unit has four columns in the next layer, neighbours or not."""

    def __init__(self, units_first: bool) -> None:
        super().__init__()
        self.units_first = units_first
        self.first, self.last = nn.Linear(3, 5), nn.Linear(20, 2)

    def forward(self, x_b4i: Tensor) -> Tensor:
        h_b4u = self.first(x_b4i)
        flat = (h_b4u.transpose(1, 2) if self.units_first else h_b4u).flatten(1)
        result: Tensor = self.last(flat)
        return result


@pytest.mark.parametrize(("units_first", "runs"), [(True, (1, 4)), (False, (4, 1))])
def test_a_unit_may_have_several_columns(units_first: bool, runs: tuple[int, int]) -> None:
    found = find_units(Flattened(units_first), torch.randn(2, 4, 3))
    (group,) = found.layout.groups
    assert group.parts[-1] == Part(
        parameter="last.weight", axis=1, role="outgoing", before=runs[0], after=runs[1]
    )


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(11, 5), nn.GRU(5, 5)
        self.decode = nn.Linear(5, 11)
        self.decode.weight = self.embed.weight

    def forward(self, words_tb: Tensor) -> Tensor:
        result: Tensor = self.decode(self.rnn(self.embed(words_tb))[0])
        return result


def test_a_shared_weight_is_one_parameter() -> None:
    model = Tied()
    found = find_units(model, WORDS)
    # The decoder reads the recurrent units through the embedding's columns: all are one group.
    (group,) = found.layout.groups
    assert {part.parameter for part in group.parts if "rnn" not in part.parameter} == {
        "embed.weight"
    }
    weights = {name: each.detach() for name, each in model.named_parameters()}
    wide, _ = widen(
        found.layout,
        weights,
        full_masks(found.layout, weights),
        widths={group.dimension: 8},
    )
    wider = with_parameters(model, wide)
    assert wider.decode.weight is wider.embed.weight
    torch.testing.assert_close(wider(WORDS), model(WORDS))


class Through(nn.Module):
    """Two linear layers with something between them."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(3, 4), between, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.between(self.first(x)))
        return result


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True).expand(*x.shape)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(-1)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.LayerNorm(4), "between (LayerNorm) averages over them"),
        (nn.LayerNorm(4, elementwise_affine=False), "between (LayerNorm) averages over them"),
        (nn.RMSNorm(4, elementwise_affine=False), "between (RMSNorm) averages over them, and has"),
        (nn.RMSNorm([5, 4]), "between (RMSNorm) averages over several axes"),
        (Scaled(), "between (Scaled) isn't a layer whose units are known"),
        (Summed(), "last reads several of them as one"),
        (nn.Softmax(-1), "last reads several of them as one"),
        (Reversed(), "last reads them in an order of its own"),
    ],
    ids=[
        *("layer norm", "plain layer norm", "plain rms norm", "rms norm of two axes"),
        *("unknown", "sum", "softmax", "flip"),
    ],
)
def test_units_that_are_mixed_are_left_and_the_reason_is_told(
    between: nn.Module, reason: str
) -> None:
    with pytest.raises(LayoutError) as raised:
        find_units(Through(between), torch.randn(2, 5, 3))
    assert f"first: {reason}" in str(raised.value) and raised.value.hint


class OnlyStates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, proj_size=4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.rnn(x)[0]
        return result


def test_a_recurrent_layer_with_a_projection_is_left() -> None:
    # In float64: torch warns of projections in float32.
    with pytest.raises(LayoutError, match=r"first: between\.rnn \(LSTM\) has a projection"):
        find_units(Through(OnlyStates()).double(), torch.randn(2, 5, 3).double())


class TwoStates(nn.Module):
    """Reads the last state of one of two layers."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer, self.rnn, self.last = layer, nn.LSTM(3, 4, num_layers=2), nn.Linear(4, 2)

    def forward(self, x_tbi: Tensor) -> Tensor:
        _, (h_lbh, _) = self.rnn(x_tbi)
        result: Tensor = self.last(h_lbh[self.layer])
        return result


def test_the_state_of_the_last_layer_may_be_read_but_not_an_inner_one() -> None:
    x_tbi = torch.randn(5, 2, 3)
    found = find_units(TwoStates(1), x_tbi)
    assert ("last.weight", 1) in parts_of(found.layout)["rnn"]
    with pytest.raises(LayoutError, match="rnn: the states of its inner layers are read"):
        find_units(TwoStates(0), x_tbi)


class Beside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.never = nn.Linear(3, 4), nn.Linear(7, 2), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(torch.cat([self.first(x), x], dim=-1))
        return result


def test_a_reader_of_other_things_too_is_left() -> None:
    with pytest.raises(LayoutError) as raised:
        find_units(Beside(), torch.randn(2, 3))
    assert "first: last reads others beside them" in str(raised.value)
    assert "never: the example doesn't reach it" in str(raised.value)


def test_a_module_stays_as_it_was() -> None:
    model = Tagger().train()
    model.hidden.eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    find_units(model, words_tb=WORDS)
    assert model.training and not model.hidden.training
    assert all(each.equal(before[name]) for name, each in model.state_dict().items())
    assert not model.hidden._forward_hooks and not model.hidden._forward_pre_hooks


def test_a_module_without_layers_has_no_units() -> None:
    with pytest.raises(LayoutError, match="it has no layers"):
        find_units(nn.ReLU(), torch.randn(2))
