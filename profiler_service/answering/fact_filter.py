"""Reads which facts a list shall show. Knows no HTTP and doesn't use the store."""

from __future__ import annotations

import datetime as dt

from profiler_service.errors import InvalidRequestError, InvalidWorkloadError
from profiler_service.kinds import get_workload_kind
from profiler_service.storage.store import FactFilter
from profiler_service.suggestions import did_you_mean
from profiler_service.wire import FactsQuery
from profiler_service.workload import parse_dims


def read_fact_filter(query: FactsQuery, *, platform_key: str | None) -> FactFilter:
    """The filter that the query describes; `platform_key` is the whole key of its platform.

    Raises InvalidRequestError, InvalidDimsError, UnknownWorkloadError, InvalidWorkloadError.
    """
    return FactFilter(
        kind=query.workload,
        workload_key=_find_workload_key(query),
        platform_key=platform_key,
        host=query.host,
        dims=None if query.dims is None else parse_dims(query.dims),
        verdict=query.verdict,
        since=in_utc(query.since),
    )


def _find_workload_key(query: FactsQuery) -> str | None:
    """Key of the workload, if a fixed parameter is given; None if none is.

    Raises InvalidRequestError without a kind; UnknownWorkloadError, InvalidWorkloadError.
    """
    given = query.model_extra
    if not given:
        return None
    if query.workload is None:
        named = next(iter(given))
        raise InvalidRequestError(
            f"no parameter of /facts: {', '.join(name[:80] for name in given)}",
            hint=did_you_mean(named, FactsQuery.model_fields)
            + f"its parameters are: {', '.join(FactsQuery.model_fields)}; with a workload, also"
            " its fixed parameters",
            see="/docs",
        )
    try:
        return get_workload_kind(query.workload).describe(given).key
    except InvalidWorkloadError as error:
        # A misspelled filter was taken for a parameter of the workload.
        if "did you mean" not in error.hint:
            meant = [did_you_mean(name, FactsQuery.model_fields) for name in given]
            error.hint = next(filter(None, meant), "") + error.hint
        raise


def in_utc(moment: dt.datetime | None) -> dt.datetime | None:
    """The time, in UTC if it names no time zone."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=dt.UTC)
