"""Finds the widths with which a whole model is fastest: layers propose, the whole model decides.

Runs the user's models in this process, and asks the service about layers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, inspect_model
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.choice import NoChoiceError, Table, choose, total
from profiler_service.widths.end_to_end import race_modules
from profiler_service.widths.latencies import NotMeasured, fetch_latencies
from profiler_service.widths.race import Outcome
from profiler_service.widths.structure import Group, Make, read_structure

ROUND_NUMBERS = (16, 32, 64)
"""There are proposals with the best multiples of each, and with those nearest to the widths now.
Layers measured alone don't show what happens between them, such as changes of layout, and round
numbers avoid some of it."""
NEXT_BEST = 2
"""How many further proposals there are: measurements of layers err, so the best by them may not
be the best."""
DIFFERING = 0.25
"""Share of the groups in which each of these differs from the others."""
MEASURING_SHARE = 0.5
"""Share of the time in which layers are measured. Whole models are raced in the rest."""
MAX_TRIES = 3
"""How often a model is built for a time: layers tell only about how long the whole will take."""
NOW = "now"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Widths for a whole model."""

    widths: Mapping[str, int]
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search."""

    goal: Literal["fastest", "largest"]
    groups: tuple[Group, ...]
    now: Proposal
    proposals: Mapping[str, Proposal]
    """What was raced, by name; `now` is among them."""
    outcome: Outcome
    layers: tuple[tuple[str, ...], ...]
    """For each group, the names of the layers that follow it."""
    missing: tuple[NotMeasured, ...]
    """Layers that the choice knows nothing of, because they couldn't be measured."""
    left_out: tuple[Layer, ...]
    """... and because no workload kind measures them."""

    @property
    def chosen(self) -> Proposal:
        """The proposal that was compared with the widths now."""
        return self.proposals[self.outcome.chosen]

    @property
    def best(self) -> Proposal:
        """The widths to use: never slower ones than now, unless the largest were asked for.

        Of the fastest, the chosen ones if they are confidently faster, else those now.
        """
        is_faster = self.outcome.comparison.verdict == "faster"
        return self.chosen if is_faster or self.goal == "largest" else self.now


