"""Growth: chooses by gradients which dormant weights, rows and columns become live.

`gradients` are averages of ∂L/∂w over the whole training set, taken with respect to every
weight that the network could have, living or not (`MeanGradient` averages them). Every function
returns new tensors. None trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.networks import HLSTMWeights
from trainer_client.groups.masks import (
    Masks,
    apply_masks,
    live_hidden_units,
    live_states,
    map_matrices,
)

# Shapes: K the four gates, G gate_width, S state_width; M rows and N columns of any matrix.


class InvalidGradientError(LhpError):
    """A gradient can't be used: it isn't finite, or there was no batch to average."""


class MeanGradient:
    """The average gradient of a layer over a training set, batch by batch."""

    def __init__(self) -> None:
        self._sum: HLSTMWeights | None = None
        self._count = 0

    def add(self, gradients: HLSTMWeights, *, count: int) -> None:
        """Takes the mean gradient of one batch of `count` tokens."""
        scaled = HLSTMWeights(*(gradient.detach() * count for gradient in gradients))
        if self._sum is not None:
            scaled = HLSTMWeights(*(a + b for a, b in zip(self._sum, scaled, strict=True)))
        self._sum = scaled
        self._count += count

    def mean(
        self, *, over_processes: Callable[[Sequence[Tensor]], None] = lambda _: None
    ) -> HLSTMWeights:
        """The average, in which each token has the same weight.

        `over_processes` replaces tensors by their means over all processes. The result is checked
        after that, so that all processes raise the same error. Raises InvalidGradientError if
        nothing was added, or if it isn't finite.
        """
        if self._sum is None or self._count == 0:
            raise InvalidGradientError(
                "there is no gradient to average", hint="add one batch or more"
            )
        result = HLSTMWeights(*(each / self._count for each in self._sum))
        over_processes(result)
        if not all(bool(each.isfinite().all()) for each in result):
            raise InvalidGradientError(
                "the average gradient isn't finite",
                hint="start a new run with a lower learning_rate or clip_norm",
            )
        return result


def grow_weights(mask_mn: Tensor, gradient_mn: Tensor, *, ratio: float) -> Tensor:
    """The mask in which the dormant weights with the largest |gradient| live, too.

    These are at or above the (100 · (1 − ratio))th percentile of the whole matrix, including live
    weights (Source: section 4.1, as printed. With the percentile of the dormant weights only, half
    a matrix would grow to 1 − 0.5 · 0.9⁸ = 78 % in eight growths of 10 %. The paper reports 65 %).
    A weight without a gradient never wakes. A woken weight is zero, so the function doesn't change
    before the first update.
    """
    if not 0 <= ratio <= 1:
        raise InvalidRequestError(f"a growth ratio of {ratio}", hint="choose it from 0 to 1")
    size_mn = gradient_mn.abs()
    count = int(ratio * size_mn.numel())
    if count == 0:
        return mask_mn.clone()
    threshold = size_mn.flatten().kthvalue(size_mn.numel() - count + 1).values
    return mask_mn | ((size_mn >= threshold) & (size_mn > 0))


def grow_layer_weights(masks: Masks, gradients: HLSTMWeights, *, ratio: float) -> Masks:
    """The masks after `grow_weights` on every H and W. Dead units stay dead."""

    def grow(mask_mn: Tensor, gradient_mn: Tensor) -> Tensor:
        return grow_weights(mask_mn, gradient_mn, ratio=ratio)

    possible = _between(live_hidden_units(masks), live_states(masks))
    grown = map_matrices(grow, masks, gradients)
    return HLSTMWeights(*(a & b for a, b in zip(grown, possible, strict=True)))


@dataclass(frozen=True, kw_only=True, eq=False)
class GrownMatrix:
    """A matrix and its mask after growth."""

    weight_mn: Tensor
    mask_mn: Tensor


def grow_rows_and_columns(
    weight_mn: Tensor,
    mask_mn: Tensor,
    gradient_mn: Tensor,
    *,
    num_rows: int,
    num_columns: int,
    learning_rate: float,
) -> GrownMatrix:
    """One matrix in which the dormant rows and columns with the largest gradients live, too.

    They have the largest sums of |gradient| over the live columns, or rows; among equals, the first
    ones wake. A woken row lives in the columns that lived before, and starts there as
    −learning_rate · gradient. The same holds for columns. Source: Algorithm 2, which prints
    +learning_rate · gradient: with the gradient ∂L/∂w that would increase the loss. With minus, the
    start is the result of one step of descent from zero.

    Raises InvalidRequestError if fewer are dormant.
    """
    row_m, column_n = mask_mn.any(1), mask_mn.any(0)
    size_mn = gradient_mn.abs()
    new_row_m = _strongest((size_mn * column_n).sum(1), ~row_m, num_rows, "rows")
    new_column_n = _strongest((size_mn * row_m[:, None]).sum(0), ~column_n, num_columns, "columns")
    woken_mn = (new_row_m[:, None] & column_n) | (row_m[:, None] & new_column_n)
    return GrownMatrix(
        weight_mn=torch.where(woken_mn, -learning_rate * gradient_mn, weight_mn * mask_mn),
        mask_mn=mask_mn | woken_mn,
    )


def open_dormant(
    weights: HLSTMWeights, masks: Masks, *, generator: torch.Generator
) -> HLSTMWeights:
    """Weights that compute the same, and with which dormant units have gradients.

    If both its row of H and its column of W are zero, a hidden unit has no gradient. So dormant
    hidden units get a row of H over the live inputs, drawn as for a new layer, uniformly within
    ±1/√(live inputs). Their columns of W stay zero, so the function doesn't change. A dormant state
    doesn't need this if the next layer reads it: then its gradient reaches its row of W. A tied
    decoder always has its column, because the embedding needs it.

    `generator` is on the CPU, so that every process and device draws the same numbers.
    """
    live = apply_masks(weights, masks)
    dormant_kg1 = ~live_hidden_units(masks)[:, :, None]
    state_s = live_states(masks)
    bound = (live.input_kgi.shape[2] + int(state_s.sum())) ** -0.5

    def draw(like: Tensor) -> Tensor:
        drawn = torch.empty(like.shape, dtype=torch.float64)
        return drawn.uniform_(-bound, bound, generator=generator).to(like.device, like.dtype)

    return live._replace(
        input_kgi=torch.where(dormant_kg1, draw(live.input_kgi), live.input_kgi),
        recurrent_kgs=torch.where(
            dormant_kg1 & state_s, draw(live.recurrent_kgs), live.recurrent_kgs
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class GrownLayer:
    """A layer's weights and masks after growth."""

    weights: HLSTMWeights
    masks: Masks


