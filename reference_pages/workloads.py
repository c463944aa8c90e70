"""The page of the built-in workload kinds, from `profiler_service.kinds`."""

from __future__ import annotations

from profiler_service.kinds import workload_kinds
from profiler_service.workload import Parameter, WorkloadKind
from reference_pages.markdown import code, table

INTRODUCTION = """\
# Workload kinds

These kinds are built in. `lhp workloads` lists them as well, together with the kinds of installed
packages ([how to add one](../guides/add-a-workload-kind.md)). *Axes* are the dimensions that may
grow. *Parameters* stay fixed in one question. Give them as `--param NAME=VALUE` on the command
line, or as query parameters over HTTP. With `vary`, whole-number parameters may grow instead, and
axes stay fixed: `vary=batch,out_features` with `in_features=317`.
[Whole networks](../explanation/networks.md) says what a call of each network computes.

"""


def built_in_kinds() -> list[WorkloadKind]:
    """The kinds of this project, without those of other installed packages."""
    return [
        kind
        for kind in workload_kinds().values()
        if kind.builder.startswith("profiler_service.measurement.")
    ]


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(map(code, parameter.choices))
    if parameter.decimals:
        return (
            f"{parameter.minimum} to below {parameter.maximum},"
            f" at most {parameter.decimals} decimals"
        )
    return f"{parameter.minimum:,} to {parameter.maximum:,}"


def workloads_page() -> str:
    """Every built-in kind: its axes, and its parameters with default and bounds."""
    text = INTRODUCTION
    for kind in built_in_kinds():
        axes = ", ".join(map(code, kind.axes))
        text += f"## `{kind.name}`\n\n{kind.description}\n\nAxes: {axes}\n\n"
        rows = [
            (code(each.name), code(each.default), _allowed(each), each.description)
            for each in kind.parameters
        ]
        text += table(("parameter", "default", "allowed", "meaning"), rows)
    return text
