"""Masks: they say which weights and which units of a network are live.

A live weight takes part in the computation; a dead or dormant one is zero. A dead unit has no live
weight. Doesn't know why a weight lives or dies. No function changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.layout import Layout, Part, Tensors

# Shapes: U the units of one group; M rows and N columns of any matrix.


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Which weights and units live. Both are named, and bool."""

    weights: Tensors
    """Of the parameters, in their shapes."""
    units: Mapping[str, Tensor]
    """Of the groups, [U] each."""

    def count_live(self) -> dict[str, int]:
        """The number of live units of each group."""
        return {name: int(live_u.sum()) for name, live_u in self.units.items()}


def full_masks(layout: Layout, weights: Tensors) -> Masks:
    """Masks in which all weights and units live. Raises LayoutError."""
    device = next(iter(weights.values())).device
    return Masks(
        weights={name: torch.ones_like(each, dtype=torch.bool) for name, each in weights.items()},
        units={
            name: torch.ones(count, dtype=torch.bool, device=device)
            for name, count in layout.count_units(weights).items()
        },
    )


def apply_masks(weights: Tensors, masks: Masks) -> dict[str, Tensor]:
    """W ⊗ Msk: the weights, with zeros for dead weights."""
    return {name: weight * masks.weights[name] for name, weight in weights.items()}


def map_matrices(
    layout: Layout, function: Callable[..., Tensor], first: Tensors, *others: Tensors
) -> dict[str, Tensor]:
    """The first tensors, with `function` of all tensors' matrices instead of its own matrices.

    The function gets each matrix whole, and returns one of its shape, of any dtype.
    """
    made: dict[str, dict[tuple[int, ...], Tensor]] = {}
    for matrix in layout.matrices:
        whole_mn = function(*(matrix.join(each) for each in (first, *others)))
        views = [first[name][at] for name, at in matrix.blocks]
        columns = torch.split(whole_mn, [view[0].numel() for view in views], dim=1)
        for (name, at), view, block_mn in zip(matrix.blocks, views, columns, strict=True):
            made.setdefault(name, {})[at] = block_mn.reshape(view.shape)
    result = dict(first)
    for name, blocks in made.items():
        dtype = next(iter(blocks.values())).dtype
        # All of its elements are replaced: matrices that share a parameter divide it among them.
        filled = first[name].to(dtype, copy=True)
        for at, block in blocks.items():
            filled[at] = block
        result[name] = filled
    return result


def seed_masks(
    layout: Layout, weights: Tensors, *, density: float, generator: torch.Generator
) -> Masks:
    """Masks of a seed: a random share `density` of every matrix lives, and all else does.

    `generator` is on the CPU, so that every device gets the same seed. Source: section 5.1,
    step (a): 50 % sparsity. Raises InvalidRequestError for a density outside 0 to 1.
    """
    if not 0 < density <= 1:
        raise InvalidRequestError(
            f"density={density} is outside 0 to 1", hint="half is what the paper starts from"
        )

    def draw(mask_mn: Tensor) -> Tensor:
        order = torch.randperm(mask_mn.numel(), generator=generator).to(mask_mn.device)
        return (order < round(density * mask_mn.numel())).view_as(mask_mn)

    full = full_masks(layout, weights)
    return Masks(weights=map_matrices(layout, draw, full.weights), units=full.units)


def scale_for_density(layout: Layout, weights: Tensors, *, density: float) -> dict[str, Tensor]:
    """The weights with those of every matrix divided by √density.

    If only a share `density` of a layer's weights lives, its outputs then vary as those of the
    whole layer. Source: ours; weights are drawn for a number of inputs, and most inputs are gone.
    """
    return map_matrices(layout, lambda weight_mn: weight_mn / density**0.5, weights)


def possible_weights(
    layout: Layout,
    like: Tensors,
    units: Mapping[str, Tensor],
    *,
    instead: Mapping[Part, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Which weights can live between these units, in the shapes of `like`.

    `instead` has the units of single parts, if they differ from those of the part's group.
    """
    given = instead or {}
    result = {name: torch.ones_like(each, dtype=torch.bool) for name, each in like.items()}
    for group, part in layout.parts():
        live_u = given.get(part, units[group.name])
        whole = result[part.parameter]
        part.view(whole).logical_and_(part.along(live_u, whole.dim()))
    return result


def without_units(layout: Layout, masks: Masks, dead: Mapping[str, Tensor]) -> Masks:
    """The masks without these units, bool [U] by group, and without their weights."""
    units = {
        name: live_u & ~dead[name] if name in dead else live_u
        for name, live_u in masks.units.items()
    }
    possible = possible_weights(layout, masks.weights, units)
    return Masks(
        weights={name: mask & possible[name] for name, mask in masks.weights.items()}, units=units
    )


def without_unconnected(layout: Layout, masks: Masks) -> Masks:
    """The masks without the units that have no inputs or no outputs, and without their weights.

    Biases are neither. The units of an output group need no outputs. Source: section 4.1.
    """
    while True:
        lonely: dict[str, Tensor] = {}
        for group in layout.groups:
            live_u = masks.units[group.name]
            for role in ("incoming", "outgoing"):
                parts = [part for part in group.parts if part.role == role]
                if not parts or (role == "outgoing" and group.is_output):
                    continue
                has_u = torch.zeros_like(live_u)
                for part in parts:
                    has_u |= part.by_unit(masks.weights[part.parameter]).any(1)
                without_u = live_u & ~has_u
                lonely[group.name] = lonely.get(group.name, without_u) | without_u
        if not any(bool(lonely_u.any()) for lonely_u in lonely.values()):
            return masks
        masks = without_units(layout, masks, lonely)


def count_weights(layout: Layout, masks: Masks) -> int:
    """The number of live weights of the matrices; biases aren't counted, as in the paper."""
    return sum(int(matrix.join(masks.weights).sum()) for matrix in layout.matrices)
