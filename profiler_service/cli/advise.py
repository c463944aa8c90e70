"""Asks the service about each distinct layer of a model, and makes the table of answers.

Knows neither torch nor typer. `profiler_service.advice.layers` finds the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from profiler_service.cli.asking import ask
from profiler_service.cli.terminal import print_line
from profiler_service.client import ServiceClient, ServiceFailedError
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    ModelError,
    NotFoundError,
    ServiceDefectError,
)
from profiler_service.wire import LhpAnswer
from profiler_service.wording import format_dims, format_seconds

if TYPE_CHECKING:
    from profiler_service.advice.layers import Layer

OF_ONE_LAYER = (
    InvalidRequestError,
    NotFoundError,
    ConflictError,
    MeasurementFailedError,
    ServiceDefectError,
    ServiceFailedError,
)
"""Errors that concern the question about one layer only."""

PLAIN = (("direction", "uni"), ("layers", 1))
"""Parameters that the table leaves out, because they are the same for most users."""
HEADINGS = ("LAYER", "WORKLOAD", "NOW", "LHP", "FASTER (95 %)", "LATENCY", "SIZES")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer about one layer and all layers equal to it."""

    layers: tuple[Layer, ...]
    answer: LhpAnswer | None
    problem: str
    """Why there is no answer; empty if there is one."""

    def sizes(self) -> dict[str, int] | None:
        """The arguments that make the layer as large as the answer says; None without an answer."""
        return None if self.answer is None else self.layers[0].sizes(tuple(self.answer.lhp))


def advise(
    client: ServiceClient,
    layers: Sequence[Layer],
    conditions: Mapping[str, str | int | float],
    *,
    wait_s: float,
    console: Console,
) -> list[Advice]:
    """The advice for each distinct layer, in order; each waits at most `wait_s` for its answer.

    `conditions` are further parameters of every query. An error about one layer is kept in that
    layer's advice. If no layer gets an answer, the first layer's error is raised. Raises every
    other error of the client.
    """
    equal: dict[Layer, list[Layer]] = {}
    for layer in layers:
        question = replace(layer, name="")
        equal.setdefault(question, []).append(layer)
    given: list[Advice] = []
    first_error: LhpError | None = None
    for number, (question, group) in enumerate(equal.items(), start=1):
        answer, problem = None, question.problem
        if not problem:
            print_line(
                console, f"{number} of {len(equal)}: {question.kind} {format_dims(question.dims)}"
            )
            query = {
                "dims": format_dims(question.dims),
                "workload": question.kind,
                **dict(question.params),
                **conditions,
            }
            try:
                answer = ask(client, query, wait_s=wait_s, console=console)
            except OF_ONE_LAYER as error:
                if error.is_transient:
                    raise
                first_error = first_error or error
                problem = f"{error} ({error.hint})" if error.hint else str(error)
        given.append(Advice(layers=tuple(group), answer=answer, problem=problem))
    if all(each.answer is None for each in given):
        if first_error is not None:
            raise first_error
        raise ModelError(f"none of the {len(layers)} layers can be measured: {given[0].problem}")
    return given


def advice_row(advice: Advice) -> list[str]:
    """The advice as a row of the table; HEADINGS are its headings."""
    first, answer = advice.layers[0], advice.answer
    names = ", ".join(layer.name or "(the model)" for layer in advice.layers)
    params = " ".join(
        f"{name}={value}" for name, value in first.params if (name, value) not in PLAIN
    )
    row = [names, f"{first.kind} {params}", format_dims(first.dims)]
    if answer is None:
        return [*row, "–", advice.problem, "", ""]
    if answer.lhp == answer.dims:
        why = "keep: an LHP" if answer.is_lhp else "keep: nothing larger is confidently faster"
        latency = format_seconds(answer.latency_s) + _doubts(answer)
        return [*row, format_dims(answer.lhp), why, latency, ""]
    percent, low, high = (100 * (ratio - 1) for ratio in (answer.speedup, *answer.speedup_interval))
    own, fed = first.sizes(tuple(answer.lhp)).items()
    mark = "" if answer.lhp[1] == answer.dims[1] else "*"
    return [
        *row,
        format_dims(answer.lhp),
        f"{percent:.1f} % ({low:.1f} to {high:.1f} %)",
        f"{format_seconds(answer.latency_s)} → {format_seconds(answer.lhp_latency_s)}"
        + _doubts(answer),
        f"{own[0]}={own[1]}, {fed[0]}={fed[1]}{mark}",
    ]


def _doubts(answer: LhpAnswer) -> str:
    """What is behind a doubtful latency: `, noisy`."""
    return "".join(
        f", {name}"
        for name, applies in (("disturbed", answer.disturbed), ("noisy", answer.noisy))
        if applies
    )


def advice_to_json(given: Sequence[Advice], layers: Sequence[Layer]) -> list[dict[str, object]]:
    """The advice for each of `layers`, in that order, as JSON-ready values."""
    of_layer = {layer.name: advice for advice in given for layer in advice.layers}
    return [
        {
            "name": layer.name,
            "kind": layer.kind,
            "dims": list(layer.dims),
            "params": dict(layer.params),
            "sizes": of_layer[layer.name].sizes(),
            "answer": answer.model_dump(mode="json")
            if (answer := of_layer[layer.name].answer)
            else None,
            "problem": of_layer[layer.name].problem,
        }
        for layer in layers
    ]
