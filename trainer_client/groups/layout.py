"""What the units of a network are, and where the weights of each unit lie.

A unit is what is pruned and grown as a whole: a state unit of an LSTM, a hidden unit of a gate, a
channel, a head. Its weights are slices of several parameters: the intrinsic sparse structure of the
ISS paper. If all of them are zero, the unit can be removed, and every product with it gets smaller.

A layout knows no sizes: it stays the same while a network shrinks and grows. All functions over
groups take a layout and the parameters by name. None changes its arguments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from profiler_service.errors import LhpError

# Shapes: U the units of one group. Parameters have any shape.

Tensors = Mapping[str, Tensor]
"""Parameters, their masks or their gradients, by the names of the parameters."""
Role = Literal["incoming", "outgoing", "bias"]


class LayoutError(LhpError):
    """A layout that doesn't fit a network: a parameter is missing, or two slices disagree."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The slices of one parameter that belong to the units of a group."""

    parameter: str
    axis: int
    """The axis of the parameter along which the units follow one another."""
    role: Role
    """`incoming`: what a unit is computed from. `outgoing`: what is computed from the unit."""
    at: tuple[int, ...] = ()
    """Indices into the first axes of the parameter: only this part of it belongs to the group."""
    before: int = 1
    """The axis has this many runs of all units. An `nn.LSTM` has one for each gate."""
    after: int = 1
    """Each unit has so many neighbouring indices in a run. A head has its width."""
    is_ranked: bool = True
    """Whether its weights count when units are compared. Those of a large vocabulary would decide
    alone; biases never count."""
    fill: float = 0.0
    """The value of a new unit. It is zero, but for variances, which divide, and masked logits."""
    is_averaged: bool = False
    """Whether its layer divides by the root of the mean square over all units, as RMSNorm does. The
    number of units is then in what each of them becomes: weights are rescaled with it."""

    def view(self, tensor: Tensor) -> Tensor:
        """The part of the tensor that `at` selects; a view."""
        return tensor[self.at] if self.at else tensor

    def count_units(self, tensor: Tensor) -> int:
        """How many units the axis has. Raises LayoutError if that isn't a whole number."""
        if self.axis >= tensor.dim() or self.axis < len(self.at):
            raise LayoutError(
                f"{self.parameter} has {tensor.dim()} axes, so its axis {self.axis} has no units",
                hint="correct the layout, or find it anew from the network",
            )
        count, rest = divmod(tensor.shape[self.axis], self.before * self.after)
        if rest:
            raise LayoutError(
                f"axis {self.axis} of {self.parameter} has length {tensor.shape[self.axis]}, which"
                f" isn't a multiple of {self.before * self.after}",
                hint="correct the layout, or find it anew from the network",
            )
        return count

    def by_unit(self, tensor: Tensor) -> Tensor:
        """The part's elements of each unit, [U, elements of one unit]."""
        units = self.count_units(tensor)
        axis = self.axis - len(self.at)
        view = self.view(tensor)
        runs = view.reshape(
            *view.shape[:axis], self.before, units, self.after, *view.shape[axis + 1 :]
        )
        return runs.movedim(axis + 1, 0).flatten(1)

    def along(self, each_u: Tensor, dims: int) -> Tensor:
        """A value for each unit, repeated along the part's axis, to be broadcast over the part.

        `dims` is the number of axes of the whole parameter.
        """
        run = each_u[None, :, None].expand(self.before, -1, self.after).flatten()
        return run.view([-1, *[1] * (dims - self.axis - 1)])

    def index(self, unit_n: Tensor, units: int) -> Tensor:
        """The indices along the axis of these of `units` units, run by run."""
        run_n = unit_n[:, None] * self.after + torch.arange(self.after, device=unit_n.device)
        starts = torch.arange(self.before, device=unit_n.device) * units * self.after
        return (starts[:, None] + run_n.flatten()).flatten()

    def meets(self, other: Part) -> bool:
        """Whether both have elements in common: they are of one parameter, and of one `at`."""
        return self.parameter == other.parameter and all(
            a == b for a, b in zip(self.at, other.at, strict=False)
        )


