"""Finds the units of any module by running it: which layers make a unit, and which read it.

Layers whose outputs one column reads have their units in common. A column that depends on several
units, or a model's output that depends on one, fixes the units' number: they can't be pruned or
grown. So does a layer that isn't known here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from profiler_service.errors import InvalidRequestError
from trainer_client.groups.layout import Layout, LayoutError, Matrix, Part, UnitGroup
from trainer_client.groups.probing import (
    RETURNED,
    Layer,
    Probe,
    Readers,
    evaluating,
    layers_of,
)
from trainer_client.groups.surgery import tensors_of


@dataclass(frozen=True, kw_only=True)
class FoundUnits:
    """The units of a module."""

    layout: Layout
    """It names parameters, and the buffers that units lie along: `surgery.tensors_of` has both."""
    fixed: dict[str, str]
    """Layers whose units can't be pruned or grown, and why."""


def find_units(
    model: nn.Module, *example: Any, logits: Collection[str] = (), **keywords: Any
) -> FoundUnits:
    """The units of a module that can be called with this example.

    Known layers are `nn.Linear`, `nn.Embedding`, `nn.Conv1d` and `nn.Conv2d` of one group of
    channels or of one for each channel, `nn.BatchNorm1d` and `nn.BatchNorm2d`, `nn.RMSNorm`, and
    `nn.LSTM`, `nn.GRU` and `nn.RNN` without a projection. Layers whose outputs are added have their
    units in common. A layer that averages over units, such as `nn.LayerNorm`, fixes their number.
    So does the model's output, but for layers named in `logits`: they are `nn.Linear` with a bias,
    which make one logit for each word. A word can be added by a bias so low that its probability is
    zero.

    What reads units through a function that takes no NaN on, like `torch.where`, isn't seen. The
    module is run in evaluation mode and stays as it was. Raises LayoutError if there is nothing
    that could be pruned or grown, or if the module can't be called with the example;
    InvalidRequestError for `logits` that aren't such layers.
    """
    if any(each.is_meta for each in model.parameters()):
        raise LayoutError(
            "the module has no data (it is on the meta device), so nothing can be run",
            hint="give it with its weights",
        )
    layers = layers_of(model)
    for name in logits:
        _check_logits(layers, name)
    probe = Probe(model, layers, lambda: model(*example, **keywords))
    with evaluating(model), probe.hooked(), torch.no_grad():
        probe.run()
        found = {
            name: probe.find_readers(layer)
            for name, layer in layers.items()
            if layer.units and layer.outputs
        }
        return _Joiner(model, layers, found, probe, logits).join()


def _check_logits(layers: dict[str, Layer], name: str) -> None:
    layer = layers.get(name)
    if layer is None or not isinstance(layer.module, nn.Linear) or layer.module.bias is None:
        linear = [each for each, other in layers.items() if isinstance(other.module, nn.Linear)]
        raise InvalidRequestError(
            f"{name!r} is no nn.Linear with a bias, so it has no logits that could be masked",
            hint=f"name the decoder; there are: {', '.join(linear) or 'none'}",
        )


@dataclass(kw_only=True)
class _Merged:
    """Layers that have their units in common."""

    makers: list[str]
    parts: dict[tuple[str, int], Part]
    """By parameter and axis: units that lie along one axis of one parameter are the same units."""
    problem: str = ""
    """Why their number is fixed, besides what the layers' readers say."""


