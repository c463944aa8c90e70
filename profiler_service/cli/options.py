"""Options that several commands of `lhp` share, and how they are read. Prints nothing."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any

import typer

from profiler_service.errors import InvalidDimsError, InvalidRequestError

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The service to ask [LHP_URL].", metavar="URL"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
HostOption = Annotated[
    str | None, typer.Option(help="Host that measures (default: one on the only platform).")
]
BudgetOption = Annotated[
    float | None,
    typer.Option(min=0.001, max=86_400, help="Longest measuring time, in seconds."),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="NAME=VALUE", help="A fixed parameter of the workload; may be repeated."
    ),
]
BatchOption = Annotated[int | None, typer.Option(help="Rows of the input (the batch size).")]
VaryOption = Annotated[
    str | None,
    typer.Option(
        help="What varies instead of the workload's own axes: batch,out_features. Give the other"
        " axes with --param.",
    ),
]
DtypeOption = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
CallableOption = Annotated[
    str | None,
    typer.Option(
        "--callable",
        metavar="MODULE:FUNCTION",
        help="Measure a function of your own: it takes whole numbers, and returns what is called."
        " It runs here, in your command; only its name is sent.",
    ),
]
LabelOption = Annotated[
    str | None, typer.Option(help="Only hosts with this label measure: pool:train.")
]
BackendOption = Annotated[
    str | None,
    typer.Option(help="Which kernel runs: dense, packed, compiled, or what else the workload has."),
]


class DimsCommand(typer.core.TyperCommand):
    """A command whose arguments are dims. It takes -5 as a negative dim, not as an option."""

    allow_extra_args = True
    """They are refused here, with a better hint, except for arguments of a user's function."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuses negative dims, and dims that are separated by spaces. Raises InvalidDimsError."""
        for before, text in itertools.pairwise(["", *args]):
            if re.match("-[0-9]", text) and not before.startswith("-"):
                raise InvalidDimsError(
                    f"{text!r} is negative", hint="dims are whole numbers from 1 up: 1197,317"
                )
        extra = super().parse_args(ctx, args)
        if not extra:
            return extra
        if ctx.params.get("own_code") is not None and "dims" in ctx.params:
            ctx.params["dims"] = " ".join([str(ctx.params["dims"]), *extra])
            return []
        given = [str(ctx.params.get("dims", "")), *extra]
        if all(re.fullmatch("[0-9,x×]+", text) for text in given):
            joined = ",".join(re.findall("[0-9]+", " ".join(given)))
            raise InvalidDimsError(
                f"{' '.join(given)!r} are {len(given)} arguments",
                hint=f"separate dims by commas, without spaces: {joined}",
            )
        raise InvalidRequestError(
            f"got an unexpected argument: {extra[0][:80]}",
            hint=f"`{ctx.command_path} --help` says what it takes",
        )


def refuse_with_callable(**options: object) -> None:
    """Returns if none of these options is given. Raises InvalidRequestError, which names one."""
    for name, value in options.items():
        if value not in (None, False):
            raise InvalidRequestError(
                f"--{name.replace('_', '-')} says nothing about a function of your own",
                hint="give its arguments: hidden=300 varies, --param layers=6 doesn't",
            )


def read_parameters(
    *,
    batch: int | None,
    dtype: str | None,
    backend: str | None,
    pairs: list[str] | None,
    vary: str | None = None,
) -> dict[str, int | str]:
    """The workload's fixed parameters from options and `--param`, each given once."""
    from profiler_service.cli.text import parse_params

    params: dict[str, int | str] = {**parse_params(pairs or ())}
    for name, value in (
        ("vary", vary),
        ("batch", batch),
        ("dtype", dtype),
        ("backend", backend),
    ):
        if value is None:
            continue
        if name in params:
            raise InvalidRequestError(
                f"parameter {name!r} is given twice", hint=f"drop --{name} or --param {name}=…"
            )
        params[name] = value
    return params
