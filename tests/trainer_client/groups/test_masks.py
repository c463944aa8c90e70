"""Masks by hand on tiny layers, and their invariants on random ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.groups.layers import (
    live_hidden_units,
    live_states,
    outputs,
    random_inputs,
    random_weights,
    units,
)
from trainer_client.groups.discovery import find_units
from trainer_client.groups.layers import HIDDEN, HLSTM_LAYOUT, STATE
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    count_weights,
    full_masks,
    map_matrices,
    scale_for_density,
    seed_masks,
    without_unconnected,
    without_units,
)
from trainer_client.groups.shrinking import shrink


def check_dead_units_have_nothing(masks: Masks) -> None:
    """Asserts that no dead unit has a live weight, and that the gates agree on the states."""
    dead_kg, dead_s = ~live_hidden_units(masks), ~live_states(masks)
    assert not masks.weights["input_kgi"][dead_kg].any()
    assert not masks.weights["recurrent_kgs"][dead_kg].any()
    assert not masks.weights["gate_ksg"].transpose(1, 2)[dead_kg].any()
    assert not masks.weights["recurrent_kgs"][:, :, dead_s].any()
    assert not masks.weights["gate_ksg"][:, dead_s].any()
    assert (masks.weights["gate_bias_ks"] == live_states(masks)).all()


def pairs(first: Masks, second: Masks) -> list[tuple[Tensor, Tensor]]:
    """Each parameter's mask in both."""
    return [(mask, second.weights[name]) for name, mask in first.weights.items()]


