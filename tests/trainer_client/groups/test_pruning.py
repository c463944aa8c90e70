"""Algorithm 1 and magnitude pruning by hand, then their invariants on random layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.groups.layers import live_hidden_units, live_states, random_weights
from tests.trainer_client.groups.test_masks import (
    check_dead_units_have_nothing,
    masked_layers,
    pairs,
)
from trainer_client.groups.layers import HLSTM_LAYOUT
from trainer_client.groups.masks import Masks, count_weights, full_masks
from trainer_client.groups.pruning import (
    PruningRate,
    prune_matrices,
    prune_rows_and_columns,
    prune_units,
    prune_weights,
    pruned_share,
)

EVERYTHING = torch.ones(3, 4, dtype=torch.bool)


def zero_weights(*, gate_width: int, state_width: int) -> dict[str, Tensor]:
    """A layer of zeros with one input."""
    like = random_weights(input_size=1, gate_width=gate_width, state_width=state_width)
    return {name: torch.zeros_like(weight) for name, weight in like.items()}


# Algorithm 1, on one matrix

# Sums of |w| over rows: 10, 11, 30; over columns: 3, 27, 5, 16. Held against the columns'
# threshold (3, for one column), no row would go: the thresholds as printed are crossed.
WEIGHT = torch.tensor([[1.0, -5, 2, 2], [-1, 6, 0, 4], [1, 16, -3, -10]])


def test_the_weakest_row_and_columns_go() -> None:
    pruned = prune_rows_and_columns(WEIGHT, EVERYTHING, num_rows=1, num_columns=2)
    # Row 0 (10) and columns 0 (3) and 2 (5).
    assert pruned.int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1]]


def test_the_next_ones_are_ranked_among_what_lives() -> None:
    mask = prune_rows_and_columns(WEIGHT, EVERYTHING, num_rows=1, num_columns=2)
    # Left: [6, 4], [16, -10]. Row 1 (10) goes; then column 3: 4 + 10 = 14 against 22.
    again = prune_rows_and_columns(WEIGHT, mask, num_rows=1, num_columns=1)
    assert again.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_masked_weights_carry_no_weight() -> None:
    mask = EVERYTHING.clone()
    mask[2, 1] = mask[2, 3] = False  # row 2 sums to 1 + 3 = 4 now: the weakest
    pruned = prune_rows_and_columns(WEIGHT, mask, num_rows=1, num_columns=0)
    assert pruned.any(1).tolist() == [True, True, False]


def test_of_equals_the_first_goes() -> None:
    pruned = prune_rows_and_columns(torch.ones(3, 4), EVERYTHING, num_rows=1, num_columns=2)
    assert pruned.int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(("num_rows", "num_columns"), [(3, 0), (0, 4), (-1, 0)])
def test_something_must_be_left(num_rows: int, num_columns: int) -> None:
    with pytest.raises(InvalidRequestError):
        prune_rows_and_columns(WEIGHT, EVERYTHING, num_rows=num_rows, num_columns=num_columns)


# Algorithm 1, rows and columns coupled


def test_a_hidden_unit_is_ranked_by_its_row_of_h_and_its_column_of_w() -> None:
    weights = zero_weights(gate_width=2, state_width=1)
    # Gate 0: unit 0 has 1 (input) + 1 (state) + 1 (W) = 3, unit 1 has 0 + 0 + 4 = 4.
    weights["input_kgi"][0, 0, 0] = weights["recurrent_kgs"][0, 0, 0] = weights["gate_ksg"][
        0, 0, 0
    ] = -1
    weights["gate_ksg"][0, 0, 1] = 4
    # Gate 1: unit 0 has 5, unit 1 has 2. Gates 2 and 3: equal, the first goes.
    weights["input_kgi"][1, :, 0] = torch.tensor([5.0, -2])
    masks = prune_units(
        HLSTM_LAYOUT,
        weights,
        full_masks(HLSTM_LAYOUT, weights),
        counts={"gate_width": 1, "state_width": 0},
    )
    assert live_hidden_units(masks).int().tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]
    assert live_states(masks).all()
    check_dead_units_have_nothing(masks)


def test_a_state_is_ranked_over_all_gates() -> None:
    weights = zero_weights(gate_width=1, state_width=3)
    # Rows of W, summed over gates: 4, 1 + 2, 0. Columns of H: 0, 0, 3.5. Sums: 4, 3, 3.5.
    weights["gate_ksg"][:, 0, 0] = -1
    weights["gate_ksg"][0, 1, 0], weights["gate_ksg"][3, 1, 0] = 1, -2
    weights["recurrent_kgs"][2, 0, 2] = 3.5
    # A bias doesn't count.
    weights["gate_bias_ks"][:, 1] = 100
    masks = prune_units(
        HLSTM_LAYOUT,
        weights,
        full_masks(HLSTM_LAYOUT, weights),
        counts={"gate_width": 0, "state_width": 1},
    )
    assert live_states(masks).tolist() == [True, False, True]
    check_dead_units_have_nothing(masks)


@pytest.mark.parametrize("counts", [(2, 0), (0, 2), (-1, 0)])
def test_no_gate_and_no_state_is_left_without_units(counts: tuple[int, int]) -> None:
    weights = random_weights(input_size=1, gate_width=2, state_width=2)
    with pytest.raises(InvalidRequestError, match="can't be pruned"):
        prune_units(
            HLSTM_LAYOUT,
            weights,
            full_masks(HLSTM_LAYOUT, weights),
            counts={"gate_width": counts[0], "state_width": counts[1]},
        )


@given(data=st.data(), seed=st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=50)
def test_each_gate_loses_the_number_asked_for(data: st.DataObject, seed: int) -> None:
    gate_width, state_width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    num_hidden = data.draw(st.integers(0, gate_width - 1))
    num_states = data.draw(st.integers(0, state_width - 1))
    weights = random_weights(
        input_size=2, gate_width=gate_width, state_width=state_width, seed=seed
    )
    masks = prune_units(
        HLSTM_LAYOUT,
        weights,
        full_masks(HLSTM_LAYOUT, weights),
        counts={"gate_width": num_hidden, "state_width": num_states},
    )
    assert live_hidden_units(masks).sum(1).tolist() == [gate_width - num_hidden] * 4
    assert int(live_states(masks).sum()) == state_width - num_states
    check_dead_units_have_nothing(masks)


# Magnitude pruning


def test_the_smallest_weights_go() -> None:
    # Half of the 12: the six smallest by |w| are 0, 1, 1, 1, 2, 2.
    pruned = prune_weights(WEIGHT, EVERYTHING, ratio=0.5)
    assert pruned.int().tolist() == [[0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 1, 1]]


def test_the_percentile_is_that_of_the_living() -> None:
    mask = prune_weights(WEIGHT, EVERYTHING, ratio=0.5)
    # Six live: 3, 4, 5, 6, 10, 16. Half of them again; of all twelve, none more would go.
    again = prune_weights(WEIGHT, mask, ratio=0.5)
    assert again.int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1]]


def test_too_small_a_share_prunes_nothing() -> None:
    assert prune_weights(WEIGHT, EVERYTHING, ratio=0.08).equal(EVERYTHING)  # 0.96 of a weight


def test_every_matrix_of_a_layer_is_pruned_by_itself() -> None:
    # W is a thousand times smaller than H, and yet loses the same share.
    weights = random_weights(input_size=6, gate_width=6, state_width=4)
    weights["gate_ksg"] /= 1000
    masks = prune_matrices(HLSTM_LAYOUT, weights, full_masks(HLSTM_LAYOUT, weights), ratio=0.2)
    # H: 6 · (6 + 4) = 60, of which 12 go; W: 4 · 6 = 24, of which 4.8, hence 4, go. No row and
    # no column is emptied here.
    assert (
        masks.weights["input_kgi"].sum((1, 2)) + masks.weights["recurrent_kgs"].sum((1, 2))
    ).tolist() == [48] * 4
    assert masks.weights["gate_ksg"].sum((1, 2)).tolist() == [20] * 4


def test_a_layer_loses_one_weight_at_least() -> None:
    # 60 and 24 weights a gate: a hundredth of either is no weight.
    weights = random_weights(input_size=6, gate_width=6, state_width=4)
    weights["recurrent_kgs"][3, 2, 1] = 1e-9
    masks = full_masks(HLSTM_LAYOUT, weights)
    pruned = prune_matrices(HLSTM_LAYOUT, weights, masks, ratio=0.01)
    assert not pruned.weights["recurrent_kgs"][3, 2, 1]
    assert count_weights(HLSTM_LAYOUT, pruned) == count_weights(HLSTM_LAYOUT, masks) - 1
    # The next smallest, not the dead one again.
    again = prune_matrices(HLSTM_LAYOUT, weights, pruned, ratio=0.01)
    assert count_weights(HLSTM_LAYOUT, again) == count_weights(HLSTM_LAYOUT, masks) - 2


def test_a_unit_whose_inputs_are_gone_goes_too() -> None:
    weights = random_weights(input_size=3, gate_width=3, state_width=3)
    weights["input_kgi"][2, 1] *= 1e-6
    weights["recurrent_kgs"][2, 1] *= 1e-6
    # Gate 2's H has 18 weights, the row of unit 1 has six: a third.
    masks = prune_matrices(HLSTM_LAYOUT, weights, full_masks(HLSTM_LAYOUT, weights), ratio=0.34)
    assert not live_hidden_units(masks)[2, 1]
    assert not masks.weights["gate_ksg"][2, :, 1].any()


@given(masked_layers(), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_pruning_wakes_nothing(layer: tuple[dict[str, Tensor], Masks], ratio: float) -> None:
    weights, masks = layer
    pruned = prune_matrices(HLSTM_LAYOUT, weights, masks, ratio=ratio)
    assert all(not (b & ~a).any() for a, b in pairs(masks, pruned))
    check_dead_units_have_nothing(pruned)


# The rate


def test_the_rate_is_halved_down_to_single_ones() -> None:
    rate: PruningRate | None = PruningRate(ratio=0.2)
    counts = []
    while rate is not None:
        counts.append(rate.count(60))
        rate = rate.after_failure(60)
    # 20, 10, 5 and 2.5 % of 60; a single one is the last.
    assert counts == [12, 6, 3, 1]


def test_a_rate_prunes_one_at_least_and_never_all() -> None:
    assert PruningRate(ratio=0.2).count(3) == 1
    assert PruningRate(ratio=0.999).count(2) == 1
    assert PruningRate(ratio=0.2).count(1) == 0


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, float("nan")])
def test_a_rate_is_a_share(ratio: float) -> None:
    with pytest.raises(InvalidRequestError):
        PruningRate(ratio=ratio)


def test_the_share_of_a_round_rises_as_a_cubic() -> None:
    assert pruned_share(0, over_epochs=0) == 1
    # 1 - (2/3)³, 1 - (1/3)³, 1; and it stays there.
    found = [pruned_share(epoch, over_epochs=2) for epoch in range(4)]
    assert found == pytest.approx([19 / 27, 26 / 27, 1, 1])
