"""`lhp-train pad`: a trained module, wider, with the same function. Imports torch only when run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profiler_service.errors import InvalidRequestError
from trainer_client.commands.extra import check_extra
from trainer_client.commands.options import HostOption

if TYPE_CHECKING:
    from torch import nn

    from profiler_service.advice.example import Example
    from trainer_client.groups.padding import Padded, Padder
    from trainer_client.widths.questions import Followed
    from trainer_client.widths.report import PadReport


def pad(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="MODULE:FACTORY, a function in your code that returns a trained torch module; or a"
            " .safetensors file that a run has exported.",
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=WIDTH,…",
            help="The width of each axis that is padded; the service isn't asked then.",
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            help="The latency service, which says what would be faster.",
            metavar="URL",
            envvar="LHP_URL",
        ),
    ] = None,
    host: HostOption = None,
    example: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A function that returns what the module is called with in use.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the padded weights go, with the way back; a report stands beside them.",
        ),
    ] = None,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Take the added units out of MODEL, a file of --out."),
    ] = False,
    logits: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="A decoder whose vocabulary may be padded with words of probability zero.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16 (default: the model's own).", metavar="DTYPE"
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Of an exported model: words that it reads at once.")
    ] = 70,
    batch: Annotated[
        int, typer.Option(min=1, help="Of an exported model: texts that it reads side by side.")
    ] = 16,
    max_growth: Annotated[
        float, typer.Option(help="How far to look above each width, as a share of it.")
    ] = 0.125,
    time: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Seconds for the races of the whole module; 0: none."),
    ] = 60,
) -> None:
    """Make a trained module wider without changing what it computes, where that is faster.

    With --to, pads to these widths. With --service, asks about the module's layers, and keeps what
    a race of the whole module shows to be faster. With neither, lists the axes.
    """
    check_extra()
    if undo:
        _undo(model, out)
        return
    from profiler_service.advice.loading import importing_from_here

    asked_widths = parse_widths(to or [])
    padded: Padded[nn.Module] | None
    with importing_from_here():
        padder, called_with, followed, description = _load(
            model, example, logits or [], dtype, steps=steps, batch=batch
        )
        if asked_widths:
            report, padded = _pad_to(padder, called_with, asked_widths, model, time_s=time)
        elif service is not None:
            report, padded = _grow(
                padder, called_with, followed, model, service, host, max_growth, time_s=time
            )
        else:
            report, padded = _list_axes(padder, model), None
    for line in report.to_lines():
        typer.echo(line)
    if out is not None:
        _write(report, padded, out, description)


def parse_widths(texts: Sequence[str]) -> dict[str, int]:
    """The widths by axis, from `axis=width,axis=width`. Raises InvalidRequestError."""
    widths: dict[str, int] = {}
    for text in [part for each in texts for part in each.split(",")]:
        axis, equals, digits = text.strip().partition("=")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= 9
        if not (axis and equals and is_number) or axis in widths:
            raise InvalidRequestError(
                f"--to {text[:80]!r} isn't one width of an axis",
                hint="write AXIS=WIDTH,AXIS=WIDTH: rnn.units=320,hidden.units=1200",
            )
        widths[axis] = int(digits)
    return widths


def _load(
    model: str,
    example: str | None,
    logits: Sequence[str],
    dtype: str | None,
    *,
    steps: int,
    batch: int,
) -> tuple[Padder[nn.Module], Example, Followed | None, dict[str, Any] | None]:
    """The module with its units, what it is called with, what is asked, and its file's own words.

    What is asked is None if its layers are to be looked at.
    """
    from profiler_service.advice.example import Example, arrange_example, unwrap
    from profiler_service.advice.loading import load_example, load_model
    from trainer_client.groups.padding import Padder
    from trainer_client.widths.exported import ask_whole, draw_words, load_exported, make_padder
    from trainer_client.widths.files import read_weights

    if Path(model).suffix == ".safetensors":
        if example is not None or logits:
            raise InvalidRequestError(
                "--example and --logits are for a module of your own",
                hint="an exported model reads words: --steps and --batch say how many",
            )
        network = _cast(load_exported(model), dtype)
        words_tb = draw_words(network, steps=steps, batch=batch)
        padder = make_padder(network, words_tb)
        _, description = read_weights(Path(model))
        return padder, Example(args=(words_tb,)), ask_whole(network, words_tb), description
    if example is None:
        raise InvalidRequestError(
            "the module is run, to see which layers make and read which units",
            hint="add --example my_models:make_input",
        )
    module = _cast(unwrap(load_model(model)), dtype)
    called_with = _cast_example(arrange_example(load_example(example), module), dtype)
    keywords: dict[str, Any] = dict(called_with.kwargs)
    padder = Padder(module, *called_with.args, logits=logits, **keywords)
    return padder, called_with, None, None


def _cast(module: Any, dtype: str | None) -> Any:
    """The module in that dtype. Raises InvalidRequestError for one that isn't known."""
    import torch

    if dtype is None:
        return module
    if dtype not in ("float32", "bfloat16", "float16"):
        raise InvalidRequestError(
            f"there is no dtype {dtype[:80]!r} here", hint="float32, bfloat16 or float16"
        )
    return module.to(getattr(torch, dtype))


