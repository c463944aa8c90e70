"""Which layers' sizes follow which axis of a module, and what the oracle says of these layers.

A layer's sizes are those of `profiler_service.advice`: `lhp advise` asks the same questions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.layers import inspect_model
from profiler_service.advice.questions import Question
from profiler_service.client import ServiceFailedError
from profiler_service.errors import (
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    NotFoundError,
)
from trainer_client.groups.layout import LayoutError
from trainer_client.groups.padding import Padder, UnequalOutputsError
from trainer_client.oracle.answers import LatencyAnswer
from trainer_client.oracle.protocol import LatencyOracle

M = TypeVar("M", bound=nn.Module)

OF_ONE_LAYER = (InvalidRequestError, NotFoundError, MeasurementFailedError, ServiceFailedError)
"""Errors that may concern one layer only."""


@dataclass(frozen=True, kw_only=True)
class AskedLayer:
    """Layers of the same sizes, and what the oracle said of them."""

    names: tuple[str, ...]
    question: Question
    follows: Mapping[int, tuple[str, int]]
    """For each dim that an axis changes: the axis, and the dim's step for a unit."""
    answer: LatencyAnswer | None = None
    problem: str = ""
    """Why there is no answer; empty if there is one."""

    @property
    def proposes(self) -> bool:
        """Whether the answer grows a dim that an axis changes."""
        return self.answer is not None and any(self.answer.grow_by[dim] for dim in self.follows)

    @property
    def saves_s(self) -> float:
        """What larger dims save of a call of the module, in seconds, by the answer."""
        if self.answer is None or not self.proposes:
            return 0.0
        return len(self.names) * (self.answer.latency_s - self.answer.lhp_latency_s)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What is asked, and axes of which nothing is."""

    layers: tuple[AskedLayer, ...]
    refused: Mapping[str, str]
    """Axes that can't be padded although the units were found, and why."""


def find_followers(padder: Padder[M], example: Example) -> Followed:
    """The layers whose sizes follow the module's axes, those with equal questions together.

    Each axis is padded by one unit, which shows what changes and by how much. An axis is refused if
    that isn't possible. Raises ModelError if the module can't be run on the example.
    """
    now = _inspect(padder.module, example)
    refused: dict[str, str] = {}
    changes: dict[str, dict[int, tuple[str, int]]] = {name: {} for name in now}
    for axis, width in padder.widths.items():
        try:
            wider = _inspect(padder.pad({axis: width + 1}).module, example)
        except (LayoutError, UnequalOutputsError) as error:
            refused[axis] = str(error)
            continue
        for name, question in now.items():
            dims = wider[name].dims if name in wider else question.dims
            for dim, (before, after) in enumerate(zip(question.dims, dims, strict=True)):
                if before != after:
                    changes[name][dim] = (axis, after - before)
    layers: list[AskedLayer] = []
    for name, question in now.items():
        if not changes[name]:
            continue
        mine = AskedLayer(names=(name,), question=question, follows=changes[name])
        for place, other in enumerate(layers):
            if (other.question, other.follows) == (mine.question, mine.follows):
                layers[place] = dataclasses.replace(other, names=(*other.names, name))
                break
        else:
            layers.append(mine)
    return Followed(layers=tuple(layers), refused=refused)


def _inspect(module: nn.Module, example: Example) -> dict[str, Question]:
    """The questions about the module's layers, by name. Raises ModelError."""
    found = inspect_model(module, batch=1, steps=1, example=example)
    if found.problem is not None:
        raise found.problem
    return {
        layer.name: layer.question
        for layer in found.layers
        if layer.question is not None and not layer.problem
    }


def ask_each(
    oracle: LatencyOracle, layers: Sequence[AskedLayer], *, max_growth: float
) -> list[AskedLayer]:
    """The layers with the oracle's answers, or with the reason why there is none.

    Raises the first error if no layer has an answer, and errors that concern all of them at once.
    """
    result: list[AskedLayer] = []
    first: LhpError | None = None
    for layer in layers:
        question = layer.question
        multiples = _find_multiples(layer)
        try:
            answer = oracle.query(
                question.dims,
                workload=question.kind,
                params={k: v for k, v in question.params if isinstance(v, int | str)},
                max_growth=max_growth,
                multiple_of=multiples if max(multiples) > 1 else None,
            )
        except OF_ONE_LAYER as error:
            first = first or error
            result.append(dataclasses.replace(layer, problem=str(error)))
        else:
            result.append(dataclasses.replace(layer, answer=answer))
    if first is not None and all(each.answer is None for each in result):
        raise first
    return result


def _find_multiples(layer: AskedLayer) -> list[int]:
    """What larger dims must be multiples of: of a unit's step, or of what no axis changes.

    The latter keeps a dim above 32 as it is: its next multiple lies beyond the growth.
    """
    wanted = layer.question.multiple_of or (1,) * len(layer.question.dims)
    return [
        math.lcm(layer.follows[dim][1], wanted[dim]) if dim in layer.follows else size
        for dim, size in enumerate(layer.question.dims)
    ]


def choose_widths(layers: Sequence[AskedLayer], widths: Mapping[str, int]) -> dict[str, int]:
    """The width of each axis that some layer proposes to grow, most valuable first.

    The layer that saves most decides for the axes that it follows; others decide for what is left.
    Where one layer proposes two widths for an axis, the larger one is taken.
    """
    chosen: dict[str, int] = {}
    for layer in sorted(layers, key=lambda each: each.saves_s, reverse=True):
        if layer.answer is None or not layer.proposes:
            continue
        mine: dict[str, int] = {}
        for dim, (axis, step) in layer.follows.items():
            more = -(-layer.answer.grow_by[dim] // step)
            mine[axis] = max(mine.get(axis, 0), widths[axis] + more)
        for axis, width in mine.items():
            chosen.setdefault(axis, width)
    return {axis: width for axis, width in chosen.items() if width > widths[axis]}
