"""Finds the widths with which a whole model is fastest: layers propose, the whole model decides.

Runs the user's models in this process, and asks the service about layers.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.choice import NoChoiceError, Table, choose
from profiler_service.widths.latencies import NotMeasured, fetch_latencies
from profiler_service.widths.race import Outcome, Prepare, race
from profiler_service.widths.structure import Group, Make, Structure, read_structure

ROUND_NUMBERS = (16, 32, 64)
"""There is a proposal with the best multiples of each. Layers measured alone don't show what
happens between them, such as changes of layout, and round numbers avoid some of it."""
NEXT_BEST = 4
"""How many further proposals there are: measurements of layers err, so the best by them may not
be the best."""
DIFFERING = 0.25
"""Share of the groups in which each of these differs from the others."""
NOW = "now"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Widths for a whole model."""

    widths: Mapping[str, int]
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search."""

    groups: tuple[Group, ...]
    now: Proposal
    proposals: Mapping[str, Proposal]
    """What was raced, by name."""
    outcome: Outcome
    missing: tuple[NotMeasured, ...]
    """Layers that the choice knows nothing of, because they couldn't be measured."""
    left_out: tuple[Layer, ...]
    """... and because no workload kind measures them."""

    @property
    def chosen(self) -> Proposal:
        """The proposal that was fastest in the contest."""
        return self.proposals[self.outcome.chosen]

    @property
    def best(self) -> Proposal:
        """The chosen proposal if it is confidently faster than the widths now; else these."""
        return self.chosen if self.outcome.comparison.verdict == "faster" else self.now


def find_widths(
    client: ServiceClient,
    make: Make,
    groups: Sequence[Group],
    example: Example,
    *,
    fewest: float = 0.0,
    most: float = math.inf,
    time_s: float,
    host: str | None = None,
    sketch: Make | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """The widths with which the models that `make` builds run the example fastest.

    The parameters of the model are between `fewest` and `most`. About half of `time_s` is given to
    measuring layers, half to the race against the model with the widths now. `sketch` builds models
    only to be looked at, on the meta device for example; `make` does by default.

    Raises NoChoiceError if no widths lie within the bounds, ModelError, and the client's errors.
    """
    structure = read_structure(sketch or make, _looker(example), groups)
    if not structure.layers:
        raise ModelError("no layer that a workload kind measures depends on these widths")
    say(f"{len(structure.layers)} layers depend on {len(groups)} widths")
    latencies, missing = fetch_latencies(client, structure, time_s=time_s / 2, host=host, say=say)
    now = {group.name: group.width for group in groups}
    models: dict[str, nn.Module] = {NOW: make(now)}
    proposals = {NOW: Proposal(widths=now, num_parameters=_count(models[NOW]))}
    for name, widths in _propose(structure, latencies, fewest=fewest, most=most):
        if any(widths == each.widths for each in proposals.values()):
            continue
        model = make(widths)
        if fewest <= (number := _count(model)) <= most:
            models[name] = model
            proposals[name] = Proposal(widths=widths, num_parameters=number)
    if len(models) == 1:
        raise NoChoiceError(
            "no other widths lie within these bounds", hint="allow more or fewer parameters"
        )
    say(f"racing {len(models) - 1} sets of widths against the widths now")
    outcome = race(
        {name: prepare(model, example) for name, model in models.items()},
        reference=NOW,
        time_s=time_s / 2,
    )
    return Found(
        groups=tuple(groups),
        now=proposals[NOW],
        proposals=proposals,
        outcome=outcome,
        missing=tuple(missing),
        left_out=structure.left_out,
    )


def prepare(model: nn.Module, example: Example) -> Prepare:
    """Makes calls of copies of the model on the example, for a race."""

    def make_call() -> Callable[[], object]:
        own = copy.deepcopy(model).eval()
        return lambda: own(*example.args, **example.kwargs)

    return make_call


def _looker(example: Example) -> Callable[[nn.Module], Sequence[Layer]]:
    def look(model: nn.Module) -> Sequence[Layer]:
        return find_layers(model, batch=1, steps=1, example=example)

    return look


def _propose(
    structure: Structure, latencies: Sequence[Table], *, fewest: float, most: float
) -> Iterator[tuple[str, dict[str, int]]]:
    """Widths whose layers take little time together: the best, those of round numbers, and others.

    Raises NoChoiceError if there are none within the bounds.
    """
    groups = structure.groups
    parameters = structure.count_parameters()
    fixed = structure.count_fixed_parameters()
    chosen: list[tuple[int, ...]] = []

    def propose(among: Sequence[Table] = (), differing: int = 0) -> dict[str, int]:
        choice = choose(
            [len(group.candidates) for group in groups],
            [*latencies, *among],
            parameters,
            low=fewest - fixed,
            high=most - fixed,
            unlike=chosen if differing else (),
            differing=differing,
        )
        chosen.append(choice)
        return {g.name: g.candidates[place] for g, place in zip(groups, choice, strict=True)}

    yield "best", propose()
    for multiple in ROUND_NUMBERS:
        among = [_allow(place, group, multiple) for place, group in enumerate(groups)]
        with contextlib.suppress(NoChoiceError):
            yield f"multiples of {multiple}", propose(among)
    for number in range(NEXT_BEST):
        with contextlib.suppress(NoChoiceError):
            widths = propose(differing=max(1, round(DIFFERING * len(groups))))
            yield f"next best {number + 1}", widths


def _allow(place: int, group: Group, multiple: int) -> Table:
    """Allows multiples only; all candidates of a group that has none."""
    is_multiple = np.array([width % multiple == 0 for width in group.candidates])
    allowed = is_multiple | (not is_multiple.any())
    return Table(groups=(place,), values=np.where(allowed, 0.0, math.inf))


def _count(model: nn.Module) -> int:
    """Number of the model's parameters; shared ones count once."""
    return sum(each.numel() for each in model.parameters())
