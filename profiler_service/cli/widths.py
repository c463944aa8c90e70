"""Chooses the widths of a user's whole model, and makes the table of them.

Runs the user's code. Knows no typer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiler_service.advice.example import arrange_example
from profiler_service.client import ServiceClient
from profiler_service.errors import InvalidRequestError
from profiler_service.widths.config import (
    Argument,
    build,
    find_arguments,
    find_groups,
    sketch,
)
from profiler_service.widths.race import Outcome
from profiler_service.widths.search import Found, Search
from profiler_service.wording import format_seconds

HEADINGS = ("WIDTH", "NOW", "CHOSEN", "LAYERS")
NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a whole model may have: one of the two."""

    params_within: float | None
    """The number of parameters may change by this share."""
    latency_s: float | None
    """The model may take so long."""


def choose_widths(
    client: ServiceClient,
    factory: Callable[..., object],
    given: Sequence[Argument],
    make_example: Callable[[], object],
    budget: Budget,
    *,
    time_s: float,
    host: str | None,
    say: Callable[[str], None],
) -> Found:
    """The widths of the model that `factory` builds, within the budget, after about `time_s`.

    `given` are arguments of the factory. Without any, those with whole-number defaults are taken.
    What isn't a width among them stays as it is, and `say` tells why.

    Raises InvalidRequestError if no argument is a width, NoChoiceError, ModelError, and the
    client's errors.
    """
    arguments = find_arguments(factory, given)
    fixed = {each.name: each.value for each in arguments}

    def refuse(name: str, error: Exception) -> None:
        say(f"{name} stays {fixed[name]}: {error}")

    groups = find_groups(factory, arguments, on_refused=refuse)
    if not groups:
        raise InvalidRequestError(
            "the factory has no argument that is a width",
            hint="let it take its sizes as arguments, and name them: --config hidden=1197",
        )
    example = arrange_example(make_example(), build(factory, fixed))
    search = Search(
        client,
        lambda widths: build(factory, {**fixed, **widths}),
        groups,
        example,
        time_s=time_s,
        host=host,
        sketch=lambda widths: sketch(factory, {**fixed, **widths}),
        on_refused=refuse,
        say=say,
    )
    if budget.latency_s is not None:
        return search.find_largest(latency_s=budget.latency_s)
    assert budget.params_within is not None
    now = search.num_parameters_now
    return search.find_fastest(
        fewest=(1 - budget.params_within) * now, most=(1 + budget.params_within) * now
    )


def width_rows(found: Found) -> list[list[str]]:
    """A row for each width, under HEADINGS."""
    return [
        [
            group.name,
            str(group.width),
            str(found.best.widths[group.name]),
            list_names(layers),
        ]
        for group, layers in zip(found.groups, found.layers, strict=True)
    ]


def describe_found(found: Found) -> list[str]:
    """What is claimed of the whole model: parameters, and the race."""
    now, chosen, outcome = found.now, found.chosen, found.outcome
    change = chosen.num_parameters / now.num_parameters - 1
    tried = ", ".join(f"{name}={width}" for name, width in chosen.widths.items())
    kept = [] if found.best is chosen else [f"keep your widths; what was tried: {tried}"]
    return [
        *kept,
        f"parameters: {now.num_parameters:,} → {chosen.num_parameters:,} ({change:+.1%})",
        f"whole model: {_describe_race(outcome)}, {format_seconds(outcome.reference_s)} →"
        f" {format_seconds(outcome.chosen_s)}",
    ]


def _describe_race(outcome: Outcome) -> str:
    comparison = outcome.comparison
    is_slower = comparison.verdict == "slower"
    turned = comparison if is_slower else comparison.turned()
    ratio, low, high = (
        f"{100 * (each - 1):.1f}" for each in (turned.ratio, turned.low, turned.high)
    )
    if comparison.verdict == "ambiguous":
        return f"neither confidently faster nor slower ({low} to {high} % faster)"
    return f"{ratio} % {'slower' if is_slower else 'faster'} ({low} to {high} %)"


def describe_unknown(found: Found) -> list[str]:
    """A line for the layers that the choice knows nothing of, for each reason."""
    unknown: dict[str, list[str]] = defaultdict(list)
    for each in found.missing:
        unknown[each.reason] += each.names
    for layer in found.left_out:
        unknown[f"{layer.class_name}: {layer.problem}"].append(layer.name)
    return [
        f"not in the choice: {list_names(names)}: {reason}" for reason, names in unknown.items()
    ]


def found_to_json(found: Found) -> dict[str, object]:
    """The result as JSON-ready values."""
    outcome = found.outcome
    return {
        "widths": [
            {
                "name": group.name,
                "now": group.width,
                "chosen": found.best.widths[group.name],
                "raced": found.chosen.widths[group.name],
                "candidates": list(group.candidates),
                "layers": list(layers),
            }
            for group, layers in zip(found.groups, found.layers, strict=True)
        ],
        "num_parameters": {
            "now": found.now.num_parameters,
            "chosen": found.best.num_parameters,
        },
        "race": {
            "verdict": outcome.comparison.verdict,
            "ratio": outcome.comparison.ratio,
            "interval": [outcome.comparison.low, outcome.comparison.high],
            "num_pairs": outcome.comparison.num_pairs,
            "now_s": outcome.reference_s,
            "raced_s": outcome.chosen_s,
        },
        "not_in_the_choice": describe_unknown(found),
    }


def list_names(names: Sequence[str]) -> str:
    """The names, or the first few and how many more there are."""
    rest = len(names) - NAMES_SHOWN
    if rest < 2:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {rest} more"
