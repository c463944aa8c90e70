"""`lhp advise`: questions about all layers of a user's model.

Uses HTTP only through the client. The command imports its packages only when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
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
from profiler_service.errors import InvalidRequestError, LhpError, ModelError
from profiler_service.processes.exit_codes import PARTLY

if TYPE_CHECKING:
    from profiler_service.advice.layers import Inspection
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
    meta: Annotated[
        bool,
        typer.Option(
            "--meta",
            help="Make and run the model without data, on torch's meta device: for models that"
            " don't fit into memory.",
        ),
    ] = False,
    max_growth: Annotated[
        float | None, typer.Option(help="How far above DIMS to look, as a share of each dimension.")
    ] = None,
    time: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds for the whole command, shared out over all questions, which have half of"
            " them at least.",
        ),
    ] = 55,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Ask about sizes that must change together, such as a residual stream, as one"
            " choice. Needs --example and torch-pruning.",
        ),
    ] = False,
    params_within: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Choose all widths together, so that the whole model is fastest, with as many"
            " parameters as now within this share: 2%. FACTORY must take the widths as arguments.",
        ),
    ] = None,
    latency_at_most: Annotated[
        str | None,
        typer.Option(
            metavar="LATENCY",
            help="Choose all widths together, so that the model has most parameters and takes no"
            " longer than this: 9ms.",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="An argument of FACTORY, for the choice of all widths: hidden=1197; or"
            " vocabulary=50257+ for what may only grow. Can be repeated. Default: those that have"
            " whole numbers as defaults.",
        ),
    ] = None,
    host: HostOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Which larger layers of your own model cost no more time? Your code runs only on this machine.

    Lists every layer with weights: what is measured, or why it isn't. Only sizes are sent to the
    service. Exits with 3 if a layer of a kind that is measured has no answer, or if the model can't
    run on the example.
    """
    from profiler_service.cli.advice_text import advice_to_json
    from profiler_service.cli.advise import advise as ask_about

    began_s = monotonic()
    if together:
        if (params_within, latency_at_most, config, dtype, max_growth) != (None,) * 5 or meta:
            raise InvalidRequestError(
                "--together goes with --example, --time, --host, --url and --json only",
                hint="leave the other options out",
            )
        _widen_together(model, example, time_s=time, host=host, url=url, json=json)
        return
    if params_within is not None or latency_at_most is not None:
        if dtype is not None or max_growth is not None or meta:
            raise InvalidRequestError(
                "--dtype, --max-growth and --meta don't go with a budget for the whole model",
                hint="let the factory make the model as it will run",
            )
        _choose_widths(
            model,
            example,
            config or [],
            params_within=params_within,
            latency_at_most=latency_at_most,
            time_s=time,
            host=host,
            url=url,
            json=json,
        )
        return
    if config:
        raise InvalidRequestError(
            "--config is for the choice of all widths",
            hint="add --params-within 2%, or --latency-at-most 9ms",
        )
    inspection = _inspect(model, example, batch=batch, steps=steps, dtype=dtype, on_meta=meta)
    layers = inspection.layers
    if inspection.problem is not None:
        _say_example_failed(inspection.problem)
    conditions: dict[str, str | int | float] = {}
    for name, value in (("max_growth", max_growth), ("host", host)):
        if value is not None:
            conditions[name] = value
    with open_client(url) as client:
        given = ask_about(
            client, layers, conditions, total_s=time, since_s=began_s, console=make_console()
        )
    say_away(each.answer for each in given if each.answer is not None)
    if json:
        print_json(advice_to_json(given, inspection))
    else:
        _print_advice(given, inspection)
    unanswered = any(each.answer is None for each in given)
    unasked = not given or any(each.problem and each.has_kind for each in layers)
    if unanswered or unasked or inspection.problem is not None:
        raise typer.Exit(PARTLY)


