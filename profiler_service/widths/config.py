"""Widths that a model's factory takes as arguments: which of them are widths, and in which steps.

Runs the user's code in the user's process. Knows neither the service nor what layers cost.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.widths.candidates import WINDOW, find_candidates
from profiler_service.widths.structure import Group

Factory = Callable[..., object]

MAX_STEP = 128
"""Largest step in which a width is tried: no common model has more heads or groups."""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A whole-number argument of a factory."""

    name: str
    value: int
    may_shrink: bool = True
    """Whether a smaller value does the task, too: a vocabulary can only grow."""


def parse_argument(text: str) -> Argument:
    """The argument written as NAME=NUMBER, or as NAME=NUMBER+ if it may only grow.

    Raises InvalidRequestError.
    """
    name, _, value = text.partition("=")
    may_shrink = not value.endswith("+")
    digits = value.removesuffix("+")
    if not name.isidentifier() or not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        raise InvalidRequestError(
            f"{text[:80]!r} gives no whole number to an argument",
            hint="write NAME=NUMBER: hidden=1197; or vocabulary=50257+ for what may only grow",
        )
    return Argument(name=name, value=int(digits), may_shrink=may_shrink)


def find_arguments(factory: Factory, given: Sequence[Argument]) -> list[Argument]:
    """The arguments `given`; without any, those of the factory that have whole-number defaults."""
    if given:
        return list(given)
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        Argument(name=each.name, value=each.default)
        for each in parameters
        if isinstance(each.default, int) and not isinstance(each.default, bool)
    ]


def build(factory: Factory, values: Mapping[str, int]) -> nn.Module:
    """The model with these arguments. Raises ModelError if the factory does, or gives none."""
    try:
        model = factory(**values)
    except (Exception, SystemExit) as error:
        at = ", ".join(f"{name}={value}" for name, value in values.items())
        reason = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"the factory raised {type(error).__name__} at {at}: {reason[0]}",
            hint="name only arguments that the factory takes",
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"the factory gives a {type(model).__name__}, no torch.nn.Module")
    return model


def sketch(factory: Factory, values: Mapping[str, int]) -> nn.Module:
    """As `build`, on the meta device if the factory allows it: without memory."""
    with contextlib.suppress(ModelError), torch.device("meta"):
        model = build(factory, values)
        if {each.device.type for each in model.parameters()} == {"meta"}:
            return model
    return build(factory, values)


def find_step(factory: Factory, values: Mapping[str, int], name: str) -> int:
    """The smallest step by which the argument `name` can grow from its value.

    A width that six heads share grows in steps of six. Raises ModelError if no step of at most
    MAX_STEP is possible.
    """
    for step in range(1, MAX_STEP + 1):
        with contextlib.suppress(ModelError):
            sketch(factory, {**values, name: values[name] + step})
            return step
    raise ModelError(f"the factory takes no value of {name} shortly above {values[name]}")


def find_groups(
    factory: Factory,
    arguments: Sequence[Argument],
    *,
    window: float = WINDOW,
    on_refused: Callable[[str, ModelError], None],
) -> list[Group]:
    """The arguments as groups of widths, with candidates that the factory takes.

    One that can't change is left out: `on_refused` gets its name and why. Raises ModelError if the
    factory can't build the model as it is.
    """
    values = {each.name: each.value for each in arguments}
    sketch(factory, values)
    groups: list[Group] = []
    for each in arguments:
        try:
            step = find_step(factory, values, each.name)
            candidates = find_candidates(
                each.value,
                lowest=None if each.may_shrink else each.value,
                multiple_of=step,
                window=window,
            )
        except (ModelError, InvalidRequestError) as error:
            on_refused(each.name, ModelError(str(error)))
            continue
        if candidates == (each.value,):
            reason = f"the factory takes no other value within {window:.0%} of it"
            on_refused(each.name, ModelError(reason))
        else:
            groups.append(Group(name=each.name, width=each.value, candidates=candidates))
    return groups
