"""Pruning: chooses the rows, columns and weights to remove next.

Every function takes masks and returns new ones. None trains, and none knows how the removal changes
the loss. Retraining shows that, and `PruningRate` says how to continue.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from profiler_service.networks import HLSTMWeights
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    count_weights,
    live_hidden_units,
    live_states,
    map_matrices,
    without_unconnected,
    without_units,
)

# Shapes: K the four gates, G gate_width, S state_width; M rows and N columns of any matrix.

MATRICES = ("input_kgi", "recurrent_kgs", "gate_ksg")
"""The weights of a layer that can be pruned: H in two parts, and W."""


@dataclass(frozen=True, kw_only=True)
class PruningRate:
    """The share of the live units or weights that is pruned before the next retraining.

    Halved whenever retraining fails, down to single rows, columns or weights. Pruning ends when
    even one can't be pruned. Source: section 5.1, steps (b), from 20 %, and (d), from 70 %.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise InvalidRequestError(
                f"a pruning ratio of {self.ratio} is outside 0 to 1",
                hint="the paper starts from 0.2 for rows and columns, 0.7 for weights",
            )

    def count(self, num_live: int) -> int:
        """How many of `num_live` to prune: at least one, never all."""
        return min(max(1, int(self.ratio * num_live)), num_live - 1)

    def after_failure(self, num_live: int) -> PruningRate | None:
        """Half the rate, to try next; None if a single unit or weight failed."""
        if self.count(num_live) <= 1:
            return None
        return PruningRate(ratio=self.ratio / 2)


def prune_rows_and_columns(
    weight_mn: Tensor, mask_mn: Tensor, *, num_rows: int, num_columns: int
) -> Tensor:
    """The mask without the weakest rows and columns of one matrix, by their sums of |w|.

    Only live ones are ranked, both rows and columns before any is removed. Among equal ones, the
    first is removed first. Source: Algorithm 1. As printed, it compares sums of rows with the
    threshold of columns, and vice versa, and takes N for the number of rows. Here, rows are
    compared with rows.

    Raises InvalidRequestError if nothing would be left.
    """
    size_mn = (weight_mn * mask_mn).abs()
    row_m = _weakest(size_mn.sum(1), mask_mn.any(1), num_rows, "rows")
    column_n = _weakest(size_mn.sum(0), mask_mn.any(0), num_columns, "columns")
    return mask_mn & ~row_m[:, None] & ~column_n


def prune_units(weights: HLSTMWeights, masks: Masks, *, num_hidden: int, num_states: int) -> Masks:
    """The masks without the weakest `num_hidden` units of each gate and `num_states` states.

    Algorithm 1 with rows and columns coupled: the parts of a unit are ranked together, by the sum
    of |w| over the unit's rows and columns of H and W. The next layer's weights don't count: a tied
    decoder has so many rows that the words' frequencies would decide.

    Raises InvalidRequestError if a gate or the state would have no units left.
    """
    size = HLSTMWeights(*(weight.abs() for weight in apply_masks(weights, masks)))
    size_kg = size.input_kgi.sum(2) + size.recurrent_kgs.sum(2) + size.gate_ksg.sum(1)
    size_s = size.gate_ksg.sum((0, 2)) + size.recurrent_kgs.sum((0, 1))
    hidden_kg = torch.stack(
        [
            _weakest(size_g, live_g, num_hidden, "hidden units")
            for size_g, live_g in zip(size_kg, live_hidden_units(masks), strict=True)
        ]
    )
    state_s = _weakest(size_s, live_states(masks), num_states, "state units")
    return without_units(masks, hidden_kg=hidden_kg, state_s=state_s)


def prune_weights(weight_mn: Tensor, mask_mn: Tensor, *, ratio: float) -> Tensor:
    """The mask without the smallest live weights, a share `ratio` of them; for one matrix.

    Source: section 4.1: |w| at or below the (100 · ratio)th percentile. The percentile is that of
    live weights: otherwise, from the second pruning on, the zeros of dead weights would fill it.
    """
    live = mask_mn.flatten().nonzero()[:, 0]
    smallest = weight_mn.flatten()[live].abs().argsort(stable=True)[: int(ratio * len(live))]
    pruned = mask_mn.flatten().clone()
    pruned[live[smallest]] = False
    return pruned.view_as(mask_mn)


def prune_layer_weights(weights: HLSTMWeights, masks: Masks, *, ratio: float) -> Masks:
    """The masks after `prune_weights` on every H and W, without the units that it cuts off.

    If the share is less than one weight in every matrix, the smallest weight of all is removed.
    Rounds that prune nothing would never end.
    """

    def prune(mask_mn: Tensor, weight_mn: Tensor) -> Tensor:
        return prune_weights(weight_mn, mask_mn, ratio=ratio)

    pruned = map_matrices(prune, masks, weights)
    if count_weights(pruned) == count_weights(masks) > 0:
        pruned = _without_smallest(weights, masks)
    return without_unconnected(pruned)


def _without_smallest(weights: HLSTMWeights, masks: Masks) -> Masks:
    """The masks without the smallest live weight of all H and W."""
    size = [
        getattr(weights, name).detach().abs().masked_fill(~getattr(masks, name), torch.inf)
        for name in MATRICES
    ]
    which = min(range(len(size)), key=lambda i: float(size[i].min()))
    name = MATRICES[which]
    pruned = getattr(masks, name).flatten().clone()
    pruned[size[which].argmin()] = False
    return masks._replace(**{name: pruned.view_as(size[which])})


def _weakest(size_n: Tensor, live_n: Tensor, count: int, what: str) -> Tensor:
    """The `count` smallest of the live ones, bool [N]."""
    num_live = int(live_n.sum())
    if not 0 <= count < max(num_live, 1):
        raise InvalidRequestError(
            f"{count} of {num_live} {what} can't be pruned", hint="leave at least one"
        )
    order = size_n.masked_fill(~live_n, torch.inf).argsort(stable=True)
    weakest_n = torch.zeros_like(live_n)
    weakest_n[order[:count]] = True
    return weakest_n
