"""What a model is called with: the arguments that a user's example means.

Knows no workload. `profiler_service.advice.running` runs the model.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from profiler_service.advice.loading import describe_raised


@dataclass(frozen=True, kw_only=True)
class Example:
    """The arguments with which a model is called."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict)


def arrange_example(value: object, model: nn.Module) -> Example:
    """The arguments that `value` means for the model's `forward`.

    A tuple or a list means several arguments. A mapping, a dataclass or a named tuple means keyword
    arguments if `forward` has parameters of these names, and else is one argument. So is everything
    else, and a tuple that `forward` can't take as several arguments. Raises ModelError if the value
    raises.
    """
    try:
        fields = _find_fields(value)
    except Exception as error:
        hint = "look at how the example's class gives its fields"
        raise describe_raised("reading the example input", error, hint=hint) from error
    try:
        signature = inspect.signature(unwrap(model).forward)
    except (TypeError, ValueError):  # scripted and traced models may have none
        if isinstance(value, Mapping):
            return Example(kwargs=fields or {})
        is_several = fields is None and isinstance(value, (tuple, list))
        return Example(args=tuple(value) if is_several else (value,))  # type: ignore[arg-type]
    if fields is not None:
        names_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        takes_them = (isinstance(value, Mapping) and names_any) or (
            fields.keys() <= signature.parameters.keys()
        )
        if takes_them and _can_bind(signature, Example(kwargs=fields)):
            return Example(kwargs=fields)
    elif isinstance(value, (tuple, list)) and _can_bind(signature, Example(args=tuple(value))):
        return Example(args=tuple(value))
    return Example(args=(value,))


def _find_fields(value: object) -> dict[str, object] | None:
    """The named parts of a value; None if its parts have no names."""
    if isinstance(value, PackedSequence):  # a named tuple, but one input
        return None
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _can_bind(signature: inspect.Signature, example: Example) -> bool:
    try:
        signature.bind(*example.args, **example.kwargs)
    except TypeError:
        return False
    return True


def is_compiled(module: nn.Module) -> bool:
    """Whether it is what torch.compile wraps a module into. Its only part is the original one."""
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")


def unwrap(model: nn.Module) -> nn.Module:
    """The model that torch.compile has wrapped; the model itself if it isn't wrapped."""
    return model.get_submodule("_orig_mod") if is_compiled(model) else model
