"""The client's methods about sweeps of several hosts."""

from __future__ import annotations

import functools
from urllib.parse import quote

import httpx

from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.transport import Call
from profiler_service.wire import FleetSweepInfo, FleetSweepRequest

_segment = functools.partial(quote, safe="")


class FleetSweepOperations:
    """Part of `service.Service`."""

    async def _request(self, call: Call) -> httpx.Response:
        """The response to the call, tried again where that may help."""
        raise NotImplementedError

    @operation
    async def create_fleet_sweep(self, request: FleetSweepRequest) -> FleetSweepInfo:
        """The sweep on each host with the label; an equal one that is open already is the same."""
        call = Call(method="POST", path="/fleet-sweeps", body=request)
        return parse(FleetSweepInfo, await self._request(call))

    @operation
    async def get_fleet_sweep(self, fleet_sweep_id: str) -> FleetSweepInfo:
        """The sweep of several hosts with that id."""
        call = Call(path=f"/fleet-sweeps/{_segment(fleet_sweep_id)}")
        return parse(FleetSweepInfo, await self._request(call))

    @operation
    async def cancel_fleet_sweep(self, fleet_sweep_id: str) -> FleetSweepInfo:
        """The sweep of several hosts, asked to stop on each."""
        call = Call(method="POST", path=f"/fleet-sweeps/{_segment(fleet_sweep_id)}/cancel")
        return parse(FleetSweepInfo, await self._request(call))
