"""Reads which curves a list shall show. Knows no HTTP and doesn't use the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from profiler_service.analysis.samples import Platform
from profiler_service.answering.fact_filter import in_utc
from profiler_service.errors import InvalidRequestError, InvalidWorkloadError
from profiler_service.grid import MAX_DIM
from profiler_service.kinds import workload_kinds
from profiler_service.storage.store import CurveFilter, CurveOrder, ParamFilter, SearchWord
from profiler_service.suggestions import did_you_mean
from profiler_service.wire import CurvesQuery
from profiler_service.workload import VARY, Parameter, WorkloadKind

MAX_WORDS: Final = 8
"""Words that a search may have: each is compared with several texts of every curve."""


def read_curve_filter(
    query: CurvesQuery, *, platform_key: str | None, platforms: Mapping[str, Platform]
) -> CurveFilter:
    """The filter that the query describes.

    `platform_key` is the whole key of its platform, and `platforms` are all there are, by key.
    Raises InvalidRequestError; InvalidWorkloadError for a value that no workload can have.
    """
    kinds = _find_kinds(query.workload)
    return CurveFilter(
        kind=query.workload,
        platform_key=platform_key,
        host=query.host,
        mode=query.mode,
        since=in_utc(query.since),
        until=in_utc(query.until),
        params=tuple(
            _read_param(name, str(text), kinds) for name, text in (query.model_extra or {}).items()
        ),
        words=_read_words(query.search, platforms),
    )


def read_curve_order(query: CurvesQuery) -> CurveOrder:
    """The order that the query asks for: a minus means that the largest comes first."""
    sort = query.sort
    if sort[0] == "-":
        return CurveOrder(sort=sort[1:], descending=True)  # type: ignore[arg-type]  # its literals
    return CurveOrder(sort=sort, descending=False)  # type: ignore[arg-type]


def _find_kinds(name: str | None) -> Sequence[WorkloadKind] | None:
    """The kinds whose curves are meant; None if it isn't installed (any more)."""
    installed = workload_kinds()
    if name is None:
        return list(installed.values())
    return [installed[name]] if name in installed else None


def _find_parameter(kind: WorkloadKind, name: str) -> Parameter | None:
    """What the kind allows for a fixed parameter: one of its own, or an axis that doesn't vary."""
    if name in kind.axes:
        return Parameter(name=name, default=1, maximum=MAX_DIM, description="")
    return next((each for each in kind.parameters if each.name == name), None)


def _read_param(name: str, text: str, kinds: Sequence[WorkloadKind] | None) -> ParamFilter:
    if name == VARY or (kinds is None and name.isidentifier()):
        return ParamFilter(name=name, values=(text.replace(" ", ""),))
    found = {
        kind.name: parameter
        for kind in kinds or ()
        if (parameter := _find_parameter(kind, name)) is not None
    }
    if not found:
        raise _unknown(name, kinds or ())
    values: list[str] = []
    left_out_by: list[str] = []
    error: InvalidWorkloadError | None = None
    for kind, parameter in found.items():
        try:
            value = parameter.parse(text)
        except InvalidWorkloadError as refused:
            error = refused
            continue
        values.append(str(value))
        if parameter.omitted_at_default and value == parameter.parse(parameter.default):
            left_out_by.append(kind)
    if error is not None and not values:
        raise error
    return ParamFilter(
        name=name, values=tuple(dict.fromkeys(values)), left_out_by=tuple(left_out_by)
    )


def _unknown(name: str, kinds: Sequence[WorkloadKind]) -> InvalidRequestError:
    fields = list(CurvesQuery.model_fields)
    known = {each.name for kind in kinds for each in kind.parameters}
    of_kind = ", ".join(sorted(known)) if len(kinds) == 1 else "those that GET /workloads lists"
    return InvalidRequestError(
        f"no parameter of /curves: {name[:80]}",
        hint=did_you_mean(name, [*fields, *sorted(known)])
        + f"its parameters are: {', '.join(fields)}; and the workload's own: {of_kind}",
        see="/docs",
    )


def _read_words(search: str, platforms: Mapping[str, Platform]) -> tuple[SearchWord, ...]:
    words = search.split()
    if len(words) > MAX_WORDS:
        raise InvalidRequestError(
            f"search has {len(words)} words", hint=f"search for {MAX_WORDS} words at most"
        )
    texts = {key: _describe(platform).lower() for key, platform in platforms.items()}
    return tuple(
        SearchWord(
            text=word,
            platform_keys=tuple(key for key, text in texts.items() if word.lower() in text),
        )
        for word in words
    )


def _describe(platform: Platform) -> str:
    """What people may look for of a platform."""
    fields = (platform.device, platform.device_model, platform.driver, platform.framework)
    return "\n".join(fields)
