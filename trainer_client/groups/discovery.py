"""Finds the units of any module by running it: which layers make a unit, and which read it.

Layers whose outputs one column reads have their units in common. A column that depends on several
units, or a model's output that depends on one, fixes the units' number: they can't be pruned or
grown. So does a layer that isn't known here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer_client.groups.layers import recurrent_layout
from trainer_client.groups.layout import Layout, LayoutError, Matrix, Part, UnitGroup
from trainer_client.groups.probing import Layer, Probe, Readers, evaluating, layers_of

_GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
"""The gates of the recurrent layers that are known."""


@dataclass(frozen=True, kw_only=True)
class FoundUnits:
    """The units of a module."""

    layout: Layout
    fixed: dict[str, str]
    """Layers whose units can't be pruned or grown, and why."""


def find_units(model: nn.Module, *example: Any, **keywords: Any) -> FoundUnits:
    """The units of a module that can be called with this example.

    Known layers are `nn.Linear`, `nn.Embedding`, and `nn.LSTM`, `nn.GRU` and `nn.RNN` of one
    direction without a projection. Layers whose outputs are added have their units in common. What
    reads units through a function that takes no NaN on, like `torch.where`, isn't seen. The module
    is run in evaluation mode and stays as it was. Raises LayoutError if there is nothing
    that could be pruned or grown.
    """
    layers = layers_of(model)
    probe = Probe(model, layers, lambda: model(*example, **keywords))
    with evaluating(model), probe.hooked(), torch.no_grad():
        probe.run()
        found = {
            name: probe.find_readers(layer)
            for name, layer in layers.items()
            if layer.units and layer.outputs
        }
    return _join(model, layers, found)


def _join(model: nn.Module, layers: dict[str, Layer], found: dict[str, Readers]) -> FoundUnits:
    """The groups: units that lie along one axis of one parameter are the same units."""
    canonical = {id(each): name for name, each in model.named_parameters()}

    def called(part: Part) -> Part:
        """The part under the name that `named_parameters` gives a parameter that is shared."""
        owner, _, name = part.parameter.rpartition(".")
        shared = getattr(model.get_submodule(owner), name)
        return dataclasses.replace(part, parameter=canonical[id(shared)])

    fixed: dict[str, str] = {}
    for name, layer in layers.items():
        if not layer.outputs:
            fixed[name] = "the example doesn't reach it"
        elif not layer.units:
            fixed[name] = f"{type(layer.module).__name__} isn't a layer whose units are known"
    merged: list[tuple[list[str], dict[tuple[str, int], Part]]] = []
    for name, readers in found.items():
        layer = layers[name]
        makers = [name]
        parts = {
            (part.parameter, part.axis): part
            for part in map(called, (*_parts_of(layer), *_reading_parts(layers, readers)))
        }
        for other in [each for each in merged if each[1].keys() & parts.keys()]:
            merged.remove(other)
            makers = other[0] + makers
            # A weight that is shared makes units and reads them. What makes them comes first.
            parts = {**parts, **other[1]}
        merged.append((makers, parts))
    groups: list[UnitGroup] = []
    for makers, parts in merged:
        reasons = {name: found[name].reason for name in makers if found[name].reason}
        if reasons:
            first = next(iter(reasons))
            shared = f"it has its units in common with {first}"
            fixed |= {name: reasons.get(name, shared) for name in makers}
            continue
        axis = f"{makers[0]}.units"
        for name in makers:
            groups += [dataclasses.replace(each, axis=axis) for each in _inner_groups(layers[name])]
        groups.append(UnitGroup(name=makers[0], parts=tuple(parts.values()), axis=axis))
    if not groups:
        told = "; ".join(f"{name}: {reason}" for name, reason in fixed.items())
        raise LayoutError(
            f"the module has no units that could be pruned or grown ({told or 'it has no layers'})",
            hint="units are found between layers: nn.Linear, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN",
        )
    layout = Layout(groups=tuple(groups), matrices=tuple(_matrices_of(layers.values(), groups)))
    layout.check(dict(model.named_parameters()))
    return FoundUnits(layout=layout, fixed=fixed)


def _parts_of(layer: Layer) -> tuple[Part, ...]:
    """The parts that make the layer's units: those that its output has."""
    if isinstance(layer.module, nn.RNNBase):
        return _recurrent_groups(layer)[-1].parts
    if isinstance(layer.module, nn.Embedding):
        return (Part(parameter=layer.prefix("weight"), axis=1, role="incoming"),)
    weight = Part(parameter=layer.prefix("weight"), axis=0, role="incoming")
    if layer.module.bias is None:
        return (weight,)
    return weight, Part(parameter=layer.prefix("bias"), axis=0, role="bias")


def _reading_parts(layers: dict[str, Layer], readers: Readers) -> Iterator[Part]:
    """The parts of other layers that read the units."""
    for name, reading in readers.by_layer.items():
        layer = layers[name]
        is_recurrent = isinstance(layer.module, nn.RNNBase)
        yield Part(
            parameter=layer.prefix("weight_ih_l0" if is_recurrent else "weight"),
            axis=1,
            role="outgoing",
            before=reading.before,
            after=reading.after,
        )


def _inner_groups(layer: Layer) -> tuple[UnitGroup, ...]:
    """The units within a layer that consists of several."""
    return _recurrent_groups(layer)[:-1] if isinstance(layer.module, nn.RNNBase) else ()


def _recurrent_groups(layer: Layer) -> tuple[UnitGroup, ...]:
    module = layer.module
    assert isinstance(module, nn.RNNBase)
    return recurrent_layout(
        layer.name,
        num_gates=_GATES[type(module)],
        layers=module.num_layers,
        bias=module.bias,
    ).groups


def _matrices_of(layers: Iterable[Layer], groups: list[UnitGroup]) -> Iterator[Matrix]:
    """The matrices of the layers that make or read units, but for embeddings."""
    touched = {part.parameter for group in groups for part in group.parts}
    for layer in layers:
        if isinstance(layer.module, nn.Linear) and layer.prefix("weight") in touched:
            yield Matrix(blocks=((layer.prefix("weight"), ()),))
        elif isinstance(layer.module, nn.RNNBase):
            for number in range(layer.module.num_layers):
                blocks = tuple((layer.prefix(f"weight_{of}_l{number}"), ()) for of in ("ih", "hh"))
                if any(name in touched for name, _ in blocks):
                    yield Matrix(blocks=blocks)
