"""Smaller and wider networks that compute the same: dead units leave, or come.

No function changes its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.layout import Layout, Part, Tensors
from trainer_client.groups.masks import Masks, apply_masks

# Shapes: U the units of one group.


@dataclass(frozen=True, kw_only=True, eq=False)
class Shrunk:
    """The weights of a smaller network that computes the same, and the origin of its units."""

    weights: dict[str, Tensor]
    masks: Masks
    index: Mapping[str, Tensor]
    """By group: its unit u was unit `index[group][u]`."""


def shrink(
    layout: Layout, weights: Tensors, masks: Masks, *, widths: Mapping[str, int] | None = None
) -> Shrunk:
    """The network without its dead units: the same outputs from smaller dense matrices.

    Units keep their order. `widths` gives the number of units of an axis; the default is the
    smallest that holds every live unit of all groups of that axis. If the groups have different
    numbers of units, or a larger width is asked for, some dead units stay, all zero.

    Raises InvalidRequestError for a width below the number of live units, or above that of all.
    """
    most: dict[str, int] = {}
    for group in layout.groups:
        live = int(masks.units[group.name].sum())
        most[group.dimension] = max(most.get(group.dimension, 1), live)
    chosen = {**most, **(widths or {})}
    index = {
        group.name: _live_first(
            masks.units[group.name], chosen[group.dimension], most[group.dimension], group.dimension
        )
        for group in layout.groups
    }

    def gather(tensors: Tensors) -> dict[str, Tensor]:
        result = dict(tensors)
        for name, parts in _parts_by_parameter(layout).items():
            indices = [
                (part, part.index(index[group], len(masks.units[group]))) for group, part in parts
            ]
            result[name] = _select(tensors[name], indices)
        return result

    units = {name: live_u[index[name]] for name, live_u in masks.units.items()}
    small = gather(apply_masks(weights, masks))
    for group, part in layout.parts():
        small[part.parameter] = _restore(small[part.parameter], part, units[group.name])
        if part.is_averaged:
            before = len(masks.units[group.name])
            small[part.parameter] = _rescale(small[part.parameter], before, len(index[group.name]))
    return Shrunk(
        weights=small, masks=Masks(weights=gather(masks.weights), units=units), index=index
    )


def widen(
    layout: Layout, weights: Tensors, masks: Masks, *, widths: Mapping[str, int]
) -> tuple[dict[str, Tensor], Masks]:
    """The weights and masks with dead units added, up to these widths of axes.

    Zeros (or the parts' `fill`) come after the units that there are: the network computes the same.
    Raises InvalidRequestError if a width is below what there is.
    """
    more = {}
    for group in layout.groups:
        there = len(masks.units[group.name])
        more[group.name] = widths.get(group.dimension, there) - there
        if more[group.name] < 0:
            raise InvalidRequestError(
                f"{group.dimension}={widths[group.dimension]}, but there are {there} units",
                hint="units can only be added here; shrink removes dead ones",
            )

    def pad(tensors: Tensors, *, is_mask: bool) -> dict[str, Tensor]:
        result = dict(tensors)
        for name, parts in _parts_by_parameter(layout).items():
            done = set()
            for group, part in parts:
                # Parts of several indices `at` are padded together: they have one axis.
                if (part.axis, part.before, part.after) not in done:
                    done.add((part.axis, part.before, part.after))
                    fill = 0.0 if is_mask else part.fill
                    result[name] = _pad(result[name], part, more[group], fill)
                    if part.is_averaged and not is_mask:
                        there = len(masks.units[group])
                        result[name] = _rescale(result[name], there, there + more[group])
        return result

    return pad(weights, is_mask=False), Masks(
        weights=pad(masks.weights, is_mask=True),
        units={name: F.pad(live_u, (0, more[name])) for name, live_u in masks.units.items()},
    )


def _parts_by_parameter(layout: Layout) -> dict[str, list[tuple[str, Part]]]:
    found: dict[str, list[tuple[str, Part]]] = {}
    for group, part in layout.parts():
        found.setdefault(part.parameter, []).append((group.name, part))
    return found


def _select(tensor: Tensor, indices: list[tuple[Part, Tensor]], depth: int = 0) -> Tensor:
    """The elements with these indices along the parts' axes. `depth` axes are gone already."""
    for part, index in indices:
        if len(part.at) == depth:
            tensor = tensor.index_select(part.axis - depth, index)
    deeper = [each for each in indices if len(each[0].at) > depth]
    if not deeper:
        return tensor
    return torch.stack(
        [
            _select(each, [d for d in deeper if d[0].at[depth] == number], depth + 1)
            for number, each in enumerate(tensor)
        ]
    )


def _rescale(weight: Tensor, before: int, now: int) -> Tensor:
    """The weight of a layer that divides by the root mean square over `before` units, for `now`.

    Units that come and go are zero: the sum of squares stays, and their mean changes by the share
    before / now. What is divided by its root changes by the root of now / before.
    """
    return weight * math.sqrt(before / now) if before != now else weight


def _restore(tensor: Tensor, part: Part, live_u: Tensor) -> Tensor:
    """The tensor, in which dead units have the part's `fill`, where they were set to zero."""
    if not part.fill or bool(live_u.all()):
        return tensor
    return tensor.masked_fill(~part.along(live_u, tensor.dim()), part.fill)


def _pad(tensor: Tensor, part: Part, more: int, fill: float) -> Tensor:
    """The tensor with `more` units of the value `fill` in every run of the part's axis."""
    if more == 0:
        return tensor
    units = part.count_units(tensor)
    shape = tensor.shape
    runs = tensor.reshape(
        *shape[: part.axis], part.before, units, part.after, *shape[part.axis + 1 :]
    )
    # F.pad counts axes from the last one.
    behind = runs.dim() - 1 - (part.axis + 1)
    padded = F.pad(runs, [*([0, 0] * behind), 0, more], value=fill)
    return padded.flatten(part.axis, part.axis + 2)


def _live_first(live_u: Tensor, width: int, most: int, name: str) -> Tensor:
    """The indices of `width` units in order: the live ones, and dead ones if there is room."""
    if not max(most, 1) <= width <= len(live_u):
        raise InvalidRequestError(
            f"{name}={width}, but {most} of {len(live_u)} units live",
            hint="prune to that width first, or keep more",
        )
    live_before_dead = torch.argsort(~live_u, stable=True)
    return live_before_dead[:width].sort().values