def grow_units(
    opened: HLSTMWeights,
    masks: Masks,
    gradients: HLSTMWeights,
    *,
    num_hidden: int,
    num_states: int,
    learning_rate: float,
) -> GrownLayer:
    """The layer with `num_hidden` more hidden units in each gate and `num_states` more states.

    Algorithm 2 with rows and columns coupled. The dormant units with the largest |gradient|, summed
    over their rows and columns of H and W, wake. Their weights to and from units that lived before
    become live. Weights between two new units stay dormant, as in the algorithm. The new weights
    start as `opened` − learning_rate · gradient, which is one step of descent from the weights that
    `open_dormant` returns. The gradients must be those at these weights.

    Raises InvalidRequestError if fewer are dormant.
    """
    hidden_kg, state_s = live_hidden_units(masks), live_states(masks)
    # The units that a unit can be connected with: all live ones. G and S as in the masks.
    size = HLSTMWeights(*(gradient.abs() for gradient in gradients))
    from_live_s = size.recurrent_kgs * state_s
    size_kg = size.input_kgi.sum(2) + from_live_s.sum(2) + (size.gate_ksg * state_s[:, None]).sum(1)
    size_s = (size.gate_ksg * hidden_kg[:, None, :]).sum((0, 2)) + (
        size.recurrent_kgs * hidden_kg[:, :, None]
    ).sum((0, 1))
    new_kg = torch.stack(
        [
            _strongest(size_g, ~live_g, num_hidden, "hidden units")
            for size_g, live_g in zip(size_kg, hidden_kg, strict=True)
        ]
    )
    new_s = _strongest(size_s, ~state_s, num_states, "state units")
    with_hidden = _between(hidden_kg | new_kg, state_s)
    with_states = _between(hidden_kg, state_s | new_s)
    before = _between(hidden_kg, state_s)
    woken = _shaped_like(
        masks, ((a | b) & ~c for a, b, c in zip(with_hidden, with_states, before, strict=True))
    )
    live = apply_masks(opened, masks)
    return GrownLayer(
        weights=HLSTMWeights(
            *(
                torch.where(wakes, start - learning_rate * gradient, weight)
                for wakes, start, gradient, weight in zip(
                    woken, opened, gradients, live, strict=True
                )
            )
        ),
        masks=HLSTMWeights(*(mask | wakes for mask, wakes in zip(masks, woken, strict=True))),
    )


def _between(hidden_kg: Tensor, state_s: Tensor) -> Masks:
    """All weights that can live between these units; the input's axis has length 1."""
    return HLSTMWeights(
        input_kgi=hidden_kg[:, :, None],
        recurrent_kgs=hidden_kg[:, :, None] & state_s,
        hidden_bias_kg=hidden_kg,
        gate_ksg=state_s[:, None] & hidden_kg[:, None, :],
        gate_bias_ks=state_s.expand(len(hidden_kg), -1),
    )


def _shaped_like(masks: Masks, given: Iterable[Tensor]) -> Masks:
    return HLSTMWeights(*(each.expand_as(mask) for mask, each in zip(masks, given, strict=True)))


def _strongest(size_n: Tensor, dormant_n: Tensor, count: int, what: str) -> Tensor:
    """The `count` largest of the dormant ones, bool [N]."""
    num_dormant = int(dormant_n.sum())
    if not 0 <= count <= num_dormant:
        raise InvalidRequestError(
            f"{count} {what} can't be grown, {num_dormant} are dormant",
            hint="start from a wider layer, or allow less growth (max_growth)",
        )
    order = size_n.masked_fill(~dormant_n, -1.0).argsort(descending=True, stable=True)
    strongest_n = torch.zeros_like(dormant_n)
    strongest_n[order[:count]] = True
    return strongest_n
