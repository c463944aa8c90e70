"""Masks by hand on tiny layers, and their invariants on random ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from profiler_service.networks import HLSTMWeights
from tests.trainer_client.groups.layers import outputs, random_inputs, random_weights
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    count_weights,
    full_masks,
    live_hidden_units,
    live_states,
    map_matrices,
    seed_masks,
    shrink,
    without_unconnected,
    without_units,
)


def check_dead_units_have_nothing(masks: Masks) -> None:
    """Asserts that no dead unit has a live weight, and that the gates agree on the states."""
    dead_kg, dead_s = ~live_hidden_units(masks), ~live_states(masks)
    assert not masks.input_kgi[dead_kg].any()
    assert not masks.recurrent_kgs[dead_kg].any()
    assert not masks.gate_ksg.transpose(1, 2)[dead_kg].any()
    assert not masks.recurrent_kgs[:, :, dead_s].any()
    assert not masks.gate_ksg[:, dead_s].any()
    assert (masks.gate_bias_ks == live_states(masks)).all()


@st.composite
def masked_layers(draw: st.DrawFn) -> tuple[HLSTMWeights, Masks]:
    """A layer with random weights, from which units and weights have been taken at random."""
    sizes = {name: draw(st.integers(1, 5)) for name in ("input_size", "gate_width", "state_width")}
    seed = draw(st.integers(0, 1 << 30))
    weights = random_weights(**sizes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    masks = seed_masks(weights, density=draw(st.floats(0.2, 1)), generator=generator)
    dead = draw(st.floats(0, 0.8))
    masks = without_units(
        masks,
        hidden_kg=torch.rand(4, sizes["gate_width"], generator=generator) < dead,
        state_s=torch.rand(sizes["state_width"], generator=generator) < dead,
    )
    return weights, masks


def test_a_seed_has_exactly_its_density_in_every_matrix() -> None:
    weights = random_weights(input_size=4, gate_width=5, state_width=3)
    masks = seed_masks(weights, density=0.4, generator=torch.Generator().manual_seed(3))
    # H: 5 · (4 + 3) = 35, of which 14 live; W: 3 · 5 = 15, of which 6 live.
    assert (masks.input_kgi.sum((1, 2)) + masks.recurrent_kgs.sum((1, 2))).tolist() == [14] * 4
    assert masks.gate_ksg.sum((1, 2)).tolist() == [6] * 4
    assert count_weights(masks) == 4 * 20
    assert masks.hidden_bias_kg.all() and masks.gate_bias_ks.all()


def test_a_seed_follows_its_generator() -> None:
    weights = random_weights(input_size=4, gate_width=5, state_width=3)
    first, again, other = (
        seed_masks(weights, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.gate_ksg.equal(again.gate_ksg)
    assert not first.gate_ksg.equal(other.gate_ksg)


@pytest.mark.parametrize("density", [0.0, 1.1, float("nan")])
def test_a_seed_needs_a_density(density: float) -> None:
    weights = random_weights(input_size=1, gate_width=1, state_width=1)
    with pytest.raises(InvalidRequestError):
        seed_masks(weights, density=density, generator=torch.Generator())


def test_the_published_number_of_weights() -> None:
    # One layer of the paper's model: 4 · (1500 · (400 + 400) + 400 · 1500) = 7,200,000.
    shapes = ((4, 1500, 400), (4, 1500, 400), (4, 1500), (4, 400, 1500), (4, 400))
    assert count_weights(full_masks(HLSTMWeights(*map(torch.empty, shapes)))) == 7_200_000


def test_matrices_are_mapped_gate_by_gate() -> None:
    weights = random_weights(input_size=2, gate_width=3, state_width=1)
    seen: list[tuple[int, ...]] = []

    def negate(matrix: Tensor) -> Tensor:
        seen.append(tuple(matrix.shape))
        return -matrix

    mapped = map_matrices(negate, weights)
    assert seen == [(3, 3)] * 4 + [(1, 3)] * 4
    assert mapped.input_kgi.equal(-weights.input_kgi)
    assert mapped.recurrent_kgs.equal(-weights.recurrent_kgs)
    assert mapped.gate_ksg.equal(-weights.gate_ksg)
    assert mapped.gate_bias_ks is weights.gate_bias_ks


def test_a_unit_takes_its_rows_and_columns_with_it() -> None:
    # One input, two hidden units a gate, two states. Gate 1's hidden unit 0 dies, and state 1.
    weights = random_weights(input_size=1, gate_width=2, state_width=2)
    hidden_kg = torch.zeros(4, 2, dtype=torch.bool)
    hidden_kg[1, 0] = True
    masks = without_units(
        full_masks(weights), hidden_kg=hidden_kg, state_s=torch.tensor([False, True])
    )
    assert masks.input_kgi.int().tolist() == [[[1], [1]], [[0], [1]], [[1], [1]], [[1], [1]]]
    # Column 1, of the dead state, is gone everywhere; row 0 in gate 1 only.
    assert masks.recurrent_kgs[0].int().tolist() == [[1, 0], [1, 0]]
    assert masks.recurrent_kgs[1].int().tolist() == [[0, 0], [1, 0]]
    # In W the state is row 1, the hidden unit column 0.
    assert masks.gate_ksg[0].int().tolist() == [[1, 1], [0, 0]]
    assert masks.gate_ksg[1].int().tolist() == [[0, 1], [0, 0]]
    assert live_hidden_units(masks).int().tolist() == [[1, 1], [0, 1], [1, 1], [1, 1]]
    assert live_states(masks).tolist() == [True, False]
    check_dead_units_have_nothing(masks)


def test_death_spreads_to_what_hung_on_it() -> None:
    # State 0 has one weight in W: from gate 2's hidden unit 1, whose row of H is empty. So the
    # unit dies, then the state; then hidden unit 0 of gate 3, whose only input was state 0.
    weights = random_weights(input_size=1, gate_width=2, state_width=2)
    masks = full_masks(weights)
    masks.gate_ksg[:, 0] = False
    masks.gate_ksg[2, 0, 1] = True
    masks.input_kgi[2, 1] = False
    masks.recurrent_kgs[2, 1] = False
    masks.input_kgi[3, 0] = False
    masks.recurrent_kgs[3, 0, 1] = False
    after = without_unconnected(masks)
    assert live_states(after).tolist() == [False, True]
    assert live_hidden_units(after).int().tolist() == [[1, 1], [1, 1], [1, 0], [0, 1]]
    check_dead_units_have_nothing(after)


def test_a_hidden_unit_without_outputs_dies() -> None:
    masks = full_masks(random_weights(input_size=1, gate_width=2, state_width=2))
    masks.gate_ksg[0, :, 1] = False
    after = without_unconnected(masks)
    assert live_hidden_units(after)[0].tolist() == [True, False]
    assert not after.input_kgi[0, 1].any()


def test_what_is_connected_stays() -> None:
    masks = full_masks(random_weights(input_size=1, gate_width=2, state_width=2))
    after = without_unconnected(masks)
    assert all(a.equal(b) for a, b in zip(masks, after, strict=True))


@given(masked_layers())
@settings(deadline=None, max_examples=50)
def test_nothing_dead_stays_alive(layer: tuple[HLSTMWeights, Masks]) -> None:
    _, masks = layer
    check_dead_units_have_nothing(masks)
    after = without_unconnected(masks)
    check_dead_units_have_nothing(after)
    # Only ever fewer weights, and every unit left has inputs, and outputs.
    assert all(not (b & ~a).any() for a, b in zip(masks, after, strict=True))
    live_kg = live_hidden_units(after)
    assert (after.input_kgi.any(2) | after.recurrent_kgs.any(2))[live_kg].all()
    assert after.gate_ksg.any(1)[live_kg].all()
    assert after.gate_ksg.any(2).any(0)[live_states(after)].all()


@given(masked_layers())
@settings(deadline=None, max_examples=50)
def test_a_shrunk_layer_computes_the_same(layer: tuple[HLSTMWeights, Masks]) -> None:
    weights, masks = layer
    x_tbi = random_inputs(steps=4, batch=2, input_size=weights.input_kgi.shape[2])
    masked_tbs = outputs(apply_masks(weights, masks), x_tbi)
    # A dead state is zero throughout.
    assert not masked_tbs[:, :, ~live_states(masks)].any()
    if not live_states(masks).any() or not live_hidden_units(masks).any():
        return
    shrunk = shrink(weights, masks)
    assert shrunk.weights.gate_ksg.shape == (
        4,
        int(live_states(masks).sum()),
        int(live_hidden_units(masks).sum(1).max()),
    )
    small_tbs = outputs(shrunk.weights, x_tbi)
    torch.testing.assert_close(small_tbs, masked_tbs[:, :, shrunk.state_index_s])
    assert count_weights(shrunk.masks) == count_weights(masks)


def test_shrinking_keeps_the_order_and_pads_with_dead_units() -> None:
    weights = random_weights(input_size=1, gate_width=4, state_width=3)
    hidden_kg = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]).bool()
    masks = without_units(
        full_masks(weights), hidden_kg=hidden_kg, state_s=torch.tensor([True, False, False])
    )
    shrunk = shrink(weights, masks)
    # Gate 3 has two units left, the others three: gate 3 keeps its first dead one, unit 0.
    assert shrunk.hidden_index_kg.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 2], [0, 1, 3]]
    assert shrunk.state_index_s.tolist() == [1, 2]
    assert shrunk.weights.input_kgi[3, 0, 0] == 0
    assert shrunk.weights.gate_ksg[1, 0, 2] == weights.gate_ksg[1, 1, 3]
    assert shrunk.weights.recurrent_kgs[0, 0, 1] == weights.recurrent_kgs[0, 1, 2]
    wide = shrink(weights, masks, gate_width=4, state_width=3)
    assert all(a.equal(b) for a, b in zip(wide.weights, apply_masks(weights, masks), strict=True))


@pytest.mark.parametrize("widths", [{"gate_width": 1}, {"gate_width": 4}, {"state_width": 1}])
def test_a_width_that_doesnt_fit_is_refused(widths: dict[str, int]) -> None:
    weights = random_weights(input_size=1, gate_width=3, state_width=2)
    with pytest.raises(InvalidRequestError) as raised:
        shrink(weights, full_masks(weights), **widths)
    assert raised.value.hint
