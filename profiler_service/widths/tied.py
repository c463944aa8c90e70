"""Sizes of a model that change together, found by pruning copies.

Torch-Pruning's dependency graph (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900) says what
belongs together. Pruning a copy and running it shows by how much each layer's sizes follow, and in
which steps: a width that six heads share changes by six. Runs the user's code in this process.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from profiler_service.advice.example import Example, unwrap
from profiler_service.advice.layers import Layer, inspect_model
from profiler_service.advice.loading import describe_raised
from profiler_service.advice.meta import take_to_meta
from profiler_service.advice.running import evaluating
from profiler_service.errors import ModelError
from profiler_service.widths.candidates import WINDOW, find_candidates
from profiler_service.widths.structure import (
    Group,
    LayerSizes,
    Number,
    make_layer_sizes,
    numbers_of,
)

MAX_STEP = 128
"""Largest step in which a width is tried: no common model has more heads, or wider ones."""
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class TiedGroup:
    """Sizes of layers that change together."""

    group: Group
    """Named after the layer whose outputs have the width."""
    multiple_of: int
    """The step in which the width can change."""
    layers: tuple[LayerSizes, ...]
    """Layers that a workload kind measures; their sizes follow group 0."""
    left_out: tuple[str, ...]
    """Names of the others that change."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A width that can't change, or whose layers aren't measured."""

    name: str
    width: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Tied:
    """Every group of a model."""

    groups: tuple[TiedGroup, ...]
    kept: tuple[Kept, ...]


