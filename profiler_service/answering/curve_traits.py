"""In what several curves differ, in what they are alike, and what to call each of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.samples import Platform
from profiler_service.answering.resources import axis_ranges
from profiler_service.grid import Grid
from profiler_service.kinds import workload_kinds
from profiler_service.storage.store import CurveHeader
from profiler_service.wire import CurveDifference, CurveLikeness
from profiler_service.wire.curve_comparison import About
from profiler_service.wording import format_range
from profiler_service.workload import Workload

MOST_TOLD: Final = 2
"""So many fields of a platform are in a label at most: it stands at the end of a line."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What several curves have in common and what not, and a short name for each."""

    differs: tuple[CurveDifference, ...]
    same: tuple[CurveLikeness, ...]
    labels: tuple[str, ...]


def find_traits(headers: Sequence[CurveHeader], platforms: Mapping[str, Platform]) -> Traits:
    """The traits of these curves; `platforms` has theirs, by key."""
    rows = _list_traits(headers, [platforms[each.platform_key] for each in headers])
    differs = [row for row in rows if len(set(row.values)) > 1]
    same = [
        CurveLikeness(about=row.about, name=row.name, value=row.values[0])
        for row in rows
        if len(set(row.values)) == 1 and row.values[0] is not None and row.about != "platform"
    ]
    if len({each.platform_key for each in headers}) == 1:
        platform = platforms[headers[0].platform_key]
        same.append(
            CurveLikeness(about="platform", name="platform", value=describe_platform(platform))
        )
    return Traits(differs=tuple(differs), same=tuple(same), labels=_make_labels(headers, differs))


def describe_platform(platform: Platform) -> str:
    """The device and its threads: `Xeon 8480+, 2 threads`."""
    threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
    return f"{_shorten_model(platform.device_model)}, {threads}"


def _shorten_model(model: str) -> str:
    return model.partition(" (")[0]  # the brackets hold what is too long to be read


def _list_traits(
    headers: Sequence[CurveHeader], platforms: Sequence[Platform]
) -> list[CurveDifference]:
    """Everything that may differ, whether it does or not."""
    params = [_read_params(each.workload) for each in headers]
    fields = [each.flat_fields() for each in platforms]

    def row(about: About, name: str, values: Sequence[object]) -> CurveDifference:
        texts = [None if value is None else str(value) for value in values]
        return CurveDifference(about=about, name=name, values=texts)

    return [
        *(
            row("parameter", name, [each.get(name) for each in params])
            for name in dict.fromkeys(name for each in params for name in each)
        ),
        *(
            row("platform", name, [each.get(name) for each in fields])
            for name in dict.fromkeys(name for each in fields for name in each)
        ),
        row("host", "host", [each.host for each in headers]),
        row("mode", "mode", [each.mode for each in headers]),
        row("grid", "grid", [_describe_grid(each.grid) for each in headers]),
        row("time", "measured_at", [f"{each.measured_at:%Y-%m-%d %H:%M:%S}Z" for each in headers]),
        row("protocol", "protocol", [each.protocol_key for each in headers]),
    ]


def _read_params(workload: Workload) -> Mapping[str, object]:
    """The workload's parameters, with those that it leaves out because they have their defaults."""
    kind = workload_kinds().get(workload.kind)
    left_out = {} if kind is None else {p.name: p.default for p in kind.parameters}
    varied = dict.fromkeys(workload.axes)
    return {k: v for k, v in {**left_out, **dict(workload.params)}.items() if k not in varied}


def _describe_grid(grid: Grid) -> str:
    return " ".join(map(format_range, axis_ranges(grid)))


def _make_labels(
    headers: Sequence[CurveHeader], differs: Sequence[CurveDifference]
) -> tuple[str, ...]:
    """Of each curve, the values of what differs most visibly: parameters, platform, host, time."""
    told = [each for each in differs if each.about == "parameter"]
    of_platform = [each for each in differs if each.about == "platform"]
    models = [each for each in of_platform if each.name == "device_model"]
    told += models or of_platform[:MOST_TOLD]
    if not of_platform:
        told += [each for each in differs if each.about == "host"]
    told = told or [each for each in differs if each.about == "time"]
    labels = [
        ", ".join(_tell(each, number) for each in told) or header.id
        for number, header in enumerate(headers)
    ]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({each.id[-6:]})" for label, each in zip(labels, headers, strict=True)]
    return tuple(labels)


def _tell(difference: CurveDifference, number: int) -> str:
    """The value of one curve, with its name where the value alone says nothing: `batch 8`."""
    value = difference.values[number]
    if value is None:
        return f"no {difference.name}"
    if difference.name == "device_model":
        return _shorten_model(value)
    is_number = value.replace(".", "", 1).isdigit()
    if difference.about == "platform" or is_number:
        return f"{difference.name} {value}"
    return value
