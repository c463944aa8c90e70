"""Asks the service about each distinct layer of a model.

Knows neither torch nor typer. `profiler_service.advice.layers` finds the layers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from profiler_service.cli.asking import ask
from profiler_service.cli.terminal import print_line
from profiler_service.cli.timetable import Timetable
from profiler_service.client import NotMeasuredYetError, ServiceClient, ServiceFailedError
from profiler_service.errors import (
    ConflictError,
    HostStartingError,
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
ENOUGH = "Ctrl-C shows what is known"
NO_TIME = "not asked: the time was up (a longer --time, or ask again for the rest)"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer about one layer and all layers of which the same is asked."""

    layers: tuple[Layer, ...]
    question: Question
    answer: LhpAnswer | None
    problem: str
    """Why there is no answer; empty if there is one."""

    @property
    def is_open(self) -> bool:
        """Whether it was the budget that ended the race before it was settled."""
        if self.answer is None or self.answer.settled:
            return False
        evidence = self.answer.evidence
        asked_s, given_s = evidence.asked_budget_s, evidence.budget_s
        return asked_s is not None and given_s is not None and given_s >= asked_s

    @property
    def time_share(self) -> float:
        """What the model may gain here at most, as a share of its time; 0 if times aren't known."""
        return sum(layer.time_share or 0.0 for layer in self.layers)


def advise(
    client: ServiceClient,
    layers: Sequence[Layer],
    conditions: Mapping[str, str | int | float],
    *,
    total_s: float,
    since_s: float | None = None,
    console: Console,
) -> list[Advice]:
    """The advice for each distinct question, in order, `total_s` after `since_s` (None: now).

    If half of this time is over already, the questions have the other half.

    Layers that can't be asked about have none. `conditions` are further parameters of every query.
    Each question has an equal part of the time at first. What is left goes to those that aren't
    settled, beginning where the model takes most of its time.

    An error about one layer is kept in that layer's advice. If no question gets an answer, the
    first error is raised that may concern all. Every other error of the client is raised if it is
    the first; later, it ends the questions, and what is known is given.
    """
    equal: dict[Question, list[Layer]] = {}
    for layer in layers:
        if layer.question is not None and not layer.problem:
            equal.setdefault(layer.question, []).append(layer)
    asking = _Asking(client, conditions, Timetable(total_s, len(equal), since_s=since_s), console)
    given = [
        asking.ask_first(question, tuple(group), f"{number} of {len(equal)}")
        for number, (question, group) in enumerate(equal.items(), start=1)
    ]
    if asking.first_error is not None and all(each.answer is None for each in given):
        raise asking.first_error
    settled = asking.settle([each for each in given if each.is_open])
    return [settled.get(each.question, each) for each in given]


class _Asking:
    """Asks the questions about a model's layers, one after the other."""

    def __init__(
        self,
        client: ServiceClient,
        conditions: Mapping[str, str | int | float],
        timetable: Timetable,
        console: Console,
    ) -> None:
        self.first_error: LhpError | None = None
        """The first error that may concern all questions."""
        self._has_answers = False
        self._gave_up = ""
        """Why no more questions are asked; empty while they are."""
        self._client = client
        self._conditions = conditions
        self._timetable = timetable
        self._console = console

    def ask_first(self, question: Question, layers: tuple[Layer, ...], number: str) -> Advice:
        """The advice, after an equal part of the time at most."""
        wait_s = self._timetable.begin()
        if self._gave_up or wait_s <= 0:
            problem = self._gave_up or NO_TIME
            return Advice(layers=layers, question=question, answer=None, problem=problem)
        self._say(number, question, self._timetable.expected_s)
        budget_s = self._timetable.budget_s
        answer, problem = None, ""
        try:
            answer = self._ask(question, wait_s, {} if budget_s is None else {"budget": budget_s})
            self._has_answers = True
        except LhpError as error:
            is_of_one = isinstance(error, OF_ONE_LAYER) and not error.is_transient
            if not is_of_one and not self._has_answers:
                raise
            if isinstance(error, NotMeasuredYetError):
                error.hint = "the sweep goes on: ask again later, or with a longer --time"
            if is_of_one and not isinstance(error, SURELY_OF_ONE_LAYER):
                self.first_error = self.first_error or error
            problem = f"{error} ({error.hint})" if error.hint else str(error)
            self._gave_up = "" if is_of_one else f"not asked: {error}"
        return Advice(layers=layers, question=question, answer=answer, problem=problem)

    def settle(self, given: Sequence[Advice]) -> dict[Question, Advice]:
        """The advice that is surer than what was `given`, by its question, while there is time."""
        settled: dict[Question, Advice] = {}
        if self._timetable.budget_s is None:
            return settled  # the service's own limits held from the beginning
        for each in sorted(given, key=lambda advice: advice.time_share, reverse=True):
            left_s = self._timetable.left_s
            assert each.answer is not None  # only what was answered can be open
            budget_s = self._timetable.find_larger_budget(each.answer.latency_s)
            if not budget_s:
                continue
            self._say(f"once more, for certainty ({ENOUGH})", each.question, left_s)
            try:
                terms = {} if budget_s == math.inf else {"budget": budget_s}
                answer = self._ask(each.question, left_s, terms)
            except (LhpError, KeyboardInterrupt):  # what is known already is still true
                break
            settled[each.question] = dataclasses.replace(each, answer=answer)
        return settled

    def _say(self, what: str, question: Question, left_s: float) -> None:
        asked = f"{what}: {question.kind} {format_dims(question.dims)}"
        print_line(self._console, f"{asked}, about {max(1, round(left_s))} s left")

    def _ask(self, question: Question, wait_s: float, terms: Mapping[str, float]) -> LhpAnswer:
        """The answer. Waits longer for a worker that is starting, which all questions need."""
        query: dict[str, str | int | float] = {
            "dims": format_dims(question.dims),
            "workload": question.kind,
            **dict(question.params),
            **self._conditions,
            **terms,
        }
        if question.multiple_of:
            query["multiple_of"] = format_dims(question.multiple_of)
        while True:
            try:
                return ask(self._client, query, wait_s=wait_s, console=self._console)
            except HostStartingError:
                wait_s = self._timetable.left_s
                if not wait_s:
                    raise