@dataclass(frozen=True, kw_only=True)
class UnitGroup:
    """Units of one kind: every index along one named axis of the network."""

    name: str
    parts: tuple[Part, ...]
    axis: str = ""
    """Groups of one axis always have the same number of units: one dimension of the workload that
    the service measures. The group's name if it is left out."""
    is_output: bool = False
    """Whether something outside of the parts reads the units. Such a unit needs no weight of the
    role `outgoing` to be of use."""

    @property
    def dimension(self) -> str:
        """The axis, or the name."""
        return self.axis or self.name

    def count_units(self, tensors: Tensors) -> int:
        """How many units the group has. Raises LayoutError if its slices disagree."""
        counts: dict[str, int] = {}
        for part in self.parts:
            if part.parameter not in tensors:
                raise LayoutError(
                    f"group {self.name} needs a parameter {part.parameter}, which isn't there",
                    hint=f"there are: {', '.join(tensors)}",
                )
            counts[f"axis {part.axis} of {part.parameter}"] = part.count_units(
                tensors[part.parameter]
            )
        if len(set(counts.values())) != 1:
            told = "; ".join(f"{count} along {where}" for where, count in counts.items())
            raise LayoutError(
                f"the slices of group {self.name} disagree about its units: {told or 'no slices'}",
                hint="correct the layout, or find it anew from the network",
            )
        return next(iter(counts.values()))


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Weights that are ranked together when single weights are pruned or grown.

    It may be cut into several blocks with the same rows: one after the other, they make its
    columns. A gate's H consists of the input's columns and the state's.
    """

    blocks: tuple[tuple[str, tuple[int, ...]], ...]
    """Of each block, the parameter's name, and indices into its first axes."""

    def join(self, tensors: Tensors) -> Tensor:
        """The whole matrix, [M, N]. All axes of a parameter but the first make its columns."""
        return torch.cat([tensors[name][at].flatten(1) for name, at in self.blocks], dim=1)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The units of a network, and its matrices."""

    groups: tuple[UnitGroup, ...]
    matrices: tuple[Matrix, ...]

    def check(self, tensors: Tensors) -> None:
        """Returns if the layout fits the parameters. Raises LayoutError."""
        if not self.groups:
            raise LayoutError(
                "the network has no group of units that could be pruned or grown",
                hint="it needs a layer with hidden units: nn.LSTM, nn.GRU, or nn.Linear followed by"
                " another layer",
            )
        twice = [name for name, n in Counter(each.name for each in self.groups).items() if n > 1]
        if twice:
            raise LayoutError(
                f"several groups are called {twice[0]}", hint="give each a name of its own"
            )
        self.count_units(tensors)

    def count_units(self, tensors: Tensors) -> dict[str, int]:
        """The number of units of each group, by its name. Raises LayoutError.

        Also if groups of one axis have different numbers.
        """
        counts = {group.name: group.count_units(tensors) for group in self.groups}
        of_axis: dict[str, tuple[str, int]] = {}
        for group in self.groups:
            first, count = of_axis.setdefault(group.dimension, (group.name, counts[group.name]))
            if counts[group.name] != count:
                raise LayoutError(
                    f"groups {first} and {group.name} share the axis {group.dimension}, but have"
                    f" {count} and {counts[group.name]} units",
                    hint="correct the layout, or find it anew from the network",
                )
        return counts

    def count_possible(self, widths: Mapping[str, int], tensors: Tensors) -> int:
        """The number of elements of all matrices, if axes have these widths.

        Axes without a width have that of the parameters.
        """
        shapes = {name: list(each.shape) for name, each in tensors.items()}
        for group, part in self.parts():
            if group.dimension in widths:
                length = part.before * part.after * widths[group.dimension]
                shapes[part.parameter][part.axis] = length
        return sum(
            math.prod(shapes[name][len(at) :])
            for matrix in self.matrices
            for name, at in matrix.blocks
        )

    def parts(self) -> Iterator[tuple[UnitGroup, Part]]:
        """Every part, with its group."""
        for group in self.groups:
            for part in group.parts:
                yield group, part