def _cast_example(example: Example, dtype: str | None) -> Example:
    """The example with its floats in that dtype."""
    import torch
    from torch.utils import _pytree as pytree

    if dtype is None:
        return example
    args, kwargs = pytree.tree_map_only(
        torch.Tensor,
        lambda each: each.to(getattr(torch, dtype)) if each.is_floating_point() else each,
        (example.args, dict(example.kwargs)),
    )
    return type(example)(args=args, kwargs=kwargs)


def _pad_to(
    padder: Padder[nn.Module],
    called_with: Example,
    widths: dict[str, int],
    what: str,
    *,
    time_s: float,
) -> tuple[PadReport, Padded[nn.Module]]:
    """Pads to the widths, and races the result."""
    from profiler_service.widths.end_to_end import race_modules
    from trainer_client.widths.growth import GROWN, NOW, AxisGrowth
    from trainer_client.widths.report import PadReport

    padded = padder.pad(widths)
    outcome = None
    if time_s > 0:
        _say("racing the padded module against the original one")
        models = {NOW: padder.module, GROWN: padded.module}
        outcome = race_modules(models, called_with, reference=NOW, time_s=time_s)
    axes = tuple(
        AxisGrowth(
            axis=axis,
            before=width,
            now=widths.get(axis, width),
            proposed=widths.get(axis, width),
            layers=(),
            reason="" if axis in widths else "not asked for",
        )
        for axis, width in padder.widths.items()
    )
    report = PadReport(
        what=what,
        axes=axes,
        refused=padder.found.fixed,
        largest_difference=padded.largest_difference,
        outcome=outcome,
    )
    return report, padded


def _grow(
    padder: Padder[nn.Module],
    called_with: Example,
    followed: Followed | None,
    what: str,
    service: str,
    host: str | None,
    max_growth: float,
    *,
    time_s: float,
) -> tuple[PadReport, Padded[nn.Module] | None]:
    """Asks the service, and keeps what pays."""
    import torch

    from trainer_client.oracle.http import HttpLatencyOracle
    from trainer_client.widths.growth import grow
    from trainer_client.widths.questions import find_followers
    from trainer_client.widths.report import PadReport
    from trainer_client.widths.threads import find_threads

    if time_s <= 0:
        raise InvalidRequestError(
            "what the service says of layers is raced before it is kept, so --time can't be 0",
            hint="give it some seconds, or pad without a race: --to",
        )
    threads = find_threads(service, host)
    if threads is not None:
        torch.set_num_threads(threads)
    if followed is None:
        followed = find_followers(padder, called_with)
    with HttpLatencyOracle(service, host=host) as oracle:
        grown = grow(
            padder,
            called_with,
            followed,
            oracle=oracle,
            time_s=time_s,
            max_growth=max_growth,
            say=_say,
        )
    return PadReport.of(grown, what=what), grown.padded


def _list_axes(padder: Padder[nn.Module], what: str) -> PadReport:
    from trainer_client.widths.growth import AxisGrowth
    from trainer_client.widths.report import PadReport

    axes = (
        AxisGrowth(axis=axis, before=width, now=width, proposed=width, layers=(), reason="")
        for axis, width in padder.widths.items()
    )
    return PadReport(
        what=what,
        axes=tuple(axes),
        refused=padder.found.fixed,
        largest_difference=None,
        outcome=None,
    )


def _write(
    report: PadReport,
    padded: Padded[nn.Module] | None,
    out: Path,
    description: dict[str, Any] | None,
) -> None:
    """Writes the weights, if they changed, and the report beside them."""
    from trainer_client.files import make_directory, write_whole
    from trainer_client.widths.files import write_padded

    make_directory(out.parent)
    if padded is not None:
        write_padded(padded, out, description=description)
        typer.echo(f"written: {out}; undo: lhp-train pad {out} --undo --out FILE")
    else:
        typer.echo("nothing is padded, so no weights are written")
    write_whole(out.with_suffix(".md"), report.to_markdown().encode())
    write_whole(out.with_suffix(".json"), report.to_json().encode())
    typer.echo(f"report: {out.with_suffix('.md')}")


def _undo(model: str, out: Path | None) -> None:
    from trainer_client.widths.files import undo_file

    if out is None:
        raise InvalidRequestError(
            "--undo writes a file: say which one", hint="add --out narrow.safetensors"
        )
    for name, (before, now) in undo_file(Path(model), out).items():
        typer.echo(f"{name}: {_tell_shape(before)} → {_tell_shape(now)}")
    typer.echo(f"written: {out}")


def _tell_shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _say(line: str) -> None:
    typer.echo(line, err=True)
