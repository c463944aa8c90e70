"""/ui/history: how one pair of points compared over time, fact by fact."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from profiler_service.answering.canaries import CANARY_WORKLOAD
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import is_stale
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import ServicesDep, refuse_unknown_parameters
from profiler_service.dashboard.canaries import CanaryRow, list_rows
from profiler_service.dashboard.platform_changes import find_changes
from profiler_service.dashboard.rendering import count, format_size, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.dashboard.sentences import describe_gain, describe_interval
from profiler_service.errors import UnknownAddressError
from profiler_service.kinds import CALLABLE, workload_kinds
from profiler_service.plots.history import HistoryPoint, PlatformChange, history_figure
from profiler_service.storage.store import Fact, FactFilter
from profiler_service.workload import Dims, parse_dims

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/history",
    include_in_schema=False,
    dependencies=[Depends(refuse_unknown_parameters)],
)

MAX_FACTS = 500
"""So many of the newest facts are looked at."""
SHOWN_PAIRS = 50
"""Pairs in the list of what has a history; and canaries."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The facts about one pair on one host, the oldest first."""

    workload: str
    dims: Dims
    rival: Dims
    host: str
    facts: Sequence[Fact]
    changes: Sequence[PlatformChange] = ()

    @property
    def query(self) -> str:
        """What names it in an address."""
        dims, rival = (",".join(map(str, each)) for each in (self.dims, self.rival))
        named = {"workload": self.workload, "dims": dims, "rival": rival, "host": self.host}
        return urlencode(named, safe=",")

    @property
    def title(self) -> str:
        """What the newest fact says, and how long it has been so."""
        newest = self.facts[-1].pair
        said = f"{format_size(self.rival)} is {describe_gain(1 / newest.ratio)}"
        if newest.verdict == "ambiguous":
            said = f"{format_size(self.rival)} can't be told from {format_size(self.dims)}"
        elif newest.verdict == "slower":
            said = f"{format_size(self.rival)} is {100 * (newest.ratio - 1):.1f} % slower"
        same = 0
        for fact in reversed(self.facts):
            if fact.pair.verdict != newest.verdict:
                break
            same += 1
        if len(self.facts) == 1:
            return f"{said}, measured once"
        if same == len(self.facts):
            return f"{said}, and so it was all {same} times"
        return f"{said}, in the last {count(same, 'fact')} of {len(self.facts)}"

    def draw(self) -> dict[str, object]:
        """The gain of each fact over time, with changes of the platform."""
        points = [
            HistoryPoint(
                time=fact.measured_at,
                value=1 / fact.pair.ratio,
                low=1 / fact.pair.high,
                high=1 / fact.pair.low,
                note="overruled by a later fact" if fact.overruled_by else "",
            )
            for fact in self.facts
        ]
        return history_figure(points, title=self.title, quantity="gain", changes=self.changes)


def list_histories(facts: Sequence[Fact]) -> list[History]:
    """The pairs of these facts, newest first, those that were measured most often before others.

    `facts` come newest first.
    """
    pairs: dict[tuple[str, Dims, Dims, str], list[Fact]] = {}
    for fact in facts:
        key = (fact.workload.key, fact.pair.dims, fact.pair.rival, fact.host)
        pairs.setdefault(key, []).insert(0, fact)
    found = [
        History(workload=workload, dims=dims, rival=rival, host=host, facts=its)
        for (workload, dims, rival, host), its in pairs.items()
    ]
    return sorted(found, key=lambda history: -len(history.facts))


@router.get("")
async def show_histories(
    request: Request,
    services: ServicesDep,
    workload: str = "",
    dims: str = "",
    host: str = "",
) -> Response:
    """The pairs that have facts, those with most of them first."""
    await services.hosts.resolve(Where(host=host or None))
    point = parse_dims(dims) if dims else None
    wanted = FactFilter(kind=workload or None, host=host or None, dims=point)
    page = await asyncio.to_thread(services.store.list_facts, wanted, limit=MAX_FACTS)
    histories = list_histories(page.items)
    repeated = Counter(len(history.facts) > 1 for history in histories)[True]
    canaries: list[CanaryRow] = []
    if workload in ("", CANARY_WORKLOAD.kind):
        canaries = await list_rows(services, dims=point, host=host)
    title = "No facts yet"
    if histories:
        title = f"{count(repeated, 'pair') if repeated else 'No pair'} measured more than once"
    return render(
        request,
        "histories.html",
        title=title,
        histories=histories[:SHOWN_PAIRS],
        num_more=max(0, len(histories) - SHOWN_PAIRS),
        canaries=canaries[:SHOWN_PAIRS],
        num_more_canaries=max(0, len(canaries) - SHOWN_PAIRS),
        gain=lambda fact: describe_gain(1 / fact.pair.ratio),
        kinds=[*workload_kinds(), CALLABLE.name],
        workload=workload,
        dims=dims,
        host=host,
    )


@dataclass(frozen=True, kw_only=True)
class PairAddress:
    """The pair that an address names."""

    workload: Annotated[str, Query(description="Key of the workload.")]
    dims: str
    rival: str
    host: str


async def _find(pair: PairAddress, services: Services) -> History:
    """The history of that pair. Raises InvalidDimsError; UnknownAddressError without a fact."""
    dims, rival = parse_dims(pair.dims), parse_dims(pair.rival)
    wanted = FactFilter(workload_key=pair.workload, dims=dims, host=pair.host)
    page = await asyncio.to_thread(services.store.list_facts, wanted, limit=MAX_FACTS)
    its = [each for each in reversed(page.items) if each.pair.rival == rival]
    if not its:
        raise UnknownAddressError(
            f"no fact says how {pair.rival} compares with {pair.dims} on {pair.host}",
            hint="choose a pair from the list of histories",
            see="/ui/history",
        )
    return History(
        workload=pair.workload,
        dims=dims,
        rival=rival,
        host=pair.host,
        facts=its,
        changes=await find_changes(its, services.store),
    )


@router.get("/pair")
async def show_history(
    request: Request, services: ServicesDep, pair: Annotated[PairAddress, Depends()]
) -> Response:
    """One pair over time: its figure, and every fact as a row."""
    history = await _find(pair, services)
    host = services.known.curves.snapshot.hosts.get(history.host)
    return render(
        request,
        "history.html",
        history=history,
        rows=[
            (
                fact,
                describe_gain(1 / fact.pair.ratio),
                describe_interval(1 / fact.pair.high, 1 / fact.pair.low),
                is_stale(fact, host),
            )
            for fact in reversed(history.facts)
        ],
    )


@router.get("/figure")
async def draw_history(services: ServicesDep, pair: Annotated[PairAddress, Depends()]) -> Response:
    """The figure of that pair over time."""
    figure = (await _find(pair, services)).draw()
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")
