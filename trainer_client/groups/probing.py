"""Shows which layers of a module read which units, by running it with some of them marked by NaN.

NaN goes through everything that is computed from it, up to the next layer's input. There it shows
which column reads which unit. That layer then returns what it did without marks. Each unit has a
number, and each run marks the units with one of its binary digits: so ⌈log₂ units⌉ runs, and as
many with the other units marked, tell of every column all units that it depends on.

Knows nothing of groups.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from profiler_service.errors import LhpError
from trainer_client.groups.known import Known, is_layer, look_up
from trainer_client.groups.layout import LayoutError

# Shapes: U units, C columns of a layer's input, N runs, L layers of a recurrent module, B batch.


RETURNED = "the model returns them"
"""Why the number of the output's units is fixed."""


class ModuleFailedError(LayoutError):
    """The module raised when it was called."""


@dataclass(kw_only=True)
class Layer:
    """A layer of the module, and what the runs have shown of it."""

    name: str
    module: nn.Module
    known: Known
    outputs: list[Any] = field(default_factory=list)
    """What it returned in the first run, call by call."""
    calls: int = 0

    @property
    def units(self) -> int:
        """Number of units that it makes; 0 if it isn't known."""
        return self.known.units

    def prefix(self, parameter: str) -> str:
        """The name that the whole module gives a parameter of the layer."""
        return f"{self.name}.{parameter}" if self.name else parameter


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the columns of a layer's input depend on another layer's units."""

    before: int
    after: int


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """The modules that `is_layer` names, by name."""
    return {
        name: Layer(name=name, module=module, known=look_up(module))
        for name, module in model.named_modules()
        if is_layer(module)
    }


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In this context, the module and all in it are in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What reads a layer's units."""

    by_layer: dict[str, Reading]
    reasons: tuple[str, ...]
    """Why the units' number is fixed; empty if it isn't."""


_Marked = tuple[Layer, Tensor | None]
"""A layer, and which of its units are NaN; None for those of its inner layers."""


