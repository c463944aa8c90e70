"""Weight growth and Algorithm 2 by hand, then what growth does to the function and the loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.groups.layers import (
    live_hidden_units,
    live_states,
    outputs,
    random_inputs,
    random_weights,
    units,
)
from tests.trainer_client.groups.test_masks import (
    check_dead_units_have_nothing,
    masked_layers,
    pairs,
)
from trainer_client.groups.growth import (
    InvalidGradientError,
    MeanGradient,
    grow_matrices,
    grow_rows_and_columns,
    grow_units,
    grow_weights,
    open_dormant,
)
from trainer_client.groups.layers import HLSTM_LAYOUT
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import Masks, apply_masks, full_masks, without_units

# Weight growth

GRADIENT = torch.tensor([[0.1, -0.9, 0.3, 0.0], [0.8, 0.2, -0.4, 0.7], [-0.5, 0.6, 0.0, 1.0]])


def test_dormant_weights_wake_by_the_gradient_of_the_whole_matrix() -> None:
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]).bool()
    # A third of 12 is 4: the largest four are 1.0, 0.9, 0.8, 0.7. Of these 0.9 and 0.7 sleep.
    grown = grow_weights(mask, GRADIENT, ratio=1 / 3)
    assert grown.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]]


def test_a_weight_without_a_gradient_never_wakes() -> None:
    grown = grow_weights(torch.zeros(3, 4, dtype=torch.bool), GRADIENT, ratio=1.0)
    assert grown.equal(GRADIENT != 0)


def test_no_growth_wakes_nothing() -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool)
    assert not grow_weights(mask, GRADIENT, ratio=0.0).any()
    for ratio in (-0.1, 1.1):
        with pytest.raises(InvalidRequestError):
            grow_weights(mask, GRADIENT, ratio=ratio)


@given(masked_layers(), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_weight_growth_leaves_the_function_and_the_dead(
    layer: tuple[dict[str, Tensor], Masks], ratio: float
) -> None:
    weights, masks = layer
    weights = apply_masks(weights, masks)
    gradients = {name: torch.sin(100 * weight + 1) for name, weight in weights.items()}
    grown = grow_matrices(HLSTM_LAYOUT, masks, gradients, ratio=ratio)
    check_dead_units_have_nothing(grown)
    assert all(not (a & ~b).any() for a, b in pairs(masks, grown))
    # Equal, not merely close: what woke is zero.
    after = apply_masks(weights, grown)
    assert all(weight.equal(after[name]) for name, weight in weights.items())


# Algorithm 2, on one matrix


def test_the_most_promising_row_and_column_wake() -> None:
    # Rows 0, 1 and columns 0, 1 live; row 2, 3 and column 2, 3 sleep.
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    mask[0, 1] = False  # asleep inside the living block: not for this algorithm to wake
    weight = torch.full((4, 4), 7.0)
    gradient = torch.tensor(
        [[9.0, 9, 0.1, -0.5], [9, 9, 0.2, 0.1], [0.3, -0.2, 9, 9], [-0.1, 0.1, 9, 9]]
    )
    # Rows over columns 0 and 1: 0.5, 0.2. Columns over rows 0 and 1: 0.3, 0.6. So row 2 and
    # column 3 wake at the crossings with live ones; their own crossing stays dormant.
    grown = grow_rows_and_columns(
        weight, mask, gradient, num_rows=1, num_columns=1, learning_rate=2.0
    )
    assert grown.mask_mn.int().tolist() == [[1, 0, 0, 1], [1, 1, 0, 1], [1, 1, 0, 0], [0] * 4]
    # They start as −2 · gradient.
    expected = torch.tensor([[7.0, 0, 0, 1.0], [7, 7, 0, -0.2], [-0.6, 0.4, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(grown.weight_mn, expected)


def test_a_woken_row_lowers_the_loss() -> None:
    # loss = ½ Σ (w x − y)², x = (1, 2), y = (0, 3), row 1 of w asleep: its gradient is
    # (w x − y) xᵀ = −3 · (1, 2). With learning rate 0.1 it starts as (0.3, 0.6), the output
    # as 1.5 instead of 0, and the loss falls from 4.5 to 1.125. With the printed sign: 10.125.
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0])
    weight = torch.zeros(2, 2)
    mask = torch.tensor([[1, 1], [0, 0]]).bool()
    gradient = torch.outer(weight @ x - y, x)
    grown = grow_rows_and_columns(
        weight, mask, gradient, num_rows=1, num_columns=0, learning_rate=0.1
    )
    torch.testing.assert_close(grown.weight_mn[1], torch.tensor([0.3, 0.6]))
    loss = 0.5 * float(((grown.weight_mn @ x - y) ** 2).sum())
    assert loss == pytest.approx(1.125)


def test_what_isnt_dormant_cant_wake() -> None:
    mask = torch.tensor([[1, 1], [0, 0]]).bool()
    for counts in ({"num_rows": 2, "num_columns": 0}, {"num_rows": 0, "num_columns": 1}):
        with pytest.raises(InvalidRequestError, match="dormant") as raised:
            grow_rows_and_columns(
                torch.zeros(2, 2), mask, torch.ones(2, 2), learning_rate=1.0, **counts
            )
        assert raised.value.hint


# Algorithm 2, rows and columns coupled


def loss_of(weights: Tensors, x_tbi: Tensor) -> Tensor:
    """How far a decoder that reads every state is from a fixed target."""
    states = weights["gate_bias_ks"].shape[1]
    generator = torch.Generator().manual_seed(5)
    decoder_vs = torch.randn(3, states, generator=generator, dtype=torch.float64)
    return ((outputs(weights, x_tbi) @ decoder_vs.t() - 1) ** 2).mean()


def gradients_of(weights: Tensors, x_tbi: Tensor) -> dict[str, Tensor]:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    gradients = torch.autograd.grad(loss_of(leaves, x_tbi), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def pruned_layer() -> tuple[dict[str, Tensor], Masks]:
    """Four of six hidden units live in each gate, others in each; three of five states."""
    weights = random_weights(input_size=3, gate_width=6, state_width=5)
    hidden_kg = torch.zeros(4, 6, dtype=torch.bool)
    for k in range(4):
        hidden_kg[k, [k, k + 2]] = True
    state_s = torch.tensor([False, True, False, False, True])
    masks = without_units(
        HLSTM_LAYOUT, full_masks(HLSTM_LAYOUT, weights), units(hidden_kg=hidden_kg, state_s=state_s)
    )
    return apply_masks(weights, masks), masks


def test_opening_dormant_units_keeps_the_function_and_gives_them_gradients() -> None:
    weights, masks = pruned_layer()
    x_tbi = random_inputs(steps=5, batch=8, input_size=3)
    dead_kg, dead_s = ~live_hidden_units(masks), ~live_states(masks)
    closed = gradients_of(weights, x_tbi)
    # Closed, a dormant hidden unit hears nothing: its row and its column wait for each other.
    assert not closed["gate_ksg"].transpose(1, 2)[dead_kg].any()
    assert not closed["input_kgi"][dead_kg].any()
    opened = open_dormant(HLSTM_LAYOUT, weights, masks, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(outputs(opened, x_tbi), outputs(weights, x_tbi), rtol=0, atol=0)
    gradients = gradients_of(opened, x_tbi)
    heard = gradients["gate_ksg"][:, live_states(masks)].abs().sum(1)[dead_kg]
    assert (heard > 0).float().mean() > 0.8  # one whose relu is never positive hears nothing
    # A dormant state hears through its row of W in the gate g.
    assert (gradients["gate_ksg"][3, dead_s].abs().sum(1) > 0).all()


def test_grown_units_wake_towards_what_lived() -> None:
    weights, masks = pruned_layer()
    x_tbi = random_inputs(steps=5, batch=8, input_size=3)
    opened = open_dormant(HLSTM_LAYOUT, weights, masks, generator=torch.Generator().manual_seed(1))
    gradients = gradients_of(opened, x_tbi)
    grown = grow_units(
        HLSTM_LAYOUT,
        opened,
        masks,
        gradients,
        counts={"gate_width": 1, "state_width": 1},
        learning_rate=0.5,
    )
    live_kg, live_s = live_hidden_units(grown.masks), live_states(grown.masks)
    assert live_kg.sum(1).tolist() == [5] * 4
    assert int(live_s.sum()) == 4
    check_dead_units_have_nothing(grown.masks)
    new_kg, new_s = live_kg & ~live_hidden_units(masks), live_s & ~live_states(masks)
    # Each new hidden unit: 3 inputs, 3 old states, 3 rows of W; the new state: 4 old hidden
    # units in each gate, twice. Nothing between new units.
    assert int(grown.masks.weights["recurrent_kgs"][new_kg].sum()) == 4 * 3
    assert int(grown.masks.weights["gate_ksg"].transpose(1, 2)[new_kg].sum()) == 4 * 3
    assert int(grown.masks.weights["gate_ksg"][:, new_s].sum()) == 4 * 4
    assert int(grown.masks.weights["recurrent_kgs"][:, :, new_s].sum()) == 4 * 4
    # Values: one step from the opened weights for those that woke, the old ones elsewhere.
    for name, after in grown.weights.items():
        mask = grown.masks.weights[name]
        woken = mask & ~masks.weights[name]
        torch.testing.assert_close(after[woken], (opened[name] - 0.5 * gradients[name])[woken])
        assert after[~woken].equal(weights[name][~woken])
        assert not after[~mask].any()


def test_the_units_with_the_largest_gradients_wake() -> None:
    weights, masks = pruned_layer()
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    # Gate 0: units 0 and 2 sleep, states 1 and 4. Unit 2 has more towards living states;
    # unit 0 has more in all, but towards a sleeping state.
    gradients["gate_ksg"][0, 0, 2] = -2.0
    gradients["gate_ksg"][0, 0, 0] = 1.0
    gradients["gate_ksg"][0, 1, 0] = 9.0
    # State 4 has more from living hidden units; 1's 9.0 above came from a sleeping one.
    gradients["recurrent_kgs"][1, 0, 4] = 0.5
    grown = grow_units(
        HLSTM_LAYOUT,
        weights,
        masks,
        gradients,
        counts={"gate_width": 1, "state_width": 1},
        learning_rate=0.1,
    )
    assert live_hidden_units(grown.masks)[0].int().tolist() == [0, 1, 1, 1, 1, 1]
    assert live_states(grown.masks).int().tolist() == [1, 0, 1, 1, 1]
    # In a tie, the first: gate 3's units 3 and 5 sleep.
    assert live_hidden_units(grown.masks)[3].int().tolist() == [1, 1, 1, 1, 1, 0]


def test_growth_descends_to_first_order() -> None:
    weights, masks = pruned_layer()
    x_tbi = random_inputs(steps=5, batch=8, input_size=3)
    opened = open_dormant(HLSTM_LAYOUT, weights, masks, generator=torch.Generator().manual_seed(1))
    gradients = gradients_of(opened, x_tbi)
    learning_rate = 1e-7
    grown = grow_units(
        HLSTM_LAYOUT,
        opened,
        masks,
        gradients,
        counts={"gate_width": 2, "state_width": 2},
        learning_rate=learning_rate,
    )
    woken = {name: mask & ~masks.weights[name] for name, mask in grown.masks.weights.items()}
    squares = sum(float((each[woken[name]] ** 2).sum()) for name, each in gradients.items())
    change = float(loss_of(grown.weights, x_tbi) - loss_of(weights, x_tbi))
    # A step of −lr · g changes the loss by −lr · |g|².
    assert change == pytest.approx(-learning_rate * squares, rel=1e-3)
    assert squares > 0


def test_growth_needs_dormant_units() -> None:
    weights, masks = pruned_layer()
    for counts in ({"gate_width": 3}, {"state_width": 3}):
        with pytest.raises(InvalidRequestError, match="2 are dormant"):
            grow_units(HLSTM_LAYOUT, weights, masks, weights, learning_rate=0.1, counts=counts)


# Averages


def test_every_token_counts_alike() -> None:
    mean = MeanGradient()
    mean.add({"a": torch.ones(1), "b": torch.zeros(1)}, count=3)
    mean.add({"a": torch.full([1], 5.0), "b": torch.ones(1)}, count=1)
    # (3 · 1 + 1 · 5) / 4 = 2, and (3 · 0 + 1 · 1) / 4.
    assert {name: each.tolist() for name, each in mean.mean().items()} == {"a": [2.0], "b": [0.25]}


def test_an_average_of_nothing_or_of_nan_is_an_error() -> None:
    mean = MeanGradient()
    with pytest.raises(InvalidGradientError):
        mean.mean()
    mean.add({"a": torch.ones(1), "b": torch.tensor([torch.nan])}, count=1)
    with pytest.raises(InvalidGradientError) as raised:
        mean.mean()
    assert raised.value.hint
