"""Widens a trained module without changing what it computes, and makes it narrow again.

It is the paper's row and column growth for any module: new units have only zeros, in every
parameter that they lie along. What reads them adds zero, whatever comes between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from profiler_service.errors import InvalidRequestError, LhpError
from trainer_client.groups.discovery import find_units
from trainer_client.groups.layout import Layout, LayoutError
from trainer_client.groups.masks import Masks, full_masks
from trainer_client.groups.probing import evaluating
from trainer_client.groups.shrinking import shrink, widen
from trainer_client.groups.surgery import with_parameters

M = TypeVar("M", bound=nn.Module)


class UnequalOutputsError(LhpError):
    """A module that was padded computes something else."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded(Generic[M]):
    """A wider module, and the way back."""

    module: M
    widths: Mapping[str, tuple[int, int]]
    """For each axis that was asked for, its units before and now."""
    largest_difference: float
    """The largest difference of an output on the example, as a share of the largest output."""
    layout: Layout
    masks: Masks
    """The units that there were are live, the new ones aren't."""

    def undo(self) -> M:
        """The module with the units that it had, as they are now: new units are left out.

        If the new units were trained, it computes something else than the wider module.
        """
        weights = {name: each.detach() for name, each in self.module.named_parameters()}
        before = {axis: width for axis, (width, _) in self.widths.items()}
        small = shrink(self.layout, weights, self.masks, widths=before)
        return with_parameters(self.module, small.weights)


def pad(
    module: M, *example: Any, to: Mapping[str, int], tolerance: float = 1e-5, **keywords: Any
) -> Padded[M]:
    """A copy of the module with `to` units along each of these axes, which computes the same.

    The example is what the module is called with; on it, the outputs are compared. `find_units`
    says which axes there are. The module is in evaluation mode meanwhile, and stays as it was.

    Raises InvalidRequestError for an axis that isn't there or a width below what there is,
    LayoutError if the module has no units or can't be called when it is wider, and
    UnequalOutputsError if an output differs by more than `tolerance`, as a share of the largest.
    """
    layout = find_units(module, *example, **keywords).layout
    weights = {name: each.detach() for name, each in module.named_parameters()}
    counts = layout.count_units(weights)
    there = {group.dimension: counts[group.name] for group in layout.groups}
    if unknown := sorted(set(to) - set(there)):
        raise InvalidRequestError(
            f"the module has no axis {unknown[0]!r}",
            hint="there are: " + ", ".join(f"{axis} ({width})" for axis, width in there.items()),
        )
    wide, masks = widen(layout, weights, full_masks(layout, weights), widths=to)
    padded = with_parameters(module, wide)
    with torch.no_grad(), evaluating(module), evaluating(padded):
        expected = module(*example, **keywords)
        try:
            found = padded(*example, **keywords)
        except (RuntimeError, ValueError) as error:
            raise LayoutError(
                f"the padded module can't be called: {error}",
                hint="a layer reads the units in a way that running the module doesn't show,"
                " through torch.where or nan_to_num, say; leave out one of the axes:"
                f" {', '.join(to)}",
            ) from error
        difference = _differ(expected, found)
    if not difference <= tolerance:
        raise UnequalOutputsError(
            f"the padded module's outputs differ by {difference:.1e} of the largest output",
            hint="the module uses its parameters in a way that running it doesn't show; leave out"
            f" one of the axes: {', '.join(to)}",
        )
    return Padded(
        module=padded,
        widths={axis: (there[axis], width) for axis, width in to.items()},
        largest_difference=difference,
        layout=layout,
        masks=masks,
    )


def _differ(first: Any, second: Any) -> float:
    """The largest difference of two outputs, as a share of the largest value; infinite if NaN."""
    largest = difference = 0.0
    pairs = zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=True)
    for a, b in pairs:
        if not isinstance(a, Tensor) or not a.numel():
            continue
        if a.shape != b.shape:
            return torch.inf
        found = float((a.double() - b.double()).abs().max())
        difference = max(difference, found if found == found else torch.inf)
        largest = max(largest, float(a.double().abs().max()))
    return difference / max(largest, torch.finfo(torch.float32).tiny)