class _Joiner:
    """Makes groups of what was found of each layer."""

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, Layer],
        found: dict[str, Readers],
        probe: Probe,
        logits: Collection[str],
    ) -> None:
        self._model = model
        self._layers = layers
        self._found = found
        self._probe = probe
        self._logits = logits
        self._canonical = {id(each): name for name, each in model.named_parameters()}
        self._canonical |= {id(each): name for name, each in model.named_buffers()}

    def join(self) -> FoundUnits:
        """The groups, and the layers whose units are fixed."""
        fixed = {}
        for name, layer in self._layers.items():
            if not layer.outputs:
                fixed[name] = "the example doesn't reach it"
            elif not layer.units:
                fixed[name] = f"{type(layer.module).__name__} {layer.known.reason}"
        groups: list[UnitGroup] = []
        for merged in self._merge():
            reasons = {name: self._reason(name) for name in merged.makers if self._reason(name)}
            problem = merged.problem or ("" if reasons else self._find_problem(merged))
            if problem:
                fixed |= {name: reasons.get(name, problem) for name in merged.makers}
                continue
            if reasons:
                shared = f"it has its units in common with {next(iter(reasons))}"
                fixed |= {name: reasons.get(name, shared) for name in merged.makers}
                continue
            groups += self._make_groups(merged)
        if not groups:
            told = "; ".join(f"{name}: {reason}" for name, reason in fixed.items())
            raise LayoutError(
                "the module has no units that could be pruned or grown"
                f" ({told or 'it has no layers'})",
                hint="units are found between layers: nn.Linear, nn.Embedding, nn.Conv1d,"
                " nn.Conv2d, nn.LSTM, nn.GRU, nn.RNN",
            )
        matrices = tuple(_matrices_of(self._layers.values(), groups))
        layout = Layout(groups=tuple(groups), matrices=matrices)
        layout.check(tensors_of(self._model))
        return FoundUnits(layout=layout, fixed=fixed)

    def _reason(self, name: str) -> str:
        """Why the layer's own units are fixed; empty if they aren't."""
        readers = self._found[name]
        is_masked = name in self._logits and readers.reasons == (RETURNED,) and not readers.by_layer
        return "" if is_masked else next(iter(readers.reasons), "")

    def _merge(self) -> list[_Merged]:
        """The layers, those together that have their units in common."""
        result: list[_Merged] = []
        for name in self._found:
            merged = _Merged(
                makers=[name],
                parts={(part.parameter, part.axis): part for part in self._parts_of(name)},
            )
            for other in [each for each in result if each.parts.keys() & merged.parts.keys()]:
                result.remove(other)
                for key in other.parts.keys() & merged.parts.keys():
                    mine, theirs = merged.parts[key], other.parts[key]
                    if (mine.before, mine.after) != (theirs.before, theirs.after):
                        merged.problem = f"units lie along {key[0]} in two ways"
                merged = _Merged(
                    makers=other.makers + merged.makers,
                    # A weight that is shared makes units and reads them. What makes them is first.
                    parts={**merged.parts, **other.parts},
                    problem=other.problem or merged.problem,
                )
            result.append(merged)
        return result

    def _parts_of(self, name: str) -> Iterator[Part]:
        """The parts that make the layer's units, and those of other layers that read them."""
        layer = self._layers[name]
        for part in layer.known.makes:
            if name in self._logits and part.role == "bias":
                lowest = torch.finfo(layer.module.get_parameter(part.parameter).dtype).min
                part = dataclasses.replace(part, fill=lowest)
            yield self._called(layer, part)
        for reader, reading in self._found[name].by_layer.items():
            for part in self._layers[reader].known.reads:
                runs = dataclasses.replace(part, before=reading.before, after=reading.after)
                yield self._called(self._layers[reader], runs)

    def _called(self, layer: Layer, part: Part) -> Part:
        """The part under the name that the model gives a parameter, which may be shared."""
        shared = getattr(layer.module, part.parameter)
        return dataclasses.replace(part, parameter=self._canonical[id(shared)])

    def _find_problem(self, merged: _Merged) -> str:
        """Why units can't be added although every layer allows it; empty if they can."""
        if all(self._layers[name].known.is_unit_by_unit for name in merged.makers):
            return "it reads them one by one, and no layer whose units may change makes them"
        averaging = [name for name in merged.makers if self._averages(name)]
        for name in averaging:
            if not self._probe.is_given_zeros(name, makers=merged.makers):
                return (
                    f"{name} ({type(self._layers[name].module).__name__}) averages over them, and a"
                    " unit whose layers return zero isn't zero there: something between, such as an"
                    " activation with f(0) ≠ 0, changes it"
                )
        return ""

    def _averages(self, name: str) -> bool:
        return any(part.is_averaged for part in self._layers[name].known.makes)

    def _make_groups(self, merged: _Merged) -> Iterator[UnitGroup]:
        """The units that the layers have in common, and those within layers of several."""
        axis = f"{merged.makers[0]}.units"
        for name in merged.makers:
            layer = self._layers[name]
            for inner in layer.known.groups:
                parts = tuple(self._called(layer, part) for part in inner.parts)
                yield dataclasses.replace(
                    inner, name=layer.prefix(inner.name), parts=parts, axis=axis
                )
        yield UnitGroup(
            name=merged.makers[0],
            parts=tuple(merged.parts.values()),
            axis=axis,
            is_output=any(name in self._logits for name in merged.makers),
        )


def _matrices_of(layers: Iterable[Layer], groups: list[UnitGroup]) -> Iterator[Matrix]:
    """The matrices of the layers that make or read units, but for embeddings and norms."""
    touched = {part.parameter for group in groups for part in group.parts}
    for layer in layers:
        module = layer.module
        is_dense = isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == 1
        if isinstance(module, nn.Linear) or is_dense:
            if layer.prefix("weight") in touched:
                yield Matrix(blocks=((layer.prefix("weight"), ()),))
        elif isinstance(module, nn.RNNBase):
            for name, _ in module.named_parameters():
                if name.startswith("weight_ih"):
                    names = (layer.prefix(name), layer.prefix(name.replace("_ih", "_hh")))
                    if touched.intersection(names):
                        yield Matrix(blocks=tuple((each, ()) for each in names))