class Search:
    """A model whose layers have been measured over all candidates of its groups' widths.

    Creating it builds models and measures, for about half of `time_s` seconds. `make` builds the
    models that are raced; `sketch` those that are only looked at, on the meta device for example.
    `say` gets lines about the progress. Groups that aren't widths stay as they are if there is an
    `on_refused`, which gets their names and the reasons.

    Raises ModelError, and the client's errors.
    """

    def __init__(
        self,
        client: ServiceClient,
        make: Make,
        groups: Sequence[Group],
        example: Example,
        *,
        time_s: float,
        host: str | None = None,
        sketch: Make | None = None,
        on_refused: Callable[[str, ModelError], None] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        def look(model: nn.Module) -> Sequence[Layer]:
            found = inspect_model(model, batch=1, steps=1, example=example)
            if found.problem is not None:
                raise found.problem
            return found.layers

        self._make, self._example, self._say = make, example, say
        self._race_s = time_s * (1 - MEASURING_SHARE)
        self._structure = read_structure(sketch or make, look, groups, on_refused=on_refused)
        if not self._structure.layers:
            raise ModelError(
                "no layer that a workload kind measures depends on these widths",
                hint="`lhp workloads` lists the kinds",
            )
        widths = self._structure.groups
        say(f"layers that follow these widths: {len(self._structure.layers)}")
        self._latencies, self._missing = fetch_latencies(
            client, self._structure, time_s=time_s * MEASURING_SHARE, host=host, say=say
        )
        self._parameters = self._structure.count_parameters()
        self._fixed = self._structure.count_fixed_parameters()
        self._now = {group.name: group.width for group in widths}
        self._model_now = make(self._now)

    @property
    def num_parameters_now(self) -> int:
        """Parameters of the model at the widths now."""
        return _count(self._model_now)

    def find_fastest(self, *, fewest: float = 0.0, most: float = math.inf) -> Found:
        """The fastest widths whose model has from `fewest` to `most` parameters.

        Takes half of the search's time. Raises NoChoiceError if there are none.
        """
        models: dict[str, nn.Module] = {}
        proposals: dict[str, Proposal] = {}
        for name, widths in self._propose(fewest, most):
            known = (self._now, *(each.widths for each in proposals.values()))
            if widths in known:
                continue
            model = self._make(widths)
            if fewest <= (number := _count(model)) <= most:
                models[name] = model
                proposals[name] = Proposal(widths=widths, num_parameters=number)
        if not models:
            raise NoChoiceError(
                "no other widths lie within these bounds", hint="allow more or fewer parameters"
            )
        return self._race("fastest", models, proposals)

    def find_largest(self, *, latency_s: float) -> Found:
        """The widths with most parameters whose model takes at most `latency_s` on the example.

        The layers' latencies only tell about how long a whole model takes. So the model is timed,
        and another one chosen if it is too slow, MAX_TRIES times in all. Raises NoChoiceError if
        all are too slow.
        """
        nearest = [
            int(np.abs(np.array(group.candidates) - group.width).argmin())
            for group in self._structure.groups
        ]
        near = self._widths_of(nearest)
        near_s = self._race(
            "largest",
            {"near": self._make(near)},
            {"near": Proposal(widths=near, num_parameters=0)},
            share=1 / (MAX_TRIES + 1),
        ).outcome.chosen_s
        layers_share = total(self._latencies, nearest) / near_s
        for _ in range(MAX_TRIES):
            negative = [Table(groups=each.groups, values=-each.values) for each in self._parameters]
            choice = self._choose(negative, self._latencies, high=latency_s * layers_share)
            widths = self._widths_of(choice)
            model = self._make(widths)
            proposal = Proposal(widths=widths, num_parameters=_count(model))
            found = self._race(
                "largest", {"largest": model}, {"largest": proposal}, share=1 / (MAX_TRIES + 1)
            )
            if found.outcome.chosen_s <= latency_s:
                return found
            self._say(
                f"the largest that layers promise takes {found.outcome.chosen_s * 1e3:.3g} ms"
            )
            layers_share = total(self._latencies, choice) / found.outcome.chosen_s
        raise NoChoiceError(
            "every model that was tried takes longer", hint="allow more time, or smaller widths"
        )

    def _race(
        self,
        goal: Literal["fastest", "largest"],
        models: Mapping[str, nn.Module],
        proposals: Mapping[str, Proposal],
        *,
        share: float = 1.0,
    ) -> Found:
        among = {NOW: self._model_now, **models}
        number = "one set" if len(models) == 1 else f"{len(models)} sets"
        self._say(f"racing {number} of widths against the widths now")
        outcome = race_modules(among, self._example, reference=NOW, time_s=self._race_s * share)
        now = Proposal(widths=self._now, num_parameters=self.num_parameters_now)
        structure = self._structure
        return Found(
            goal=goal,
            groups=structure.groups,
            now=now,
            proposals={NOW: now, **proposals},
            outcome=outcome,
            layers=tuple(
                tuple(layer.name for layer in structure.layers if place in layer.groups)
                for place in range(len(structure.groups))
            ),
            missing=tuple(self._missing),
            left_out=structure.left_out,
        )

    def _propose(self, fewest: float, most: float) -> Iterator[tuple[str, dict[str, int]]]:
        """Widths whose layers take little time together: the best, round numbers, and others.

        Raises NoChoiceError if there are none within the bounds.
        """
        groups = self._structure.groups
        low, high = fewest - self._fixed, most - self._fixed
        chosen = [self._choose(self._latencies, self._parameters, low=low, high=high)]
        yield "best", self._widths_of(chosen[0])
        distances = [_measure_distance(place, group) for place, group in enumerate(groups)]
        for multiple in ROUND_NUMBERS:
            among = [_allow(place, group, multiple) for place, group in enumerate(groups)]
            for name, cost in (("best", self._latencies), ("nearest", distances)):
                with contextlib.suppress(NoChoiceError):
                    chosen.append(
                        self._choose([*cost, *among], self._parameters, low=low, high=high)
                    )
                    yield f"{name} multiples of {multiple}", self._widths_of(chosen[-1])
        differing = max(1, round(DIFFERING * len(groups)))
        with contextlib.suppress(NoChoiceError):
            for number in range(NEXT_BEST):
                chosen.append(
                    self._choose(
                        self._latencies,
                        self._parameters,
                        unlike=chosen,
                        differing=differing,
                        low=low,
                        high=high,
                    )
                )
                yield f"next best {number + 1}", self._widths_of(chosen[-1])

    def _choose(
        self,
        cost: Sequence[Table],
        weight: Sequence[Table],
        *,
        low: float = -math.inf,
        high: float = math.inf,
        unlike: Sequence[Sequence[int]] = (),
        differing: int = 1,
    ) -> tuple[int, ...]:
        sizes = [len(group.candidates) for group in self._structure.groups]
        return choose(sizes, cost, weight, low=low, high=high, unlike=unlike, differing=differing)

    def _widths_of(self, choice: Sequence[int]) -> dict[str, int]:
        return {
            group.name: group.candidates[place]
            for group, place in zip(self._structure.groups, choice, strict=True)
        }


def _allow(place: int, group: Group, multiple: int) -> Table:
    """Allows multiples only; all candidates of a group that has none."""
    is_multiple = np.array([width % multiple == 0 for width in group.candidates])
    allowed = is_multiple | (not is_multiple.any())
    return Table(groups=(place,), values=np.where(allowed, 0.0, math.inf))


def _measure_distance(place: int, group: Group) -> Table:
    """How far each candidate is from the width now, as a share of it."""
    distance = np.abs(np.array(group.candidates) / group.width - 1)
    return Table(groups=(place,), values=distance)


def _count(model: nn.Module) -> int:
    """Number of the model's parameters; shared ones count once."""
    return sum(each.numel() for each in model.parameters())
