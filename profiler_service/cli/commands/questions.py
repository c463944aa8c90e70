"""`lhp query` and `crossover`: questions about dims and kernels.

Uses HTTP only through the client. Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.options import (
    BackendOption,
    BatchOption,
    BudgetOption,
    CallableOption,
    DtypeOption,
    HostOption,
    JsonOption,
    LabelOption,
    ParamOption,
    UrlOption,
    VaryOption,
    read_parameters,
    refuse_with_callable,
)
from profiler_service.cli.terminal import (
    make_console,
    open_client,
    print_json,
    say,
    show,
)
from profiler_service.errors import InvalidRequestError
from profiler_service.processes.exit_codes import DONE

if TYPE_CHECKING:
    from profiler_service.client import ServiceClient
    from profiler_service.wire import CrossoverAnswer, LhpAnswer
    from profiler_service.wire.predictions import PredictedFigures
    from profiler_service.workload import Dims


def query(
    dims: Annotated[
        str | None,
        typer.Argument(
            metavar="DIMS",
            help="The dimensions you have: 1197,317. With --callable, NAME=SIZE for each argument"
            " of the function that may grow.",
        ),
    ] = None,
    own_code: CallableOption = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Ask all questions in a file (- for stdin): CSV with a column `dims`, or a JSON"
            " object a line. Options hold for those that don't say otherwise.",
        ),
    ] = None,
    workload: Annotated[
        str, typer.Option(help="Kind of workload: `lhp workloads` lists them.")
    ] = "linear",
    vary: VaryOption = None,
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    param: ParamOption = None,
    prefer: Annotated[
        str, typer.Option(help="fastest, nearest or largest of the dims that cost no more time.")
    ] = "fastest",
    slack: Annotated[
        str | None,
        typer.Option(
            help="Dims may be this much slower: 1%. With nearest, largest or --platforms."
        ),
    ] = None,
    effort: Annotated[
        str, typer.Option(help="quick measures a part of the window, thorough every point.")
    ] = "quick",
    max_growth: Annotated[
        float | None, typer.Option(help="How far above DIMS to look, as a share of each dimension.")
    ] = None,
    multiple_of: Annotated[
        str | None,
        typer.Option(help="Answer only with multiples: 64, or for each axis 1,64."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a measurement, if one is needed.")
    ] = 120,
    budget: BudgetOption = None,
    margin: Annotated[
        str | None,
        typer.Option(help="How closely the answer must be known: nothing is 1% faster than it."),
    ] = None,
    settle: Annotated[
        float | None, typer.Option(help="Seconds to go on measuring for certainty (default 3).")
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(help="How old measurements may be: seconds, or 15min, 1h, 7d."),
    ] = None,
    basis: Annotated[
        str,
        typer.Option(
            help="measured; predicted: at once, from what the host has learned; or any: measured if"
            " it is known, else predicted while the race is queued."
        ),
    ] = "measured",
    unproven: Annotated[
        str | None,
        typer.Option(
            help="keep DIMS (default) or move to what a prediction says that isn't believed."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure now, as with --max-age 0.")
    ] = False,
    host: HostOption = None,
    platform: Annotated[
        str | None,
        typer.Option(help="Key of a platform, or its beginning; `lhp hosts` shows it."),
    ] = None,
    label: LabelOption = None,
    platforms: Annotated[
        str | None,
        typer.Option(help="One answer for several platforms: all, or keys with commas between."),
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Which larger dimensions cost no more time than DIMS? Measures them first if needed.

    With --file, prints a line for each question, and exits with 3 if some have no answer.

    With --callable, the question is about a function of your own, which this command measures on
    this machine: `lhp query --callable my_models:build hidden=300 --param layers=6`.
    """
    from profiler_service.cli.asking import ask
    from profiler_service.wording import format_dims

    if own_code is not None:
        refuse_with_callable(
            workload=None if workload == "linear" else workload,
            vary=vary,
            batch=batch,
            dtype=dtype,
            backend=backend,
            file=file,
            host=host,
            platform=platform,
            label=label,
            platforms=platforms,
            basis=None if basis == "measured" else basis,
            unproven=unproven,
        )
        own = {"prefer": prefer, "effort": effort, "max_growth": max_growth}
        own |= {"multiple_of": multiple_of, "budget": budget, "margin": margin, "slack": slack}
        own |= {"settle": settle, "max_age": None if fresh else max_age}
        given = {name: value for name, value in own.items() if value is not None}
        words = [] if dims is None else dims.split()
        _query_own(own_code, words, param, given, fresh=fresh, url=url, json=json)
        return
    if fresh:
        if max_age is not None:
            raise InvalidRequestError("--fresh is --max-age 0", hint="give one of them")
        max_age = "0"
    if (dims is None) == (file is None):
        raise InvalidRequestError(
            "give either DIMS or --file", hint="`lhp query 1197,317`, or `lhp query --file FILE`"
        )
    request: dict[str, str | int | float] = {
        **({} if dims is None else {"dims": format_dims(_read_dims(dims))}),
        "workload": workload,
        "prefer": prefer,
        "effort": effort,
    }
    for name, value in (
        ("max_growth", max_growth),
        ("multiple_of", multiple_of),
        ("budget", budget),
        ("slack", slack),
        ("margin", margin),
        ("settle", settle),
        ("max_age", max_age),
        ("unproven", unproven),
        ("host", host),
        ("platform", platform),
        ("label", label),
        ("platforms", platforms),
    ):
        if value is not None:
            request[name] = value
    params = read_parameters(vary=vary, batch=batch, dtype=dtype, backend=backend, pairs=param)
    if taken := sorted(
        params.keys()
        & {
            *request,
            *("max_growth", "multiple_of", "budget", "slack", "margin", "settle", "max_age"),
            *("host", "platform", "label", "platforms", "wait", "basis", "unproven"),
        }
    ):
        raise InvalidRequestError(
            f"{taken[0]!r} is not a parameter of a workload",
            hint="`lhp query --help` lists the option for it",
        )
    if basis != "measured":
        if file is not None:
            raise InvalidRequestError(
                f"--basis {basis} isn't for questions in a file", hint="leave out --basis"
            )
        _predict(request | params, basis, url=url, json=json)
        return
    if file is not None:
        _ask_file(file, {**request, **params}, wait_s=wait, url=url, json=json)
        return
    with open_client(url) as client:
        answer = ask(client, request | params, wait_s=wait, console=make_console())
        _print_answer(client, answer, json=json)


