"""The pages of the commands `lhp` and `lhp-train`, from their typer applications."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import typer

from profiler_service.processes.exit_codes import (
    DONE,
    FAILED,
    INTERRUPTED,
    MEANINGS,
    USAGE,
)
from reference_pages.markdown import code, paragraphs, table

OF_BOTH = (DONE, FAILED, USAGE, INTERRUPTED)
"""The exit codes that `lhp-train` has, too."""


def exit_codes(codes: Iterable[int]) -> str:
    """The section about these exit codes."""
    rows = [(str(each), MEANINGS[each]) for each in codes]
    return "## Exit codes\n\n" + table(("code", "meaning"), rows)


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with its full name, in the order of definition."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    if command.invoke_without_command:
        yield name, command
    for child_name, child in children.items():
        yield from leaves(child, f"{name} {child_name}")


def lhp_commands() -> dict[str, Any]:
    """Every command of `lhp` by its full name."""
    from profiler_service.cli.app import app

    return dict(leaves(typer.main.get_command(app), "lhp"))


def lhp_train_commands() -> dict[str, Any]:
    """Every command of `lhp-train` by its full name."""
    from trainer_client.cli import app

    return dict(leaves(typer.main.get_command(app), "lhp-train"))


def _value_name(parameter: Any) -> str:
    """What the option's value is called: its metavar, or the name of its type."""
    if parameter.is_flag:
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    return {str: "TEXT", int: "N", float: "X"}.get(kind, "VALUE")


def _usage(name: str, parameters: list[Any]) -> str:
    words = [name]
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            word = (parameter.metavar or parameter.name.upper()).strip("[]{}.")
            word += "…" if parameter.nargs == -1 else ""
            words.append(word if parameter.required else f"[{word}]")
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {parameter.metavar or 'VALUE'}")
    return " ".join([*words, "[OPTIONS]"])


def _command(name: str, command: Any) -> str:
    parameters = [each for each in command.params if not getattr(each, "hidden", False)]
    text = f"## `{name}`\n\n{paragraphs(command.help)}"
    text += f"```console\n$ {_usage(name, parameters)}\n```\n\n"
    arguments = [
        (code((each.metavar or each.name.upper()).strip("[]{}")), each.help or "")
        for each in parameters
        if each.param_type_name == "argument"
    ]
    if arguments:
        text += table(("argument", "meaning"), arguments)
    options = []
    for each in parameters:
        if each.param_type_name != "option":
            continue
        names = ", ".join(code(option) for option in (*each.opts, *each.secondary_opts))
        value = _value_name(each)
        default = each.default
        if each.secondary_opts:  # a pair such as --worker/--no-worker
            default = (each.opts if default else each.secondary_opts)[0]
        shown = "" if default in (None, False) or each.required else code(default)
        options.append((f"{names} {code(value)}".strip(), shown, each.help or ""))
    if options:
        text += table(("option", "default", "meaning"), options)
    return text


def lhp_page() -> str:
    """Every command of `lhp` with its arguments and options."""
    text = (
        "# The command `lhp`\n\n"
        "Each command has `--help`. With `--json`, a command prints JSON for scripts on stdout, and"
        " nothing else. Messages, progress and errors go to stderr; with `--json`, an error is also"
        ' written to stdout, as `{"error": {"type", "message", "hint", "see",'
        ' "exit_code"}}`; its `type` is that of the problem.\n\n'
        "A standard stream that is closed counts as `/dev/null`. If stdout can't be written to (its"
        " disk is full, for example), the command ends with an error; `lhp serve` goes on. A"
        " terminal whose encoding isn't UTF-8 gets similar characters: `->` for `→`, `us` for"
        " `µs`; JSON gets escapes.\n\n"
        "`lhp --install-completion` teaches your shell to complete commands and options.\n\n"
    )
    text += "".join(_command(name, command) for name, command in lhp_commands().items())
    return text + exit_codes(MEANINGS)


def lhp_train_page() -> str:
    """Every command of `lhp-train` with its arguments and options."""
    text = (
        "# The command `lhp-train`\n\n"
        "The guide [Train a compact model](../guides/train.md) shows the commands in use;"
        " [Training settings](training.md) lists what `--set` changes."
        " `lhp-train --install-completion` teaches your shell to complete commands.\n\n"
    )
    text += "".join(_command(name, command) for name, command in lhp_train_commands().items())
    return text + exit_codes(OF_BOTH)