def find_tied(model: nn.Module, example: Example, *, window: float = WINDOW) -> Tied:
    """The groups of sizes that change together when a model runs on the example.

    The model itself stays as it is. Candidates are the width now and larger ones within `window`.
    What changes the shapes of the model's output is kept. Raises ModelError if Torch-Pruning isn't
    installed or can't follow the model, or if the model doesn't run.
    """
    own = unwrap(model)
    traced = _Traced(own, example)
    now = before = traced.look()
    groups: list[TiedGroup] = []
    kept: list[Kept] = []
    for name in traced.find_roots():
        if traced.is_spoilt:
            traced = _Traced(own, example)
            before = now
        width = traced.width(name)
        reason = _shrink(traced, name, now.output)
        if not reason:
            after = traced.look()
            if after.form == now.form:
                step = width - traced.width(name)
                found = _read(now, before, after, name, width, step, window)
                before = after
                if found.layers and len(found.group.candidates) > 1:
                    groups.append(found)
                    continue
                reason = "no workload kind measures its layers"
                if found.layers:
                    reason = f"no larger multiple of {step} lies within {window:.0%} of it"
            else:
                reason = "it changes which layers the model has, not only their sizes"
        traced.is_spoilt = True
        kept.append(Kept(name=name, width=width, reason=reason))
    return Tied(groups=tuple(groups), kept=tuple(kept))


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a model at some widths looks like."""

    layers: Sequence[Layer]
    weights: Mapping[str, tuple[int, ...]]
    output: Shapes

    @property
    def form(self) -> list[object]:
        """What no width may change: the layers, and how each one is measured."""
        return [(each.name, each.question and each.question.kind) for each in self.layers]


class _Traced:
    """A copy of a model with its dependency graph, that can be pruned unit by unit."""

    def __init__(self, model: nn.Module, example: Example) -> None:
        try:
            import torch_pruning
        except ModuleNotFoundError as error:
            raise ModelError(
                "Torch-Pruning finds which sizes belong together, and isn't installed",
                hint="pip install torch-pruning",
            ) from error
        self.is_spoilt = False
        """Whether it was pruned in a way that no later group can be compared with."""
        if {each.device.type for each in model.parameters()} == {"meta"}:
            (args, kwargs), _ = take_to_meta((example.args, dict(example.kwargs)))
            example = Example(args=args, kwargs=kwargs)
        self._example = example
        self._units: dict[str, int] = {}
        """How many outputs of a layer are removed at once: one of each group of channels."""
        self._model = copy.deepcopy(model)
        self._modules = dict(self._model.named_modules())
        same: dict[int, list[str]] = defaultdict(list)
        for name, weight in self._model.named_parameters(remove_duplicate=False):
            same[id(weight)].append(name)
        self._ties = [names for names in same.values() if len(names) > 1]
        self.look()  # says what is wrong with the example
        self._types = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)
        try:
            with warnings.catch_warnings():  # about weights that belong to no layer
                warnings.simplefilter("ignore")
                self._graph: Any = torch_pruning.DependencyGraph().build_dependency(
                    self._model,
                    example_inputs=example.args,
                    forward_fn=lambda model, _: model(*example.args, **example.kwargs),
                )
        except Exception as error:
            hint = "it follows models whose every step torch can differentiate"
            raise describe_raised("Torch-Pruning", error, hint=hint) from error

    def find_roots(self) -> list[str]:
        """Names of the layers with whose outputs the groups begin, in the model's order."""
        names = {module: name for name, module in self._modules.items()}
        groups = self._graph.get_all_groups(root_module_types=self._types)
        found = {group[0].dep.target.module for group in groups}
        return [name for module, name in names.items() if module in found]

    def width(self, name: str) -> int:
        """Number of a layer's outputs."""
        return int(self._graph.get_out_channels(self._modules[name]))

    def prune_unit(self, name: str) -> None:
        """Removes one of a layer's outputs, and all that depends on it.

        If a convolution in groups depends on them, it is one of each group of channels.
        """
        module, width = self._modules[name], self.width(name)
        prune = self._graph.get_pruner_of_module(module).prune_out_channels
        if name not in self._units:
            group = self._graph.get_pruning_group(module, prune, list(range(width)))
            convolutions = [item.dep.target.module for item in group]
            self._units[name] = math.lcm(
                *(
                    each.groups
                    for each in convolutions
                    if isinstance(each, nn.modules.conv._ConvNd)
                    and each.groups != each.out_channels
                )
            )
        unit = self._units[name]
        removed = [place * width // unit for place in range(unit)]
        self._graph.get_pruning_group(module, prune, removed).prune()
        for first, *others in self._ties:
            for other in others:
                owner, _, leaf = other.rpartition(".")
                weight = self._model.get_parameter(first)
                if self._model.get_parameter(other).shape == weight.shape:
                    setattr(self._modules[owner], leaf, weight)

    def look(self) -> _Look:
        """The model's layers now. Raises ModelError if it doesn't run on the example."""
        found = inspect_model(self._model, batch=1, steps=1, example=self._example)
        if found.problem is not None:
            raise found.problem
        weights = {name: tuple(each.shape) for name, each in self._model.named_parameters()}
        return _Look(layers=found.layers, weights=weights, output=self.run())

    def run(self) -> Shapes:
        """The shapes of the tensors that the model gives. Raises whatever the model does."""
        with evaluating(self._model):
            return tuple(_find_shapes(self._model(*self._example.args, **self._example.kwargs)))


def _find_shapes(value: object) -> list[tuple[int, ...]]:
    if isinstance(value, torch.Tensor):
        return [tuple(value.shape)]
    if isinstance(value, Mapping):
        return [shape for each in value.values() for shape in _find_shapes(each)]
    if isinstance(value, (tuple, list)):
        return [shape for each in value for shape in _find_shapes(each)]
    return []


def _shrink(traced: _Traced, name: str, output: Shapes) -> str:
    """Prunes units until the model runs again; why that can't be, or an empty string."""
    width = traced.width(name)
    last = ""
    while True:
        try:
            traced.prune_unit(name)
        except Exception as error:  # noqa: BLE001  whatever Torch-Pruning raises
            return f"Torch-Pruning can't change it: {_first_line(error)}"
        left = traced.width(name)
        if left < 1 or width - left > MAX_STEP or left == width:
            return f"the model runs at no other width: {last}" if last else "it is too small"
        if width % (width - left):
            continue
        try:
            found = traced.run()
        except Exception as error:  # noqa: BLE001  whatever the user's code raises
            last = _first_line(error)
            continue
        return "" if found == output else "it is the size of the model's output"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _read(
    now: _Look, before: _Look, after: _Look, name: str, width: int, step: int, window: float
) -> TiedGroup:
    """The group, from the model as it is, and before and after it was shrunk by a step.

    Before, groups that came earlier were shrunk as well.
    """
    larger = find_candidates(width, lowest=width, multiple_of=step, window=window)
    candidates = tuple(sorted({width, *larger}))
    steps = (np.array(candidates) - width) // step
    layers = []
    left_out = []
    changed = {
        weight.rpartition(".")[0]
        for weight, shape in before.weights.items()
        if after.weights.get(weight) != shape
    }
    for mine, full, shrunk in zip(now.layers, before.layers, after.layers, strict=True):
        more, less = numbers_of(full), numbers_of(shrunk)
        sizes = {
            key: Number(
                now=number,
                changes={0: steps * (more[key] - less[key])} if more[key] != less[key] else {},
            )
            for key, number in numbers_of(mine).items()
        }
        if mine.question is None or mine.problem:
            if mine.name in changed:
                left_out.append(mine.name)
        elif any(number.changes for number in sizes.values()):
            layers.append(make_layer_sizes(mine, sizes))
    return TiedGroup(
        group=Group(name=name, width=width, candidates=candidates),
        multiple_of=step,
        layers=tuple(layers),
        left_out=tuple(left_out),
    )
