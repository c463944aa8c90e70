"""How a model's layers and parameters follow its widths, read from models built at other widths.

Builds models with the user's own code. Knows neither the service nor what the layers cost.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import nn

from profiler_service.advice.layers import Layer
from profiler_service.errors import ModelError
from profiler_service.kinds import get_workload_kind
from profiler_service.widths.choice import Table
from profiler_service.workload import ParamValue

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Make = Callable[[Mapping[str, int]], nn.Module]
"""Builds the model with these widths, by the groups' names. May raise whatever the user's code
raises."""
Look = Callable[[nn.Module], Sequence[Layer]]
"""Finds the layers of a model: `advice.layers.find_layers` with the user's example."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Sizes of layers that are one choice: a residual stream, a hidden width, a number of units."""

    name: str
    width: int
    """What it is now. It needs not be among the candidates."""
    candidates: tuple[int, ...]
    """Ascending."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Number:
    """A size of a layer or of a weight: how it follows the groups' widths.

    It is `now` plus the change that each group brings. A size made of two groups is their sum, as
    after a concatenation.
    """

    now: int
    changes: Mapping[int, I64] = field(default_factory=dict)
    """Group's position → change for each of its candidates; groups without influence are absent."""

    def at(self, choice: Mapping[int, int]) -> int:
        """The number, if these groups take these candidates, and all others stay."""
        return self.now + sum(
            int(change[choice[group]]) for group, change in self.changes.items() if group in choice
        )

    def over(self, groups: Sequence[int], sizes: Sequence[int]) -> I64:
        """The number for each choice of these groups: one axis for each of them."""
        values = np.full(tuple(sizes[group] for group in groups), self.now, dtype=np.int64)
        for place, group in enumerate(groups):
            if group in self.changes:
                shape = [1] * len(groups)
                shape[place] = -1
                values = values + self.changes[group].reshape(shape)
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerSizes:
    """The question about a layer, and how its sizes follow the widths."""

    name: str
    kind: str
    fixed: tuple[tuple[str, ParamValue], ...]
    """Parameters, and dims of the kind, that no width changes."""
    sizes: Mapping[str, Number]
    """Dims and parameters of the kind that widths change, in the kind's order."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Positions of the groups that it depends on."""
        return tuple(sorted({group for size in self.sizes.values() for group in size.changes}))


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The layers and weights of a model as functions of its widths."""

    groups: tuple[Group, ...]
    layers: tuple[LayerSizes, ...]
    """Every layer that a workload kind measures and whose size some group changes."""
    weights: tuple[tuple[Number, ...], ...]
    """The shape of every weight; equal to the number of parameters, if multiplied and added."""
    left_out: tuple[Layer, ...]
    """Layers that some group changes, and that no workload kind measures."""

    def count_parameters(self) -> list[Table]:
        """The number of parameters as tables over the groups; the constant part is left out."""
        found: dict[tuple[int, ...], F64] = {}
        for shape in self.weights:
            groups = tuple(sorted({group for number in shape for group in number.changes}))
            over = functools.partial(self._product, shape)
            for part, values in separate(groups, over):
                found[part] = found.get(part, np.zeros(values.shape)) + values
        return [Table(groups=groups, values=values) for groups, values in found.items()]

    def count_fixed_parameters(self) -> int:
        """Parameters of the weights that no group changes."""
        return sum(
            math.prod(number.now for number in shape)
            for shape in self.weights
            if not any(number.changes for number in shape)
        )

    @property
    def _sizes(self) -> list[int]:
        return [len(group.candidates) for group in self.groups]

    def _product(self, shape: Sequence[Number], groups: Sequence[int]) -> F64:
        values: F64 = np.ones(tuple(self._sizes[group] for group in groups))
        for number in shape:
            values = values * number.over(groups, self._sizes)
        return values


def separate(
    groups: tuple[int, ...], values_over: Callable[[tuple[int, ...]], F64]
) -> list[tuple[tuple[int, ...], F64]]:
    """What depends on `groups`, as tables of one or two of them that are added.

    `values_over(groups)` is the value for each choice of some of the groups, the others as they are
    now. Exact for at most two groups. For more, each group's effect is taken with the others as
    they are now: to first order.
    """
    if len(groups) <= 2:
        return [(groups, values_over(groups))] if groups else []
    now = float(values_over(()))
    return [((group,), values_over((group,)) - now * (1 - 1 / len(groups))) for group in groups]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a model at some widths looks like."""

    layers: Sequence[Layer]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def form(self) -> list[object]:
        """What no width may change: which layers and weights there are."""
        questions = [
            (each.name, each.class_name, each.problem, each.question and each.question.kind)
            for each in self.layers
        ]
        return [questions, [(name, len(shape)) for name, shape in self.shapes.items()]]

    def numbers(self) -> list[int]:
        """Every whole number: of the layers' questions, then of the weights' shapes."""
        of_layers = (numbers_of(each).values() for each in self.layers)
        return [*itertools.chain(*of_layers), *itertools.chain(*self.shapes.values())]


