"""/ui/history/canary: the latency at one point over time, race by race: of canaries, and others."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from profiler_service.answering.canaries import CANARY_WORKLOAD, list_canaries
from profiler_service.answering.caveats import find_width, is_noisy
from profiler_service.answering.fleet_metrics import MAX_HOSTS
from profiler_service.answering.race_latencies import RaceLatency
from profiler_service.answering.resources import is_stale
from profiler_service.answering.services import Services
from profiler_service.api.dependencies import ServicesDep, refuse_unknown_parameters
from profiler_service.dashboard.platform_changes import find_changes
from profiler_service.dashboard.rendering import count, format_size, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import UnknownAddressError
from profiler_service.plots.history import HistoryPoint, PlatformChange, history_figure
from profiler_service.storage.store import CurveFilter, CurveHeader
from profiler_service.wording import format_seconds
from profiler_service.workload import Dims, parse_dims

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/history/canary",
    include_in_schema=False,
    dependencies=[Depends(refuse_unknown_parameters)],
)

MAX_RACES = 200
"""So many of the newest races are looked at: of a canary every six hours, those of 50 days."""


def canary_query(dims: Dims, host: str) -> str:
    """What names a canary of a host in an address."""
    return urlencode({"dims": ",".join(map(str, dims)), "host": host}, safe=",")


@dataclass(frozen=True, kw_only=True)
class CanaryRow:
    """A canary of a host as the list of histories shows it."""

    dims: Dims
    host: str

    @property
    def query(self) -> str:
        """What names it in an address."""
        return canary_query(self.dims, self.host)


async def list_rows(services: Services, *, dims: Dims | None, host: str) -> list[CanaryRow]:
    """The service's canaries that were measured on the hosts' platforms of today."""
    points = [each for each in list_canaries(services.settings) if dims in (None, each)]
    if not points:
        return []
    status = await asyncio.to_thread(
        services.store.read_fleet,
        kinds=(),
        max_hosts=MAX_HOSTS,
        canaries=[(CANARY_WORKLOAD.key, each) for each in points],
    )
    rows = [CanaryRow(dims=each, host=name) for name, each in sorted(status.canaries)]
    return [row for row in rows if host in ("", row.host)]


@dataclass(frozen=True, kw_only=True)
class MeasuredRace:
    """A race from the point, and what it says of it."""

    header: CurveHeader
    latency: RaceLatency | None
    """None if the point couldn't be measured."""

    @property
    def doubts(self) -> str:
        """Why the latency may be wrong, in a word or two; empty if nothing is known."""
        if self.header.evidence.disturbed:
            return "disturbed"
        width = None
        if self.latency is not None:
            width = find_width(self.latency.latency_s, (self.latency.low_s, self.latency.high_s))
        return "noisy" if is_noisy(self.header.evidence, width) else ""


@dataclass(frozen=True, kw_only=True)
class RaceHistory:
    """The races from one point on one host, the oldest first."""

    workload: str
    dims: Dims
    host: str
    races: Sequence[MeasuredRace]
    num_left: int
    """Races that aren't in memory yet, and would have taken too long to read now."""
    has_older: bool
    changes: Sequence[PlatformChange]

    @property
    def query(self) -> str:
        """What names it in an address."""
        named = {"workload": self.workload} if self.workload != CANARY_WORKLOAD.key else {}
        query = canary_query(self.dims, self.host)
        return f"{query}&{urlencode(named)}" if named else query

    @property
    def title(self) -> str:
        """The newest latency, compared with those before it under the same conditions."""
        known = [(race.header, race.latency) for race in self.races if race.latency is not None]
        if not known:
            return f"{format_size(self.dims)} couldn't be measured"
        newest, latency = known[-1]
        said = f"{format_size(self.dims)} takes {format_seconds(latency.latency_s)}"
        conditions = (newest.platform_key, newest.protocol_key)
        before_s = []
        for header, each in reversed(known[:-1]):
            if (header.platform_key, header.protocol_key) != conditions:
                break
            before_s.append(each.latency_s)
        if not before_s:
            since = " since the platform changed" if len(known) > 1 else ""
            return f"{said}, measured once{since}"
        change = latency.latency_s / statistics.median(before_s) - 1
        percent = f"{100 * abs(change):.1f} %"
        length = f"{percent} {'longer' if change > 0 else 'shorter'} than"
        if percent == "0.0 %":
            length = "as long as"
        return f"{said}, {length} the median of the {count(len(before_s), 'race')} before"

    def draw(self) -> dict[str, object]:
        """The latencies over time, with changes of the platform."""
        points = [
            HistoryPoint(
                time=race.header.measured_at,
                value=None if race.latency is None else race.latency.latency_s,
                low=None if race.latency is None else race.latency.low_s,
                high=None if race.latency is None else race.latency.high_s,
                is_noisy=bool(race.doubts),
                note=race.doubts if race.doubts == "disturbed" else "",
            )
            for race in self.races
        ]
        return history_figure(points, title=self.title, quantity="latency_s", changes=self.changes)


@dataclass(frozen=True, kw_only=True)
class PointAddress:
    """The point that an address names."""

    dims: str
    host: str
    workload: Annotated[str, Query(description="Key of the workload.")] = CANARY_WORKLOAD.key


async def _find(point: PointAddress, services: Services) -> RaceHistory:
    """The history of that point. Raises InvalidDimsError; UnknownAddressError without a race."""
    dims = parse_dims(point.dims)
    wanted = CurveFilter(workload_key=point.workload, raced_from=dims, host=point.host)
    page = await asyncio.to_thread(services.store.list_curves, wanted, limit=MAX_RACES)
    if not page.items:
        raise UnknownAddressError(
            f"no race has looked at {point.dims} on {point.host}",
            hint="choose a canary from the list of histories",
            see="/ui/history",
        )
    found = await asyncio.to_thread(services.race_latencies.find, page.items)
    races = [
        MeasuredRace(header=header, latency=found[header.id])
        for header in sorted(page.items, key=lambda header: (header.measured_at, header.id))
        if header.id in found
    ]
    return RaceHistory(
        workload=point.workload,
        dims=dims,
        host=point.host,
        races=races,
        num_left=len(page.items) - len(races),
        has_older=page.next_cursor is not None,
        changes=await find_changes([race.header for race in races], services.store),
    )


@router.get("")
async def show_canary(
    request: Request, services: ServicesDep, point: Annotated[PointAddress, Depends()]
) -> Response:
    """One point over time: its figure, and every race as a row."""
    history = await _find(point, services)
    host = await asyncio.to_thread(services.store.get_host, history.host)
    rows = [(race, is_stale(race.header, host)) for race in reversed(history.races)]
    return render(request, "canary.html", history=history, rows=rows, most=MAX_RACES)


@router.get("/figure")
async def draw_canary(services: ServicesDep, point: Annotated[PointAddress, Depends()]) -> Response:
    """The figure of that point over time."""
    figure = (await _find(point, services)).draw()
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")