def _widen_together(
    model: str, example: str | None, *, time_s: float, host: str | None, url: str | None, json: bool
) -> None:
    """Asks about groups of sizes that change together, and shows them."""
    from profiler_service.advice.loading import importing_from_here
    from profiler_service.cli import together

    if example is None:
        raise InvalidRequestError(
            "the model is run to see what belongs together",
            hint="add --example my_models:make_input",
        )
    with importing_from_here(), open_client(url) as client:
        tied, found = together.widen_together(
            client, model, example, time_s=time_s, host=host, say=say
        )
    if json:
        print_json(together.groups_to_json(tied, found))
    else:
        if found:
            print_records(together.HEADINGS, together.group_rows(found))
        for line in together.describe_rest(tied, found):
            say(line)
    if not found or any(each.now_s is None for each in found):
        raise typer.Exit(PARTLY)


def _choose_widths(
    factory: str,
    example: str | None,
    config: Sequence[str],
    *,
    params_within: str | None,
    latency_at_most: str | None,
    time_s: float,
    host: str | None,
    url: str | None,
    json: bool,
) -> None:
    """Chooses all widths of a model together, and shows them."""
    from profiler_service.advice.loading import importing_from_here, load_example, load_factory
    from profiler_service.advice.memory import bounded_memory
    from profiler_service.cli import widths
    from profiler_service.widths.config import parse_argument
    from profiler_service.wire.quantities import parse_latency, parse_share

    if params_within is not None and latency_at_most is not None:
        raise InvalidRequestError("give either --params-within or --latency-at-most")
    budget = widths.Budget(
        params_within=None
        if params_within is None
        else parse_share(params_within, name="--params-within"),
        latency_s=None
        if latency_at_most is None
        else parse_latency(latency_at_most, name="--latency-at-most"),
    )
    given = [parse_argument(text) for text in config]
    if example is None:
        raise InvalidRequestError(
            "the whole model is run to be compared", hint="add --example my_models:make_input"
        )
    with importing_from_here(), bounded_memory(), open_client(url) as client:
        found = widths.choose_widths(
            client,
            load_factory(factory),
            given,
            lambda: load_example(example),
            budget,
            time_s=time_s,
            host=host,
            say=say,
        )
    if json:
        print_json(widths.found_to_json(found))
        return
    print_records(widths.HEADINGS, widths.width_rows(found))
    show(*widths.describe_found(found))
    for line in widths.describe_unknown(found):
        say(line)


def _say_example_failed(problem: LhpError) -> None:
    say(f"warning: {problem}")
    say("the layers that the example reached have its shapes; the others are marked")
    say(f"hint: {problem.hint}")


def _print_advice(given: Sequence[Advice], inspection: Inspection) -> None:
    from profiler_service.cli import advice_text as text

    total = sum(layer.num_parameters for layer in inspection.layers)
    rows = [text.advice_row(each, total) for each in given]
    headings: Sequence[str] = text.HEADINGS
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    if rows:
        print_records(headings, rows)
    show(*text.describe_rest(inspection))
    for note in (*text.describe_times(inspection), *text.describe_notes(inspection.layers)):
        say(note)
    if any("*" in row[headings.index("SIZES")] for row in rows):
        say(
            "* must fit the layer before: grow both together. If that layer can't grow,"
            " `lhp query OUT,IN` answers for the sizes you can have."
        )


def _inspect(
    model: str, example: str | None, *, batch: int, steps: int, dtype: str | None, on_meta: bool
) -> Inspection:
    """What the user's model consists of. Raises InvalidRequestError, ModelError."""
    from profiler_service.advice.example import Example, arrange_example
    from profiler_service.advice.layers import inspect_model
    from profiler_service.advice.loading import importing_from_here, load_example, load_model
    from profiler_service.advice.memory import bounded_memory

    with importing_from_here(), bounded_memory():
        made = load_model(model, on_meta=on_meta)
        called_with: Example | ModelError | None = None
        if example is not None:
            try:
                called_with = arrange_example(load_example(example), made)
            except ModelError as error:
                called_with = error
        return inspect_model(
            made, batch=batch, steps=steps, dtype=dtype, example=called_with, timed=not on_meta
        )