def numbers_of(layer: Layer) -> dict[str, int]:
    """The dims of a layer's question, and its parameters that are whole numbers, by name."""
    if layer.question is None:
        return {}
    axes = get_workload_kind(layer.question.kind).axes
    numbers = dict(zip(axes, layer.question.dims, strict=True))
    return numbers | {
        name: value for name, value in layer.question.params if isinstance(value, int)
    }


def make_layer_sizes(layer: Layer, numbers: Mapping[str, Number]) -> LayerSizes:
    """The layer's question, whose `numbers_of` follow the groups as `numbers` do."""
    if layer.question is None:
        raise ValueError(f"there is no question about {layer.name}")
    others = [pair for pair in layer.question.params if pair[0] not in numbers]
    fixed = [(name, each.now) for name, each in numbers.items() if not each.changes]
    return LayerSizes(
        name=layer.name,
        kind=layer.question.kind,
        fixed=tuple(sorted([*others, *fixed])),
        sizes={name: each for name, each in numbers.items() if each.changes},
    )


def read_structure(
    make: Make,
    look: Look,
    groups: Sequence[Group],
    *,
    on_refused: Callable[[str, ModelError], None] | None = None,
) -> Structure:
    """How the layers of the models that `make` builds follow the widths of `groups`.

    A model is built at the widths now, and with each group alone at its first, middle and last
    candidate. If sizes follow a group evenly, the others are computed, else built as well.

    Raises ModelError, with the group's name, if a model can't be built or run at a candidate, or if
    a group changes more than sizes. With `on_refused`, such a group is left out, and that gets its
    name and the error.
    """
    widths = {group.name: group.width for group in groups}
    now = _see(make, look, widths)
    kept: list[Group] = []
    changes: list[I64] = []
    for group in groups:
        try:
            change = _read_changes(make, look, widths, now, group)
            if not change.any() and set(group.candidates) != {group.width}:
                raise ModelError(f"no size of a layer or weight depends on {group.name}")
            changes.append(change)
            kept.append(group)
        except ModelError as error:
            if on_refused is None:
                raise
            on_refused(group.name, error)

    def number(place: int) -> Number:
        found = {
            group: each[:, place] for group, each in enumerate(changes) if each[:, place].any()
        }
        return Number(now=values[place], changes=found)

    values = now.numbers()
    place = 0
    layers: list[LayerSizes] = []
    left_out: list[Layer] = []
    names = {id(layer): list(numbers_of(layer)) for layer in now.layers}
    for layer in now.layers:
        own = {name: number(place + offset) for offset, name in enumerate(names[id(layer)])}
        place += len(own)
        changed = any(each.changes for each in own.values())
        if layer.question is None or layer.problem:
            if changed or _has_changed_weights(layer, now, changes, len(values)):
                left_out.append(layer)
        elif changed:
            layers.append(make_layer_sizes(layer, own))
    weights: list[tuple[Number, ...]] = []
    for shape in now.shapes.values():
        weights.append(tuple(number(place + axis) for axis in range(len(shape))))
        place += len(shape)
    return Structure(
        groups=tuple(kept),
        layers=tuple(layers),
        weights=tuple(weights),
        left_out=tuple(left_out),
    )


def _has_changed_weights(
    layer: Layer, now: _Seen, changes: Sequence[I64], num_numbers: int
) -> bool:
    """Whether a width changes the shape of one of the layer's own weights."""
    place = num_numbers - sum(len(shape) for shape in now.shapes.values())
    for name, shape in now.shapes.items():
        end = place + len(shape)
        is_own = name.rpartition(".")[0] == layer.name
        if is_own and any(each[:, place:end].any() for each in changes):
            return True
        place = end
    return False


def _see(make: Make, look: Look, widths: Mapping[str, int]) -> _Seen:
    try:
        model = make(widths)
    except ModelError:
        raise
    except Exception as error:
        at = ", ".join(f"{name}={width}" for name, width in widths.items())
        raise ModelError(f"the model can't be built at {at}: {error}") from error
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    return _Seen(layers=look(model), shapes=shapes)


def _read_changes(
    make: Make, look: Look, widths: Mapping[str, int], now: _Seen, group: Group
) -> I64:
    """Change of every number for each candidate of the group [candidates, numbers]."""
    base = np.array(now.numbers())

    def change_at(width: int) -> I64:
        seen = now if width == group.width else _see(make, look, {**widths, group.name: width})
        if seen.form != now.form:
            raise ModelError(
                f"{group.name}={width} changes which layers the model has, not only their sizes",
                hint=f"leave {group.name} as it is",
            )
        change: I64 = np.array(seen.numbers()) - base
        return change

    candidates = group.candidates
    known = {
        width: change_at(width)
        for width in sorted({candidates[0], candidates[len(candidates) // 2], candidates[-1]})
    }
    slopes = {
        tuple(np.round(change / (width - group.width), 9).tolist())
        for width, change in known.items()
        if width != group.width
    }
    if len(slopes) == 1:
        slope = np.array(slopes.pop())
        for width in candidates:
            known.setdefault(width, np.rint(slope * (width - group.width)).astype(np.int64))
    return np.stack([known[width] if width in known else change_at(width) for width in candidates])
