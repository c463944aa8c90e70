"""Every layer with weights in a user's torch model, and the question to ask about each.

Runs the user's code in the user's process. Knows neither the service nor terminals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from profiler_service.advice.attention import FUNCTION, AttentionCall
from profiler_service.advice.example import Example, is_compiled
from profiler_service.advice.parts import check_question, find_parts, is_quantised, name_class
from profiler_service.advice.questions import (
    DTYPES,
    FAILED_BEFORE,
    NO_KIND,
    NOT_REACHED,
    Context,
    Question,
    make_attention_part,
)
from profiler_service.advice.running import Run, run_on
from profiler_service.advice.seen import Seen
from profiler_service.advice.timing import Call, Shares, measure_shares
from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.suggestions import did_you_mean
from profiler_service.workload import DTYPE_SIZES_BYTES, Dims


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a model, or one product of a layer, and the question about it."""

    name: str
    """Its name in `named_modules`; empty for the model itself."""
    class_name: str
    num_parameters: int
    """Numbers in its weights; those that an earlier layer has as well count there only."""
    question: Question | None
    """The workload of the same sizes; None if there is none."""
    arguments: tuple[tuple[str, int], ...] = ()
    """Constructor arguments of the layer, and which of the question's dims each one is."""
    problem: str = ""
    """Why the service can't be asked about it; empty if it can."""
    notes: tuple[str, ...] = ()
    """What to know about the question: what is assumed, and what isn't measured."""
    time_share: float | None = None
    """Its share of the model's time, from 0 to 1; None if it isn't known."""
    whole_name: str | None = None
    """Name of the whole layer, whose `time_share` it has, if it is one of several products."""

    @property
    def has_kind(self) -> bool:
        """Whether a workload kind measures layers like this one."""
        return self.problem != NO_KIND

    def sizes(self, dims: Dims) -> dict[str, int]:
        """The constructor arguments that give the layer these `dims`, its own width first.

        Empty if the layer has no argument for them.
        """
        return {name: dims[axis] for name, axis in self.arguments}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Every layer with weights of a model, and what went wrong with the example."""

    layers: tuple[Layer, ...]
    """In the model's order; a shared layer appears once."""
    problem: ModelError | None = None
    """Why the example shows nothing, or only a part; None if it shows all, or if there is none."""
    shares: Shares | None = None
    """How the model's time is divided; None if that isn't known."""
    shares_problem: ModelError | None = None
    """Why the times were to be measured, and aren't known."""


def find_layers(
    model: nn.Module,
    *,
    batch: int,
    steps: int,
    dtype: str | None = None,
    example: Example | None = None,
) -> list[Layer]:
    """The layers of `inspect_model`. Raises as that does."""
    found = inspect_model(model, batch=batch, steps=steps, dtype=dtype, example=example)
    return list(found.layers)


def inspect_model(
    model: nn.Module,
    *,
    batch: int,
    steps: int,
    dtype: str | None = None,
    example: Example | ModelError | None = None,
    timed: bool = False,
) -> Inspection:
    """Every layer with weights of its own, and the attention that modules call by themselves.

    If an `example` is given, the model runs on it. Each layer that was called then has the size of
    its input in that call, or of the largest if there were several calls. Every other layer has
    `batch` and `steps`, and a note that says so: also the layers that weren't reached before the
    model raised, and all of them if the `example` is the error that there was instead of one. Each
    layer has its own dtype unless `dtype` is given. If `timed`, the model runs some more times on
    the example, for each layer's share of its time.

    Raises ModelError if no layer has weights; InvalidRequestError if `dtype` isn't measured.
    """
    if dtype is not None and dtype not in DTYPE_SIZES_BYTES:
        raise InvalidRequestError(
            f"dtype {dtype!r} isn't measured",
            hint=did_you_mean(dtype, DTYPE_SIZES_BYTES) + f"give --dtype {DTYPES}",
        )
    run = run_on(model, example) if isinstance(example, Example) else Run(problem=example)
    tables = frozenset(
        id(each.weight)
        for each in model.modules()
        if isinstance(each, nn.Embedding) and isinstance(each.weight, nn.Parameter)
    )
    context = Context(
        assumed=Seen(batch=batch, steps=steps),
        why_assumed="" if example is None else FAILED_BEFORE if run.problem else NOT_REACHED,
        dtype=dtype,
        tables=tables,
    )
    walked = list(_walk(model, run.attention))
    shares, shares_problem = None, None
    if timed and isinstance(example, Example) and run.problem is None:
        try:
            weighted = {each for _, each in walked if has_weights(each)}
            shares = measure_shares(model, example, weighted, run.attention)
        except ModelError as error:
            shares_problem = error
    layers: list[Layer] = []
    owner: dict[int, str] = {}
    for name, module in walked:
        if has_weights(module):
            found = _describe(name, module, run.seen.get(module), context, owner)
            layers += _add_share(found, name, Call(module), shares)
        found = _describe_attention(name, run.attention.get(module, ()), context)
        layers += _add_share(found, name, Call(module, is_attention=True), shares)
    if all(layer.class_name == FUNCTION for layer in layers):
        raise ModelError(
            f"{type(model).__name__} has no layer with weights",
            hint="name a function that returns the whole model",
        )
    return Inspection(
        layers=tuple(layers),
        problem=run.problem,
        shares=shares,
        shares_problem=shares_problem,
    )


