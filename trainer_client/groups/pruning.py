"""Pruning: chooses the rows, columns and weights to remove next.

Every function takes masks and returns new ones. None trains, and none knows how the removal changes
the loss. Retraining shows that, and `PruningRate` says how to continue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.layout import Layout, Tensors, UnitGroup
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    count_weights,
    map_matrices,
    without_unconnected,
    without_units,
)

# Shapes: U the units of one group; M rows and N columns of any matrix.


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


def pruned_share(epoch: int, *, over_epochs: int) -> float:
    """The share of a round's pruning that is done when this epoch begins; the first is epoch 0.

    It rises as a cubic, fast at first and slowly at the end, and reaches 1 at `over_epochs`.
    Source: Zhu and Gupta, "To prune, or not to prune".
    """
    left = 1 - (epoch + 1) / (over_epochs + 1)
    return 1 - max(left, 0.0) ** 3


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


def prune_units(
    layout: Layout, weights: Tensors, masks: Masks, *, counts: Mapping[str, int]
) -> Masks:
    """The masks without the weakest units: `counts` of each axis, in each group of that axis.

    Algorithm 1 with rows and columns coupled: the parts of a unit are ranked together, by the sum
    of |w| over its rows and columns. Parts that aren't ranked don't count.

    Raises InvalidRequestError if a group would have no units left.
    """
    size = {name: weight.abs() for name, weight in apply_masks(weights, masks).items()}
    dead = {
        group.name: _weakest(
            _sum_ranked(group, size),
            masks.units[group.name],
            counts.get(group.dimension, 0),
            f"units of {group.name}",
        )
        for group in layout.groups
    }
    return without_units(layout, masks, dead)


def _sum_ranked(group: UnitGroup, size: Tensors) -> Tensor:
    """The sum over the ranked parts of each unit, [U]."""
    sums = [
        part.by_unit(size[part.parameter]).sum(1)
        for part in group.parts
        if part.is_ranked and part.role != "bias"
    ]
    return torch.stack(sums).sum(0)


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


def prune_matrices(layout: Layout, weights: Tensors, masks: Masks, *, ratio: float) -> Masks:
    """The masks after `prune_weights` on every matrix, without the units that it cuts off.

    If the share is less than one weight in every matrix, the smallest weight of all is removed.
    Rounds that prune nothing would never end.
    """

    def prune(mask_mn: Tensor, weight_mn: Tensor) -> Tensor:
        return prune_weights(weight_mn, mask_mn, ratio=ratio)

    pruned = Masks(weights=map_matrices(layout, prune, masks.weights, weights), units=masks.units)
    if count_weights(layout, pruned) == count_weights(layout, masks) > 0:
        pruned = Masks(weights=_without_smallest(layout, weights, masks), units=masks.units)
    return without_unconnected(layout, pruned)


def _without_smallest(layout: Layout, weights: Tensors, masks: Masks) -> Tensors:
    """The masks of the weights without the smallest live one of all matrices."""
    size = [
        matrix.join(weights).detach().abs().masked_fill(~matrix.join(masks.weights), torch.inf)
        for matrix in layout.matrices
    ]
    which = min(range(len(size)), key=lambda i: float(size[i].min()))
    smallest = size[which].argmin()

    def prune(mask_mn: Tensor) -> Tensor:
        pruned = mask_mn.flatten().clone()
        pruned[smallest] = False
        return pruned.view_as(mask_mn)

    only = Layout(groups=layout.groups, matrices=(layout.matrices[which],))
    return map_matrices(only, prune, masks.weights)


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
