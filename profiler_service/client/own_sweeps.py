"""The client's methods about sweeps of a user's own code, which the caller measures."""

from __future__ import annotations

import functools
from urllib.parse import quote

import httpx

from profiler_service.client.operation import operation
from profiler_service.client.problems import parse
from profiler_service.client.retries import Deadline
from profiler_service.client.transport import Call
from profiler_service.errors import LhpError
from profiler_service.wire import OwnBatch, OwnSweepEnd, OwnSweepRequest, SweepInfo

_segment = functools.partial(quote, safe="")


class OwnSweepOperations:
    """Part of `service.Service`."""

    async def _send(
        self,
        call: Call,
        deadline: Deadline | None = None,
        *,
        but_not: tuple[type[LhpError], ...] = (),
    ) -> httpx.Response:
        """The response to the call, tried again where that may help, but not after `but_not`."""
        raise NotImplementedError

    @operation
    async def open_own_sweep(self, request: OwnSweepRequest) -> SweepInfo:
        """A new sweep, which the caller measures. Tried once: each request begins another one."""
        call = Call(method="POST", path="/own-sweeps", body=request)
        return parse(SweepInfo, await self._send(call, but_not=(LhpError,)))

    @operation
    async def add_own_batch(self, sweep_id: str, batch: OwnBatch) -> SweepInfo:
        """The sweep with that batch; to send one again changes nothing.

        Raises ConflictError if the sweep has ended.
        """
        path = f"/own-sweeps/{_segment(sweep_id)}/batches"
        return parse(SweepInfo, await self._send(Call(method="POST", path=path, body=batch)))

    @operation
    async def end_own_sweep(self, sweep_id: str, end: OwnSweepEnd) -> SweepInfo:
        """The sweep, ended, with its curve. Raises ConflictError, ReplayError, NotReadyError."""
        path = f"/own-sweeps/{_segment(sweep_id)}/end"
        return parse(SweepInfo, await self._send(Call(method="POST", path=path, body=end)))