def _predict(
    query: Mapping[str, str | int | float], basis: str, *, url: str | None, json: bool
) -> None:
    from profiler_service.cli.predicted import describe_prediction
    from profiler_service.wire import LhpAnswer

    if basis not in ("predicted", "any"):
        raise InvalidRequestError(
            f"--basis {basis[:80]!r} is none", hint="write measured, predicted or any"
        )
    with open_client(url) as client:
        answer = client.predict_lhp(query) if basis == "predicted" else client.find_lhp(query)
        if isinstance(answer, LhpAnswer):
            _print_answer(client, answer, json=json)
            return
    say_away([answer])
    if json:
        print_json(answer)
    else:
        show(*describe_prediction(answer, dt.datetime.now(dt.UTC)).splitlines())


def _print_answer(client: ServiceClient, answer: LhpAnswer, *, json: bool) -> None:
    from profiler_service.cli.platforms import describe_platforms
    from profiler_service.cli.text import describe_answer

    say_away([answer])
    if json:
        print_json(answer)
        return
    mode = None
    # While the database is away, there is no more to learn.
    if answer.is_lhp and answer.database_away_s is None:
        mode = client.get_curve_header(answer.curve, host=answer.host).mode
    text = describe_answer(answer, dt.datetime.now(dt.UTC), mode=mode)
    show(*text.splitlines(), *describe_platforms(answer))


def _query_own(
    function: str,
    words: Sequence[str],
    param: list[str] | None,
    options: Mapping[str, str | float],
    *,
    fresh: bool,
    url: str | None,
    json: bool,
) -> None:
    from profiler_service.cli.commands.sweeps import exit_unless_done, report_outcome
    from profiler_service.cli.own_code import ask_own, read_question
    from profiler_service.cli.text import parse_params
    from profiler_service.wire import LhpAnswer

    params = parse_params(param or ())
    question = read_question(function, words, params, options, is_fresh=fresh)
    with open_client(url) as client:
        found = ask_own(client, question, console=make_console())
        if isinstance(found, LhpAnswer):
            _print_answer(client, found, json=json)
            return
        if json:
            print_json(found.sweep)
        else:
            report_outcome(client, found)
    exit_unless_done(found)


def _ask_file(
    file: str, given: dict[str, str | int | float], *, wait_s: float, url: str | None, json: bool
) -> None:
    from profiler_service.cli.batch import (
        choose_exit_code,
        describe_item,
        item_to_json,
        read_questions,
    )

    questions = read_questions(file, given)
    with open_client(url) as client:
        items = client.ask_lhp_batch(questions, wait_s=wait_s)
    say_away(each.answer for each in items if each.answer is not None)
    now = dt.datetime.now(dt.UTC)
    for question, item in zip(questions, items, strict=True):
        show(item_to_json(question, item) if json else describe_item(question, item, now))
    if (code := choose_exit_code(items)) != DONE:
        raise typer.Exit(code)


def say_away(answers: Iterable[LhpAnswer | CrossoverAnswer | PredictedFigures]) -> None:
    """Says it if answers come from memory because the service's database is away."""
    away_s = max((each.database_away_s or 0 for each in answers), default=0)
    if away_s:
        say(
            f"the service's database has been away for {away_s} s: it answers from memory, and may"
            " not know newer measurements"
        )


def crossover(
    dims: Annotated[
        str, typer.Argument(metavar="DIMS", help="out_features,in_features of a layer: 1500,1500")
    ],
    batch: BatchOption = None,
    dtype: DtypeOption = None,
    bias: Annotated[bool, typer.Option("--bias", help="The layer has a bias.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a measurement, if one is needed.")
    ] = 120,
    host: HostOption = None,
    platform: Annotated[
        str | None,
        typer.Option(help="Key of a platform, or its beginning; `lhp hosts` shows it."),
    ] = None,
    label: LabelOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """At which share of zeros does a sparse layer of DIMS become faster than every dense kernel?"""
    from profiler_service.cli.asking import ask_crossover
    from profiler_service.cli.text import describe_crossover
    from profiler_service.wording import format_dims

    given = {"batch": batch, "dtype": dtype, "host": host, "platform": platform, "label": label}
    request: dict[str, str | int | float] = {
        "dims": format_dims(_read_dims(dims)),
        **{name: value for name, value in given.items() if value is not None},
        **({"bias": "yes"} if bias else {}),
    }
    with open_client(url) as client:
        answer = ask_crossover(client, request, wait_s=wait, console=make_console())
    say_away([answer])
    if json:
        print_json(answer)
    else:
        show(*describe_crossover(answer, dt.datetime.now(dt.UTC)).splitlines())


def _read_dims(text: str) -> Dims:
    """The dims. Says how it reads them if they look like one number. Raises InvalidDimsError."""
    from profiler_service.cli.text import describe_separators
    from profiler_service.workload import parse_dims

    dims = parse_dims(text)
    if note := describe_separators(text):
        say(note)
    return dims