@st.composite
def masked_layers(draw: st.DrawFn) -> tuple[dict[str, Tensor], Masks]:
    """A layer with random weights, from which units and weights have been taken at random."""
    sizes = {name: draw(st.integers(1, 5)) for name in ("input_size", "gate_width", "state_width")}
    seed = draw(st.integers(0, 1 << 30))
    weights = random_weights(**sizes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    masks = seed_masks(HLSTM_LAYOUT, weights, density=draw(st.floats(0.2, 1)), generator=generator)
    dead = draw(st.floats(0, 0.8))
    masks = without_units(
        HLSTM_LAYOUT,
        masks,
        units(
            hidden_kg=torch.rand(4, sizes["gate_width"], generator=generator) < dead,
            state_s=torch.rand(sizes["state_width"], generator=generator) < dead,
        ),
    )
    return weights, masks


def test_a_seed_has_exactly_its_density_in_every_matrix() -> None:
    weights = random_weights(input_size=4, gate_width=5, state_width=3)
    masks = seed_masks(
        HLSTM_LAYOUT, weights, density=0.4, generator=torch.Generator().manual_seed(3)
    )
    # H: 5 · (4 + 3) = 35, of which 14 live; W: 3 · 5 = 15, of which 6 live.
    assert (
        masks.weights["input_kgi"].sum((1, 2)) + masks.weights["recurrent_kgs"].sum((1, 2))
    ).tolist() == [14] * 4
    assert masks.weights["gate_ksg"].sum((1, 2)).tolist() == [6] * 4
    assert count_weights(HLSTM_LAYOUT, masks) == 4 * 20
    assert masks.weights["hidden_bias_kg"].all() and masks.weights["gate_bias_ks"].all()


def test_a_seed_follows_its_generator() -> None:
    weights = random_weights(input_size=4, gate_width=5, state_width=3)
    first, again, other = (
        seed_masks(
            HLSTM_LAYOUT, weights, density=0.5, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 1, 2)
    )
    assert first.weights["gate_ksg"].equal(again.weights["gate_ksg"])
    assert not first.weights["gate_ksg"].equal(other.weights["gate_ksg"])


@pytest.mark.parametrize("density", [0.0, 1.1, float("nan")])
def test_a_seed_needs_a_density(density: float) -> None:
    weights = random_weights(input_size=1, gate_width=1, state_width=1)
    with pytest.raises(InvalidRequestError):
        seed_masks(HLSTM_LAYOUT, weights, density=density, generator=torch.Generator())


def test_the_published_number_of_weights() -> None:
    # One layer of the paper's model: 4 · (1500 · (400 + 400) + 400 · 1500) = 7,200,000.
    weights = random_weights(input_size=400, gate_width=1500, state_width=400)
    assert count_weights(HLSTM_LAYOUT, full_masks(HLSTM_LAYOUT, weights)) == 7_200_000


def test_matrices_are_mapped_gate_by_gate() -> None:
    weights = random_weights(input_size=2, gate_width=3, state_width=1)
    seen: list[tuple[int, ...]] = []

    def negate(matrix: Tensor) -> Tensor:
        seen.append(tuple(matrix.shape))
        return -matrix

    mapped = map_matrices(HLSTM_LAYOUT, negate, weights)
    assert seen == [(3, 3)] * 4 + [(1, 3)] * 4
    assert mapped["input_kgi"].equal(-weights["input_kgi"])
    assert mapped["recurrent_kgs"].equal(-weights["recurrent_kgs"])
    assert mapped["gate_ksg"].equal(-weights["gate_ksg"])
    assert mapped["gate_bias_ks"] is weights["gate_bias_ks"]


def test_a_unit_takes_its_rows_and_columns_with_it() -> None:
    # One input, two hidden units a gate, two states. Gate 1's hidden unit 0 dies, and state 1.
    weights = random_weights(input_size=1, gate_width=2, state_width=2)
    hidden_kg = torch.zeros(4, 2, dtype=torch.bool)
    hidden_kg[1, 0] = True
    masks = without_units(
        HLSTM_LAYOUT,
        full_masks(HLSTM_LAYOUT, weights),
        units(hidden_kg=hidden_kg, state_s=torch.tensor([False, True])),
    )
    assert masks.weights["input_kgi"].int().tolist() == [
        [[1], [1]],
        [[0], [1]],
        [[1], [1]],
        [[1], [1]],
    ]
    # Column 1, of the dead state, is gone everywhere; row 0 in gate 1 only.
    assert masks.weights["recurrent_kgs"][0].int().tolist() == [[1, 0], [1, 0]]
    assert masks.weights["recurrent_kgs"][1].int().tolist() == [[0, 0], [1, 0]]
    # In W the state is row 1, the hidden unit column 0.
    assert masks.weights["gate_ksg"][0].int().tolist() == [[1, 1], [0, 0]]
    assert masks.weights["gate_ksg"][1].int().tolist() == [[0, 1], [0, 0]]
    assert live_hidden_units(masks).int().tolist() == [[1, 1], [0, 1], [1, 1], [1, 1]]
    assert live_states(masks).tolist() == [True, False]
    check_dead_units_have_nothing(masks)


def test_death_spreads_to_what_hung_on_it() -> None:
    # State 0 has one weight in W: from gate 2's hidden unit 1, whose row of H is empty. So the
    # unit dies, then the state; then hidden unit 0 of gate 3, whose only input was state 0.
    weights = random_weights(input_size=1, gate_width=2, state_width=2)
    masks = full_masks(HLSTM_LAYOUT, weights)
    masks.weights["gate_ksg"][:, 0] = False
    masks.weights["gate_ksg"][2, 0, 1] = True
    masks.weights["input_kgi"][2, 1] = False
    masks.weights["recurrent_kgs"][2, 1] = False
    masks.weights["input_kgi"][3, 0] = False
    masks.weights["recurrent_kgs"][3, 0, 1] = False
    after = without_unconnected(HLSTM_LAYOUT, masks)
    assert live_states(after).tolist() == [False, True]
    assert live_hidden_units(after).int().tolist() == [[1, 1], [1, 1], [1, 0], [0, 1]]
    check_dead_units_have_nothing(after)


def test_a_hidden_unit_without_outputs_dies() -> None:
    masks = full_masks(HLSTM_LAYOUT, random_weights(input_size=1, gate_width=2, state_width=2))
    masks.weights["gate_ksg"][0, :, 1] = False
    after = without_unconnected(HLSTM_LAYOUT, masks)
    assert live_hidden_units(after)[0].tolist() == [True, False]
    assert not after.weights["input_kgi"][0, 1].any()


def test_what_is_connected_stays() -> None:
    masks = full_masks(HLSTM_LAYOUT, random_weights(input_size=1, gate_width=2, state_width=2))
    after = without_unconnected(HLSTM_LAYOUT, masks)
    assert all(a.equal(b) for a, b in pairs(masks, after))


@given(masked_layers())
@settings(deadline=None, max_examples=50)
def test_nothing_dead_stays_alive(layer: tuple[dict[str, Tensor], Masks]) -> None:
    _, masks = layer
    check_dead_units_have_nothing(masks)
    after = without_unconnected(HLSTM_LAYOUT, masks)
    check_dead_units_have_nothing(after)
    # Only ever fewer weights, and every unit left has inputs, and outputs.
    assert all(not (b & ~a).any() for a, b in pairs(masks, after))
    live_kg = live_hidden_units(after)
    assert (after.weights["input_kgi"].any(2) | after.weights["recurrent_kgs"].any(2))[
        live_kg
    ].all()
    assert after.weights["gate_ksg"].any(1)[live_kg].all()
    assert after.weights["gate_ksg"].any(2).any(0)[live_states(after)].all()


@given(masked_layers())
@settings(deadline=None, max_examples=50)
def test_a_shrunk_layer_computes_the_same(layer: tuple[dict[str, Tensor], Masks]) -> None:
    weights, masks = layer
    x_tbi = random_inputs(steps=4, batch=2, input_size=weights["input_kgi"].shape[2])
    masked_tbs = outputs(apply_masks(weights, masks), x_tbi)
    # A dead state is zero throughout.
    assert not masked_tbs[:, :, ~live_states(masks)].any()
    if not live_states(masks).any() or not live_hidden_units(masks).any():
        return
    shrunk = shrink(HLSTM_LAYOUT, weights, masks)
    assert shrunk.weights["gate_ksg"].shape == (
        4,
        int(live_states(masks).sum()),
        int(live_hidden_units(masks).sum(1).max()),
    )
    small_tbs = outputs(shrunk.weights, x_tbi)
    torch.testing.assert_close(small_tbs, masked_tbs[:, :, shrunk.index[STATE]])
    assert count_weights(HLSTM_LAYOUT, shrunk.masks) == count_weights(HLSTM_LAYOUT, masks)


def test_shrinking_keeps_the_order_and_pads_with_dead_units() -> None:
    weights = random_weights(input_size=1, gate_width=4, state_width=3)
    hidden_kg = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]).bool()
    masks = without_units(
        HLSTM_LAYOUT,
        full_masks(HLSTM_LAYOUT, weights),
        units(hidden_kg=hidden_kg, state_s=torch.tensor([True, False, False])),
    )
    shrunk = shrink(HLSTM_LAYOUT, weights, masks)
    # Gate 3 has two units left, the others three: gate 3 keeps its first dead one, unit 0.
    assert [shrunk.index[name].tolist() for name in HIDDEN] == [
        [1, 2, 3],
        [0, 2, 3],
        [0, 1, 2],
        [0, 1, 3],
    ]
    assert shrunk.index[STATE].tolist() == [1, 2]
    assert shrunk.weights["input_kgi"][3, 0, 0] == 0
    assert shrunk.weights["gate_ksg"][1, 0, 2] == weights["gate_ksg"][1, 1, 3]
    assert shrunk.weights["recurrent_kgs"][0, 0, 1] == weights["recurrent_kgs"][0, 1, 2]
    wide = shrink(HLSTM_LAYOUT, weights, masks, widths={"gate_width": 4, "state_width": 3})
    live = apply_masks(weights, masks)
    assert all(wide.weights[name].equal(weight) for name, weight in live.items())


