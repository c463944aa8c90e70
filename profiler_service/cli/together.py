"""Finds which sizes of a user's model belong together, and makes the table of their best widths.

Runs the user's code. Knows no typer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from profiler_service.advice.example import arrange_example
from profiler_service.advice.loading import load_example, load_model
from profiler_service.advice.memory import bounded_memory
from profiler_service.cli.widths import list_names
from profiler_service.client import ServiceClient
from profiler_service.widths.tied import Kept, Tied, TiedGroup, find_tied
from profiler_service.widths.widening import Widened, widen_each
from profiler_service.wording import format_seconds

HEADINGS = ("OUTPUTS OF", "NOW", "CHOSEN", "MULTIPLE OF", "LATENCY", "LAYERS")


def widen_together(
    client: ServiceClient,
    model: str,
    example: str,
    *,
    time_s: float,
    host: str | None,
    say: Callable[[str], None],
) -> tuple[Tied, list[Widened]]:
    """The groups of the model that `model` names, and the best width of each, in about `time_s`.

    Raises InvalidRequestError, ModelError, and the client's errors.
    """
    ends_s = monotonic() + time_s
    with bounded_memory():
        made = load_model(model)
        tied = find_tied(made, arrange_example(load_example(example), made))
    left_s = max(time_s / 2, ends_s - monotonic())
    return tied, widen_each(client, tied.groups, time_s=left_s, host=host, say=say)


def group_rows(found: Sequence[Widened]) -> list[list[str]]:
    """A row for each group, under HEADINGS."""
    return [
        [
            each.tied.group.name,
            str(each.tied.group.width),
            str(each.width),
            str(each.tied.multiple_of),
            _describe_latency(each),
            list_names(_layers(each.tied)),
        ]
        for each in found
    ]


def describe_rest(tied: Tied, found: Sequence[Widened]) -> list[str]:
    """A line for each width that stays, and for each layer that couldn't be measured."""
    lost = {missing for each in found for missing in each.missing}
    return [
        *(f"{_place(each)} stays {each.width}: {each.reason}" for each in tied.kept),
        *(f"not measured: {list_names(each.names)}: {each.reason}" for each in lost),
    ]


def groups_to_json(tied: Tied, found: Sequence[Widened]) -> dict[str, object]:
    """The result as JSON-ready values."""
    return {
        "groups": [
            {
                "name": each.tied.group.name,
                "now": each.tied.group.width,
                "chosen": each.width,
                "multiple_of": each.tied.multiple_of,
                "candidates": list(each.tied.group.candidates),
                "layers": [layer.name for layer in each.tied.layers],
                "not_measured": [*each.tied.left_out, *_missing_names(each)],
                "now_s": each.now_s,
                "chosen_s": each.chosen_s,
            }
            for each in found
        ],
        "kept": [
            {"name": each.name, "width": each.width, "reason": each.reason} for each in tied.kept
        ],
    }


def _describe_latency(found: Widened) -> str:
    if found.now_s is None or found.chosen_s is None:
        return "not measured"
    now = format_seconds(found.now_s)
    if found.width == found.tied.group.width:
        return f"{now}, keep"
    return f"{now} → {format_seconds(found.chosen_s)} ({found.chosen_s / found.now_s - 1:+.0%})"


def _layers(tied: TiedGroup) -> list[str]:
    """Names of the group's layers, and those that aren't measured in brackets."""
    names = dict.fromkeys(layer.name or "the model" for layer in tied.layers)
    return [*names, *(f"({name})" for name in tied.left_out)]


def _missing_names(found: Widened) -> list[str]:
    own = {layer.name for layer in found.tied.layers}
    return sorted({name for each in found.missing for name in each.names} & own)


def _place(kept: Kept) -> str:
    return kept.name or "the model"
