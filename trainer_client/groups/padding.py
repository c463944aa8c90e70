"""Widens a trained module without changing what it computes, and makes it narrow again.

It is the paper's row and column growth for any module: new units have only zeros, in every
parameter that they lie along. What reads them multiplies them by zero: so they add nothing, also
behind an activation with f(0) ≠ 0, such as a sigmoid. Two kinds of new units aren't all zero: the
variance of a new channel in a batch norm is 1, and a new logit's bias is the lowest number of its
dtype, which gives its word the probability zero. (Minus infinity becomes NaN as soon as something
multiplies it by zero.) A layer like RMSNorm, which divides by a mean over units, is rescaled.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from profiler_service.errors import InvalidRequestError, LhpError
from trainer_client.groups.discovery import FoundUnits, find_units
from trainer_client.groups.layout import Layout, LayoutError, Tensors
from trainer_client.groups.masks import Masks, full_masks
from trainer_client.groups.probing import evaluating
from trainer_client.groups.shrinking import shrink, widen
from trainer_client.groups.surgery import tensors_of, with_parameters

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
    """The largest difference of an output on the example, as a share of the largest output.

    Of a module of less than 32 bits, computed by copies in float32: rounding isn't in it.
    """
    layout: Layout
    masks: Masks
    """The units that there were are live, the new ones aren't."""

    def undo(self) -> M:
        """The module with the units that it had, as they are now: new units are left out.

        If the new units were trained, it computes something else than the wider module.
        """
        weights = tensors_of(self.module)
        before = {axis: width for axis, (width, _) in self.widths.items()}
        small = shrink(self.layout, weights, self.masks, widths=before)
        return with_parameters(self.module, small.weights)


def pad(
    module: M,
    *example: Any,
    to: Mapping[str, int],
    logits: Collection[str] = (),
    tolerance: float = 1e-5,
    **keywords: Any,
) -> Padded[M]:
    """A copy of the module with `to` units along each of these axes, which computes the same.

    The example is what the module is called with; on it, the outputs are compared. `find_units`
    says which axes there are, and what `logits` are. New logits come after those that there are,
    which stay. The module is in evaluation mode meanwhile, and stays as it was.

    Raises InvalidRequestError for an axis that isn't there or a width below what there is,
    LayoutError if the module has no units or can't be called when it is wider, and
    UnequalOutputsError if an output differs by more than `tolerance`, as a share of the largest.
    """
    padder = Padder(module, *example, logits=logits, tolerance=tolerance, **keywords)
    return padder.pad(to)


class Padder(Generic[M]):
    """A module whose units are found once, to be padded to several widths."""

    def __init__(
        self,
        module: M,
        *example: Any,
        logits: Collection[str] = (),
        tolerance: float = 1e-5,
        found: FoundUnits | None = None,
        **keywords: Any,
    ) -> None:
        """Finds the units. As `pad`; raises LayoutError if there are none.

        Units may be known already (`found`). Outputs may then have more of them, as states do.
        """
        self.module = module
        self.found = found or find_units(module, *example, logits=logits, **keywords)
        self.widths = widths_of(self.found.layout, tensors_of(module))
        """The number of units along each axis."""
        self._example, self._keywords = example, keywords
        self._tolerance, self._may_grow = tolerance, bool(logits) or found is not None

    def pad(self, to: Mapping[str, int]) -> Padded[M]:
        """A wider copy of the module: see the function of this name, which it raises as."""
        if unknown := sorted(set(to) - set(self.widths)):
            fixed = (f"; {name} is fixed: {reason}" for name, reason in self.found.fixed.items())
            raise InvalidRequestError(
                f"the module has no axis {unknown[0]!r}",
                hint=f"there are: {tell_axes(self.widths)}{''.join(fixed)}",
            )
        layout, weights = self.found.layout, tensors_of(self.module)
        wide, masks = widen(layout, weights, full_masks(layout, weights), widths=to)
        padded = with_parameters(self.module, wide)
        difference = self._compare(padded, axes=to)
        if not difference <= self._tolerance:
            raise UnequalOutputsError(
                f"the padded module's outputs differ by {difference:.1e} of the largest output",
                hint="the module uses its parameters in a way that running it doesn't show; leave"
                f" out one of the axes: {', '.join(to)}",
            )
        return Padded(
            module=padded,
            widths={axis: (self.widths[axis], width) for axis, width in to.items()},
            largest_difference=difference,
            layout=layout,
            masks=masks,
        )

    def _compare(self, padded: M, *, axes: Iterable[str]) -> float:
        """How much the outputs on the example differ: see `Padded.largest_difference`."""
        module: nn.Module = self.module
        wide: nn.Module = padded
        given = (self._example, dict(self._keywords))
        if any(_is_short(each) for each in tensors_of(module).values()):
            module, wide = copy.deepcopy(module).float(), copy.deepcopy(padded).float()
            given = pytree.tree_map_only(
                Tensor, lambda each: each.float() if _is_short(each) else each, given
            )
        args, kwargs = given
        with torch.no_grad(), evaluating(module), evaluating(wide):
            expected = module(*args, **kwargs)
            try:
                return _differ(expected, wide(*args, **kwargs), may_grow=self._may_grow)
            except Exception as error:
                raise LayoutError(
                    f"the padded module can't be called: {type(error).__name__}: {error}",
                    hint="a layer reads the units in a way that running the module doesn't show,"
                    " through torch.where or nan_to_num, say; leave out one of the axes:"
                    f" {', '.join(axes)}",
                ) from error


def widths_of(layout: Layout, tensors: Tensors) -> dict[str, int]:
    """The number of units along each axis."""
    counts = layout.count_units(tensors)
    return {group.dimension: counts[group.name] for group in layout.groups}


def tell_axes(widths: Mapping[str, int]) -> str:
    """The axes and their widths, for a hint."""
    return ", ".join(f"{axis} ({width})" for axis, width in widths.items())


def _is_short(tensor: Tensor) -> bool:
    """Whether it has less than 32 bits a number."""
    return tensor.is_floating_point() and tensor.element_size() < 4


def _differ(first: Any, second: Any, *, may_grow: bool) -> float:
    """The largest difference of two outputs, as a share of the largest value; infinite if NaN.

    If they `may_grow`, the second's tensors may be longer along one axis: what is new isn't
    compared.
    """
    largest = difference = 0.0
    pairs = zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=True)
    for a, b in pairs:
        if not isinstance(a, Tensor) or not a.numel():
            continue
        if may_grow and a.dim() == b.dim():
            longer = [axis for axis in range(a.dim()) if b.shape[axis] > a.shape[axis]]
            for axis in longer[:1]:
                b = b.narrow(axis, 0, a.shape[axis])
        if a.shape != b.shape:
            return torch.inf
        found = float((a.double() - b.double()).abs().max())
        difference = max(difference, found if found == found else torch.inf)
        largest = max(largest, float(a.double().abs().max()))
    return difference / max(largest, torch.finfo(torch.float32).tiny)
