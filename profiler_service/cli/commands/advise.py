"""`lhp advise`: questions about all layers of a user's model.

Uses HTTP only through the client. The command imports its packages only when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.commands.questions import say_away
from profiler_service.cli.options import HostOption, JsonOption, UrlOption
from profiler_service.cli.terminal import (
    make_console,
    open_client,
    print_json,
    print_records,
    say,
    show,
)
from profiler_service.processes.exit_codes import PARTLY

if TYPE_CHECKING:
    from profiler_service.advice.layers import Layer
    from profiler_service.cli.advise import Advice


def advise(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="A function in your code that returns a torch model."
        ),
    ],
    example: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A function that returns an example input. The model runs on it once, which"
            " shows the batch and steps of each layer.",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Batch of each layer, if no example shows it.")
    ] = 16,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of each LSTM and GRU, if no example shows them.")
    ] = 70,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 (default: the layer's own).")
    ] = None,
    max_growth: Annotated[
        float | None, typer.Option(help="How far above DIMS to look, as a share of each dimension.")
    ] = None,
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait for each layer that must be measured first."),
    ] = 120,
    host: HostOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Which larger layers of your own model cost no more time? Your code runs only on this machine.

    Lists every layer with weights: what is measured, or why it isn't. Only sizes are sent to the
    service. Exits with 3 if a layer of a kind that is measured has no answer.
    """
    from profiler_service.cli.advise import advice_to_json
    from profiler_service.cli.advise import advise as ask_about

    layers = _find_layers(model, example, batch=batch, steps=steps, dtype=dtype)
    conditions: dict[str, str | int | float] = {}
    for name, value in (("max_growth", max_growth), ("host", host)):
        if value is not None:
            conditions[name] = value
    with open_client(url) as client:
        given = ask_about(client, layers, conditions, wait_s=wait, console=make_console())
    say_away(each.answer for each in given if each.answer is not None)
    if json:
        print_json(advice_to_json(given, layers))
    else:
        _print_advice(given, layers)
    unanswered = any(each.answer is None for each in given)
    if not given or unanswered or any(each.problem and each.has_kind for each in layers):
        raise typer.Exit(PARTLY)


def _print_advice(given: Sequence[Advice], layers: Sequence[Layer]) -> None:
    from profiler_service.cli.advise import HEADINGS, advice_row, describe_notes, describe_rest

    total = sum(layer.num_parameters for layer in layers)
    rows = [advice_row(each, total) for each in given]
    if rows:
        print_records(HEADINGS, rows)
    show(*describe_rest(layers, total))
    for note in describe_notes(layers):
        say(note)
    if any("*" in row[-2] for row in rows):
        say(
            "* must fit the layer before: grow both together. If that layer can't grow,"
            " `lhp query OUT,IN` answers for the sizes you can have."
        )


def _find_layers(
    model: str, example: str | None, *, batch: int, steps: int, dtype: str | None
) -> list[Layer]:
    """The layers of the user's model. Raises InvalidRequestError, ModelError."""
    from profiler_service.advice.example import arrange_example
    from profiler_service.advice.layers import find_layers
    from profiler_service.advice.loading import importing_from_here, load_example, load_model

    with importing_from_here():
        made = load_model(model)
        return find_layers(
            made,
            batch=batch,
            steps=steps,
            dtype=dtype,
            example=None if example is None else arrange_example(load_example(example), made),
        )
