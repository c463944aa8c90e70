"""Any module as a network with masks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainer_client.groups.growth import grow_units, open_dormant
from trainer_client.groups.layout import Layout, LayoutError, Part, UnitGroup
from trainer_client.groups.network import MaskedModule, masked
from trainer_client.groups.pruning import prune_matrices, prune_units


class Reader(nn.Module):
    """An LSTM of six units that a hidden layer of five reads."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 6, batch_first=True)
        self.hidden = nn.Linear(6, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x_bti: torch.Tensor) -> torch.Tensor:
        h_bth, _ = self.lstm(x_bti)
        scores: torch.Tensor = self.out(torch.relu(self.hidden(h_bth[:, -1])))
        return scores


X_BTI = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> MaskedModule:
    torch.manual_seed(0)
    return masked(Reader(), X_BTI)


def pruned(network: MaskedModule) -> MaskedModule:
    """Without two of six LSTM units and one of five hidden ones, and a tenth of the weights."""
    counts = {"lstm.units": 2, "hidden.units": 1}
    masks = prune_units(network.layout, network.weights, network.masks, counts=counts)
    network.masks = prune_matrices(network.layout, network.weights, masks, ratio=0.1)
    return network


def test_its_units_are_found_and_all_live_at_first(network: MaskedModule) -> None:
    assert network.widths == network.live_widths == {"lstm.units": 6, "hidden.units": 5}
    # LSTM: 4 · 6 · (3 + 6); hidden 5 · 6; out 2 · 5. No biases.
    assert network.count_live_weights() == 216 + 30 + 10
    torch.testing.assert_close(network(X_BTI), network.module(X_BTI))


def test_only_live_weights_compute_and_learn(network: MaskedModule) -> None:
    pruned(network)
    assert network.live_widths == {"lstm.units": 4, "hidden.units": 4}
    with torch.no_grad():
        # Dead weights that an optimiser has moved since don't count.
        for name, weight in network.weights.items():
            weight.add_(~network.masks.weights[name])
    before = network(X_BTI)
    reference = copy.deepcopy(network.module)
    with torch.no_grad():
        for name, mask in network.masks.weights.items():
            reference.get_parameter(name).mul_(mask)
    torch.testing.assert_close(before, reference(X_BTI))
    before.sum().backward()
    for name, weight in network.weights.items():
        assert weight.grad is not None
        assert not weight.grad[~network.masks.weights[name]].any(), name


def test_what_is_shrunk_computes_the_same(network: MaskedModule) -> None:
    pruned(network)
    small = network.shrunk()
    assert isinstance(small, Reader)
    assert (small.lstm.hidden_size, small.hidden.out_features) == (4, 4)
    torch.testing.assert_close(small(X_BTI), network(X_BTI))
    # Wider than what lives, as after growth to an LHP.
    wide = network.shrunk({"lstm.units": 5})
    assert isinstance(wide, Reader) and wide.lstm.hidden_size == 5
    torch.testing.assert_close(wide(X_BTI), network(X_BTI))


def test_growth_beyond_its_widths_computes_the_same_at_first(network: MaskedModule) -> None:
    pruned(network)
    before = network(X_BTI)
    network.widen({"lstm.units": 8, "hidden.units": 5})
    torch.testing.assert_close(network(X_BTI), before)
    generator = torch.Generator().manual_seed(0)
    opened = open_dormant(network.layout, network.weights, network.masks, generator=generator)
    zeros = {name: torch.zeros_like(each) for name, each in network.weights.items()}
    grown = grow_units(
        network.layout,
        opened,
        network.masks,
        zeros,
        counts={"lstm.units": 3, "hidden.units": 1},
        learning_rate=1.0,
    )
    network.masks = grown.masks
    network.load_weights(grown.weights)
    assert network.live_widths == {"lstm.units": 7, "hidden.units": 5}
    # Woken units have random inputs, and zeros where they are read.
    torch.testing.assert_close(network(X_BTI), before)


def test_a_norms_own_numbers_are_learnt_in_training() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 2, 3))
    x_bct = torch.randn(5, 3, 9) + 1
    network = masked(module.eval(), x_bct)
    network.train()(x_bct)
    assert dict(module.named_buffers())["1.running_mean"].any()


def test_a_module_without_units_is_refused() -> None:
    with pytest.raises(LayoutError):
        masked(nn.Linear(3, 2), torch.randn(4, 3))


def test_slices_that_disagree_are_refused() -> None:
    parts = (
        Part(parameter="hidden.weight", axis=0, role="incoming"),
        Part(parameter="out.weight", axis=0, role="outgoing"),
    )
    layout = Layout(groups=(UnitGroup(name="hidden", parts=parts),), matrices=())
    with pytest.raises(LayoutError, match=r"disagree.*5 along axis 0 of hidden\.weight; 2 along"):
        MaskedModule(Reader(), layout)
