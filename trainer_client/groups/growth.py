"""Growth: chooses by gradients which dormant weights, rows and columns become live.

`gradients` are averages of ∂L/∂w over the whole training set, taken with respect to every
weight that the network could have, living or not (`MeanGradient` averages them). Every function
returns new tensors. None trains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError, LhpError
from trainer_client.groups.layout import Layout, Part, Tensors, UnitGroup
from trainer_client.groups.masks import Masks, apply_masks, map_matrices, possible_weights

# Shapes: U the units of one group; M rows and N columns of any matrix.


class InvalidGradientError(LhpError):
    """A gradient can't be used: it isn't finite, or there was no batch to average."""


class MeanGradient:
    """The average gradient of parameters over a training set, batch by batch."""

    def __init__(self) -> None:
        self._sum: dict[str, Tensor] = {}
        self._count = 0

    def add(self, gradients: Tensors, *, count: int) -> None:
        """Takes the mean gradient of one batch of `count` tokens."""
        for name, gradient in gradients.items():
            scaled = gradient.detach() * count
            self._sum[name] = self._sum[name] + scaled if name in self._sum else scaled
        self._count += count

    def mean(
        self, *, over_processes: Callable[[Sequence[Tensor]], None] = lambda _: None
    ) -> dict[str, Tensor]:
        """The average, in which each token has the same weight.

        `over_processes` replaces tensors by their means over all processes. The result is checked
        after that, so that all processes raise the same error. Raises InvalidGradientError if
        nothing was added, or if it isn't finite.
        """
        if self._count == 0:
            raise InvalidGradientError(
                "there is no gradient to average", hint="add one batch or more"
            )
        result = {name: each / self._count for name, each in self._sum.items()}
        over_processes(list(result.values()))
        if not all(bool(each.isfinite().all()) for each in result.values()):
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


def grow_matrices(layout: Layout, masks: Masks, gradients: Tensors, *, ratio: float) -> Masks:
    """The masks after `grow_weights` on every matrix. Dead units stay dead."""

    def grow(mask_mn: Tensor, gradient_mn: Tensor) -> Tensor:
        return grow_weights(mask_mn, gradient_mn, ratio=ratio)

    possible = possible_weights(layout, masks.weights, masks.units)
    grown = map_matrices(layout, grow, masks.weights, gradients)
    return Masks(
        weights={name: mask & possible[name] for name, mask in grown.items()}, units=masks.units
    )


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
    layout: Layout, weights: Tensors, masks: Masks, *, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weights that compute the same, and with which dormant units have gradients.

    If all of its incoming and outgoing weights are zero, a unit has no gradient. So dormant units
    get incoming weights from the live units, drawn as for a new layer, uniformly within
    ±1/√(live inputs). Their outgoing weights stay zero, so the function doesn't change. The dormant
    units of an output group don't need this: what reads them has weights for them, and a gradient
    reaches what comes in.

    `generator` is on the CPU, so that every process and device draws the same numbers.
    """
    opened = apply_masks(weights, masks)
    drawn: dict[str, Tensor] = {}
    for group in layout.groups:
        parts = [part for part in group.parts if part.role == "incoming"]
        if group.is_output or not any(part.role == "outgoing" for part in group.parts):
            continue
        dormant_u = ~masks.units[group.name]
        open_to = [_linked(layout, masks, group, part) for part in parts]
        fan_in = sum(
            int(part.by_unit(linked).sum(1).max()) // (part.before * part.after)
            for part, linked in zip(parts, open_to, strict=True)
        )
        bound = max(fan_in, 1) ** -0.5
        for part, linked in zip(parts, open_to, strict=True):
            like = opened[part.parameter]
            if part.parameter not in drawn:
                each = torch.empty(like.shape, dtype=torch.float64)
                drawn[part.parameter] = each.uniform_(-1, 1, generator=generator).to(
                    like.device, like.dtype
                )
            start = bound * part.view(drawn[part.parameter])
            is_opened = part.along(dormant_u, like.dim()) & part.view(linked)
            result = like.clone()
            part.view(result).copy_(torch.where(is_opened, start, part.view(like)))
            opened[part.parameter] = result
    return opened


@dataclass(frozen=True, kw_only=True, eq=False)
class Grown:
    """A network's weights and masks after growth."""

    weights: dict[str, Tensor]
    masks: Masks


def grow_units(
    layout: Layout,
    opened: Tensors,
    masks: Masks,
    gradients: Tensors,
    *,
    counts: Mapping[str, int],
    learning_rate: float,
) -> Grown:
    """The network with more units: `counts` of each axis, in each group of that axis.

    Algorithm 2 with rows and columns coupled. The dormant units with the largest |gradient|, summed
    over their rows and columns, wake. Their weights to and from units that lived before become
    live. Weights between two new units stay dormant, as in the algorithm. The new weights start as
    `opened` − learning_rate · gradient, which is one step of descent from the weights that
    `open_dormant` returns. The gradients must be those at these weights.

    Raises InvalidRequestError if fewer are dormant.
    """
    size = {name: gradient.abs() for name, gradient in gradients.items()}
    grown_units = {}
    for group in layout.groups:
        live_u = masks.units[group.name]
        # Among the units that lived before: only with these will a woken unit be connected.
        sums = [
            part.by_unit(size[part.parameter] * _linked(layout, masks, group, part)).sum(1)
            for part in group.parts
            if part.is_ranked and part.role != "bias"
        ]
        new_u = _strongest(
            torch.stack(sums).sum(0),
            ~live_u,
            counts.get(group.dimension, 0),
            f"units of {group.name}",
        )
        grown_units[group.name] = live_u | new_u
    before = possible_weights(layout, masks.weights, masks.units)
    woken = {name: torch.zeros_like(mask) for name, mask in masks.weights.items()}
    for group, part in layout.parts():
        wider = _possible(layout, masks, part, grown_units[group.name])
        woken[part.parameter] |= wider & ~before[part.parameter]
    live = apply_masks(opened, masks)
    return Grown(
        weights={
            name: torch.where(woken[name], opened[name] - learning_rate * gradients[name], weight)
            for name, weight in live.items()
        },
        masks=Masks(
            weights={name: mask | woken[name] for name, mask in masks.weights.items()},
            units=grown_units,
        ),
    )


def _linked(layout: Layout, masks: Masks, group: UnitGroup, part: Part) -> Tensor:
    """Which elements of the part's parameter join a unit, live or not, with live other units."""
    alive = torch.ones_like(masks.units[group.name])
    return _possible(layout, masks, part, alive)


def _possible(layout: Layout, masks: Masks, part: Part, instead_u: Tensor) -> Tensor:
    """Which weights of the part's parameter can live if the part had these units."""
    like = {part.parameter: masks.weights[part.parameter]}
    only = _of_parameter(layout, part.parameter)
    found = possible_weights(only, like, masks.units, instead={part: instead_u})
    return found[part.parameter]


def _of_parameter(layout: Layout, name: str) -> Layout:
    """The layout of one parameter alone."""
    groups = (
        dataclasses.replace(
            group, parts=tuple(part for part in group.parts if part.parameter == name)
        )
        for group in layout.groups
    )
    return Layout(groups=tuple(each for each in groups if each.parts), matrices=())


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
