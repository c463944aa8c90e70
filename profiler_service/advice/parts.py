"""The parts of a layer of a torch model, and why some can't be asked about.

Reads sizes only; runs nothing. Knows neither the service nor terminals.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from profiler_service.advice.questions import (
    DTYPES,
    NO_EXAMPLE,
    NO_KIND,
    QUANTISED,
    SCRIPTED,
    Context,
    Part,
)
from profiler_service.advice.readers import (
    READERS,
    is_dynamic_linear,
    is_transposed_linear,
    read_dynamic_linear,
    read_transposed_linear,
)
from profiler_service.advice.seen import Seen
from profiler_service.grid import MAX_DIM
from profiler_service.workload import DTYPE_SIZES_BYTES

_QUANTISED_MODULES = (
    *("torch.ao.nn.quantized", "torch.ao.nn.qat", "torch.ao.nn.intrinsic.q"),
    *("torch.nn.quantized", "torch.nn.qat"),
)
_OWN_WEIGHTS_ENDINGS = ("_orig", "_v")
"""How torch.nn.utils.prune and weight_norm name the parameter that a weight is computed from."""


def find_parts(module: nn.Module, seen: Seen | None, context: Context) -> list[Part]:
    """The parts of a layer with weights of its own, at least one, each with question or problem."""
    if isinstance(module, torch.jit.ScriptModule):
        return [Part(problem=SCRIPTED)]
    if is_dynamic_linear(module):
        return [check_question(part) for part in read_dynamic_linear(module, seen, context)]
    if is_quantised(module):
        return [Part(problem=QUANTISED)]
    for layer_type, reader in READERS.items():
        if isinstance(module, layer_type):
            parts = reader(module, seen, context)
            notes = _find_notes(module)
            return [_check(part, module, notes) for part in parts]
    if is_transposed_linear(module):
        parts = read_transposed_linear(module, seen, context)
        return [_check(part, module, ()) for part in parts]
    return [Part(problem=NO_KIND)]


def is_quantised(module: nn.Module) -> bool:
    """Whether the layer multiplies rounded weights: whole numbers, or floats of one byte."""
    if type(module).__module__.startswith(_QUANTISED_MODULES):
        return True
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return any(
        "weight" in name
        and not is_lazy(each)
        and each.dim() > 1
        and each.dtype != torch.bool  # the mask of a pruned weight
        and (each.element_size() == 1 or not (each.is_floating_point() or each.is_complex()))
        for name, each in own
    )


def name_class(module: nn.Module) -> str:
    """The layer's class as people write it: `nn.Conv3d`."""
    if isinstance(module, torch.jit.ScriptModule):
        return f"{module.original_name} (scripted)"
    found = type(module)
    if parametrize.is_parametrized(module):  # its class is made anew, with the real one as base
        found = found.__mro__[1]
    if found.__module__.startswith("torch.nn.modules."):
        return f"nn.{found.__name__}"
    if found.__module__.startswith("torch.ao.nn.quantized.dynamic"):
        return f"dynamically quantised {found.__name__}"
    return found.__name__


def _find_notes(module: nn.Module) -> tuple[str, ...]:
    """What is special about a layer that is measured as a plain one."""
    notes = []
    names = [name for name, _ in module.named_parameters(recurse=False)]
    if parametrize.is_parametrized(module) or any(
        name.endswith(_OWN_WEIGHTS_ENDINGS) for name in names
    ):
        notes.append("measured without what computes its weight (its parametrisation)")
    base = next(
        each for each in type(module).__mro__ if each.__module__.startswith("torch.nn.modules.")
    )
    if type(module).forward is not getattr(base, "forward", None):
        notes.append(f"its class has a forward of its own: measured as nn.{base.__name__}")
    return tuple(notes)


def _check(part: Part, module: nn.Module, notes: tuple[str, ...]) -> Part:
    """The part with these notes besides its own, and the reason why it can't be asked about."""
    part = dataclasses.replace(part, notes=(*part.notes, *notes))
    odd = next(
        (type(each) for each in module.parameters(recurse=False) if not _is_plain(each)), None
    )
    if part.question is None or part.problem or min(part.question.dims) < 1 or odd is None:
        return check_question(part)
    return dataclasses.replace(part, problem=f"its weight is a {odd.__name__}, no plain tensor")


def check_question(part: Part) -> Part:
    """The part, with the reason why it can't be asked about if its question has one."""
    question, problem = part.question, part.problem
    if question is None or problem:
        return part
    dtype = dict(question.params)["dtype"]
    if min(question.dims) < 1:
        problem = NO_EXAMPLE
    elif max(question.dims) > MAX_DIM:
        problem = f"larger than {MAX_DIM}, the largest dimension that is measured"
    elif dtype not in DTYPE_SIZES_BYTES:
        problem = f"{dtype} isn't measured: give --dtype {DTYPES}"
    return dataclasses.replace(part, problem=problem)


def _is_plain(weight: torch.Tensor) -> bool:
    return type(weight) in (torch.Tensor, nn.Parameter, nn.UninitializedParameter)