class Probe:
    """Runs the module with some units of one layer marked by NaN, or those of several zeroed."""

    def __init__(self, model: nn.Module, layers: dict[str, Layer], call: Callable[[], Any]) -> None:
        self._model = model
        self._layers = layers
        self._call = call
        self._marked: _Marked | None = None
        self._zeroed: Collection[str] = ()
        """Layers that return zeros."""
        self._nonzero: set[str] = set()
        """Layers that were given something else than zeros."""
        self._seen: dict[str, Tensor] = {}
        """For each layer that was called, which of its columns are NaN: [C]."""
        self._unknown: set[str] = set()
        """Layers of which an input is NaN, but not as columns."""

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """In this context, the module's layers tell this object what they get and return."""
        handles = []
        for layer in self._layers.values():
            handles.append(
                layer.module.register_forward_pre_hook(
                    lambda _, args, kwargs, layer=layer: self._read(layer, (args, kwargs)),
                    with_kwargs=True,
                )
            )
            handles.append(
                layer.module.register_forward_hook(
                    lambda _, args, output, layer=layer: self._write(layer, output)
                )
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self, marked: _Marked | None = None) -> bool:
        """Runs the module with these units of a layer marked; whether its output is NaN then.

        Raises ModuleFailedError.
        """
        self._marked, self._seen, self._unknown = marked, {}, set()
        for layer in self._layers.values():
            layer.calls = 0
        try:
            output = self._call()
        except LhpError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise ModuleFailedError(
                f"the module raised {type(error).__name__}{f': {lines[0]}' if lines else ''}",
                hint="call it with the example in plain Python",
            ) from error
        return any(_has_nan(each) for each in _tensors_of(output))

    def is_given_zeros(self, name: str, *, makers: Collection[str]) -> bool:
        """Whether the layer's input is zero if these layers return zeros."""
        self._zeroed, self._nonzero = makers, set()
        try:
            self.run()
        finally:
            self._zeroed = ()
        return name not in self._nonzero

    def find_readers(self, layer: Layer) -> Readers:
        """What reads the layer's units."""
        try:
            return self._find_readers(layer)
        except ModuleFailedError as error:
            return Readers(by_layer={}, reasons=(f"{error} when they were NaN",))

    def _find_readers(self, layer: Layer) -> Readers:
        number_u = torch.arange(layer.units)
        digits = max(1, (layer.units - 1).bit_length())
        ones: list[dict[str, Tensor]] = []
        zeros: list[dict[str, Tensor]] = []
        unknown: set[str] = set()
        is_output = False
        for digit in range(digits):
            is_one_u = (number_u >> digit & 1).bool()
            for runs, marked_u in ((ones, is_one_u), (zeros, ~is_one_u)):
                is_output |= self.run((layer, marked_u))
                runs.append(self._seen)
                unknown |= self._unknown
        reasons = [RETURNED] if is_output else []
        readings: dict[str, Reading] = {}
        for name in self._seen:
            reading = self._find_reading(name, layer.units, ones, zeros)
            if isinstance(reading, str):
                reasons.append(f"{name} {reading}")
            elif reading is not None:
                readings[name] = reading
        if unknown - set(readings):
            reasons.append(f"{min(unknown)} reads them as a state")
        if getattr(layer.module, "num_layers", 1) > 1 and (
            self.run((layer, None)) or self._unknown or any(c.any() for c in self._seen.values())
        ):
            reasons.append("the states of its inner layers are read")
        if not (readings or reasons):
            reasons.append("no layer reads them")
        return Readers(by_layer=readings, reasons=tuple(reasons))

    def _find_reading(
        self, name: str, units: int, ones: list[dict[str, Tensor]], zeros: list[dict[str, Tensor]]
    ) -> Reading | str | None:
        """How the layer reads the units; why that fixes them; or None if it doesn't read them.

        `ones` and `zeros` have, for each digit, what was NaN if the units with that digit were
        marked, and if the others were.
        """
        ones_nc = torch.stack([each[name] for each in ones]).cpu()
        zeros_nc = torch.stack([each[name] for each in zeros]).cpu()
        if not (ones_nc.any() or zeros_nc.any()):
            return None
        layer = self._layers[name]
        if not layer.known.reads:
            return f"({type(layer.module).__name__}) {layer.known.reason or 'reads them'}"
        if (ones_nc & zeros_nc).any():
            return "reads several of them as one"
        if not (ones_nc | zeros_nc).all():
            return "reads others beside them"
        digit_n1 = 2 ** torch.arange(len(ones))[:, None]
        found = _find_order((ones_nc * digit_n1).sum(0), units)
        if found is None:
            return "reads them in an order of its own"
        if layer.known.is_unit_by_unit and found != Reading(before=1, after=1):
            return f"({type(layer.module).__name__}) reads each of them several times"
        return found

    def _read(self, layer: Layer, given: Any) -> None:
        tensors = [each for each in _tensors_of(given) if each.is_floating_point()]
        if not tensors:
            return
        first, *others = tensors
        if bool(first.any()):
            self._nonzero.add(layer.name)
        nan_c = first.isnan()
        if first.dim() > 1:
            axis = layer.known.axis if -first.dim() <= layer.known.axis < first.dim() else -1
            nan_c = nan_c.movedim(axis, -1).flatten(0, -2).any(0)
        before = self._seen.get(layer.name)
        self._seen[layer.name] = nan_c if before is None else before | nan_c
        if any(_has_nan(each) for each in others):
            self._unknown.add(layer.name)

    def _write(self, layer: Layer, output: Any) -> Any:
        call, layer.calls = layer.calls, layer.calls + 1
        if self._marked is None and not self._zeroed:
            layer.outputs.append(output)
            return output
        if call >= len(layer.outputs):
            raise LayoutError(
                f"{layer.name} is called more often if its inputs are other numbers",
                hint="give an example for which the module's calls don't depend on values",
            )
        clean = layer.outputs[call]
        if self._marked is None:
            is_zeroed = layer.name in self._zeroed
            return pytree.tree_map_only(Tensor, torch.zeros_like, clean) if is_zeroed else clean
        marked, is_marked_u = self._marked
        if marked is not layer:
            return clean
        if not isinstance(layer.module, nn.RNNBase):
            assert is_marked_u is not None
            return _mark(clean, is_marked_u, layer.known.axis)
        states, last = clean
        runs = layer.known.runs
        if is_marked_u is None:
            return states, pytree.tree_map(lambda each: _mark_inner(each, runs), last)
        # The units of all directions follow one another; a state has an index for each direction.
        is_marked_c = is_marked_u.repeat(runs)
        return (
            pytree.tree_map_only(Tensor, lambda each: _mark(each, is_marked_c), states),
            pytree.tree_map(lambda each: _mark_last(each, is_marked_u, runs), last),
        )


def _mark(tensor: Tensor, is_marked_u: Tensor, axis: int = -1) -> Tensor:
    """The tensor with NaN for the marked units, which lie along that axis."""
    if not tensor.is_floating_point():
        return tensor  # the lengths of a PackedSequence
    is_marked = is_marked_u.to(tensor.device)
    behind = tensor.dim() - 1 - axis % tensor.dim()
    return tensor.masked_fill(is_marked.view(-1, *[1] * behind), torch.nan)


def _mark_last(state_lbu: Tensor, is_marked_u: Tensor, runs: int) -> Tensor:
    """As `_mark`, for the last layer's state only, which has so many directions."""
    return torch.cat([state_lbu[:-runs], _mark(state_lbu[-runs:], is_marked_u)])


def _mark_inner(state_lbu: Tensor, runs: int) -> Tensor:
    """The states of all layers, with NaN for those of all but the last."""
    return torch.cat([torch.full_like(state_lbu[:-runs], torch.nan), state_lbu[-runs:]])


def _tensors_of(given: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(given) if isinstance(each, Tensor)]


def _has_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _find_order(unit_c: Tensor, units: int) -> Reading | None:
    """In which order columns read units: whole runs of them, neighbouring columns each."""
    runs, rest = divmod(len(unit_c), units)
    if rest:
        return None
    for after in range(1, runs + 1):
        if runs % after == 0:
            run_c = torch.arange(units).repeat_interleave(after).repeat(runs // after)
            if unit_c.equal(run_c):
                return Reading(before=runs // after, after=after)
    return None