def _add_share(
    found: Iterable[Layer], name: str, call: Call, shares: Shares | None
) -> Iterator[Layer]:
    """The layer, or its parts, with its share of the time."""
    parts = list(found)
    if shares is None or isinstance(call.module, torch.jit.ScriptModule):
        yield from parts
        return
    for part in parts:
        yield dataclasses.replace(
            part,
            time_share=shares.of_calls.get(call, 0.0),
            whole_name=name if len(parts) > 1 else None,
        )


def has_weights(module: nn.Module) -> bool:
    """Whether it has weights of its own."""
    return is_quantised(module) or bool(_find_weights(module))


def _walk(model: nn.Module, also: Collection[nn.Module] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Each module with weights of its own, or in `also`, and its name.

    What belongs to such a module isn't a layer.
    """
    whole: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in whole or is_compiled(module):
            continue
        own = [] if isinstance(module, torch.jit.ScriptModule) else module.children()
        if is_quantised(module):
            whole.update(part for child in own for part in child.modules())
        elif isinstance(module, nn.MultiheadAttention):
            whole.update(module.out_proj.modules())
        parametrizations = getattr(module, "parametrizations", None)
        if isinstance(parametrizations, nn.ModuleDict):
            whole.update(parametrizations.modules())
        if module in also or has_weights(module):
            # A compiled module holds the original one, as if it were a part of it.
            yield ".".join(part for part in name.split(".") if part != "_orig_mod"), module


def _find_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """The layer's own parameters by name, with those that its weights are computed from."""
    found: dict[str, torch.Tensor] = dict(module.named_parameters(recurse=False))
    parametrizations = getattr(module, "parametrizations", None)
    if isinstance(parametrizations, nn.ModuleDict):
        found |= dict(parametrizations.named_parameters())
    if isinstance(module, nn.MultiheadAttention):
        found |= {f"out_proj.{name}": each for name, each in module.out_proj.named_parameters()}
    return found


def _describe(
    name: str,
    module: nn.Module,
    seen: Seen | None,
    context: Context,
    owner: dict[int, str],
) -> Iterator[Layer]:
    """The layer, or each of its parts. `owner` is the first layer that has each parameter."""
    weights = _find_weights(module)
    for part in find_parts(module, seen, context):
        own_name = ".".join(filter(None, (name, part.name)))
        own = {
            key: each
            for key, each in weights.items()
            if part.weights is None or key.startswith(part.weights)
        }
        shared = sorted({owner[id(each)] for each in own.values() if id(each) in owner})
        tied = (f"shares a weight with {', '.join(shared)}",) if shared else ()
        number = sum(_count(each) for each in own.values() if id(each) not in owner)
        for each in own.values():
            owner.setdefault(id(each), own_name or "the model")
        yield Layer(
            name=own_name,
            class_name=name_class(module),
            num_parameters=number or (0 if weights else count_packed(module)),
            question=part.question,
            arguments=part.arguments,
            problem=part.problem,
            notes=(*part.notes, *tied),
        )


def _describe_attention(
    name: str, calls: Sequence[AttentionCall], context: Context
) -> Iterator[Layer]:
    """The attention that a module calls by itself."""
    for call in calls:
        part = check_question(make_attention_part(call, context))
        yield Layer(
            name=name,
            class_name=FUNCTION,
            num_parameters=0,
            question=part.question,
            problem=part.problem,
            notes=part.notes,
        )


def _count(weight: torch.Tensor) -> int:
    return 0 if is_lazy(weight) else weight.numel()


def count_packed(module: nn.Module) -> int:
    """Numbers in the weights of a quantised layer, which has them in a form of its own."""
    packed: list[object] = [
        getattr(module, name)() for name in ("weight", "bias") if callable(getattr(module, name, 0))
    ]
    for name in ("get_weight", "get_bias"):
        if callable(getattr(module, name, None)):
            found: Mapping[str, object] = getattr(module, name)()
            packed += found.values()
    packed += [] if packed else module.buffers()
    return sum(each.numel() for each in packed if isinstance(each, torch.Tensor))