@pytest.mark.parametrize("widths", [{"gate_width": 1}, {"gate_width": 4}, {"state_width": 1}])
def test_a_width_that_doesnt_fit_is_refused(widths: dict[str, int]) -> None:
    weights = random_weights(input_size=1, gate_width=3, state_width=2)
    with pytest.raises(InvalidRequestError) as raised:
        shrink(HLSTM_LAYOUT, weights, full_masks(HLSTM_LAYOUT, weights), widths=widths)
    assert raised.value.hint


def test_a_sparse_seed_varies_as_the_whole_layer() -> None:
    layer = nn.Sequential(nn.Linear(400, 300, bias=True), nn.ReLU(), nn.Linear(300, 2))
    layout = find_units(layer, torch.randn(2, 400)).layout
    weights = {name: each.detach() for name, each in layer.named_parameters()}
    scaled = scale_for_density(layout, weights, density=0.25)
    # 1/√0.25 = 2. Biases don't add up, and stay.
    assert torch.equal(scaled["0.weight"], 2 * weights["0.weight"])
    assert torch.equal(scaled["0.bias"], weights["0.bias"])
    generator = torch.Generator().manual_seed(0)
    masks = seed_masks(layout, scaled, density=0.25, generator=generator)
    x_bi = torch.randn(500, 400, generator=generator)
    whole, seed = (
        x_bi @ each.t() for each in (weights["0.weight"], apply_masks(scaled, masks)["0.weight"])
    )
    assert float(seed.std() / whole.std()) == pytest.approx(1, rel=0.05)
