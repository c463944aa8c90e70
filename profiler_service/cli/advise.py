"""Asks the service about each distinct layer of a model.

Knows neither torch nor typer. `profiler_service.advice.layers` finds the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from profiler_service.cli.asking import ask
from profiler_service.cli.terminal import print_line
from profiler_service.client import ServiceClient, ServiceFailedError
from profiler_service.errors import (
    ConflictError,
    InvalidDimsError,
    InvalidRequestError,
    InvalidWorkloadError,
    LhpError,
    MeasurementFailedError,
    NotFoundError,
    ServiceDefectError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.wire import LhpAnswer
from profiler_service.wording import format_dims

if TYPE_CHECKING:
    from profiler_service.advice.layers import Layer
    from profiler_service.advice.questions import Question

OF_ONE_LAYER = (
    InvalidRequestError,
    NotFoundError,
    ConflictError,
    MeasurementFailedError,
    ServiceDefectError,
    ServiceFailedError,
)
"""Errors that concern the question about one layer only, or else all of them."""
SURELY_OF_ONE_LAYER = (
    InvalidDimsError,
    InvalidWorkloadError,
    MeasurementFailedError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
"""Those that depend on the layer."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer about one layer and all layers of which the same is asked."""

    layers: tuple[Layer, ...]
    question: Question
    answer: LhpAnswer | None
    problem: str
    """Why there is no answer; empty if there is one."""


def advise(
    client: ServiceClient,
    layers: Sequence[Layer],
    conditions: Mapping[str, str | int | float],
    *,
    wait_s: float,
    console: Console,
) -> list[Advice]:
    """The advice for each distinct question, in order; each waits at most `wait_s` for its answer.

    Layers that can't be asked about have none. `conditions` are further parameters of every query.
    An error about one layer is kept in that layer's advice. If no question gets an answer, the
    first error is raised that may concern all. Raises every other error of the client.
    """
    equal: dict[Question, list[Layer]] = {}
    for layer in layers:
        if layer.question is not None and not layer.problem:
            equal.setdefault(layer.question, []).append(layer)
    given: list[Advice] = []
    first_error: LhpError | None = None
    for number, (question, group) in enumerate(equal.items(), start=1):
        print_line(
            console, f"{number} of {len(equal)}: {question.kind} {format_dims(question.dims)}"
        )
        query = {
            "dims": format_dims(question.dims),
            "workload": question.kind,
            **dict(question.params),
            **conditions,
        }
        if question.multiple_of:
            query["multiple_of"] = format_dims(question.multiple_of)
        answer, problem = None, ""
        try:
            answer = ask(client, query, wait_s=wait_s, console=console)
        except OF_ONE_LAYER as error:
            if error.is_transient:
                raise
            if not isinstance(error, SURELY_OF_ONE_LAYER):
                first_error = first_error or error
            problem = f"{error} ({error.hint})" if error.hint else str(error)
        given.append(Advice(layers=tuple(group), question=question, answer=answer, problem=problem))
    if first_error is not None and all(each.answer is None for each in given):
        raise first_error
    return given
