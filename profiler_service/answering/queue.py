"""Asking hosts to measure: the checks before it, and waiting for it.

Knows neither HTTP nor how a sweep is carried out. A SweepDesk belongs to one event loop; the
store is called from threads only.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace

from profiler_service.analysis.samples import Platform
from profiler_service.answering.closing import Closing
from profiler_service.answering.duration import check_duration
from profiler_service.answering.race_guide import find_guide
from profiler_service.answering.resources import is_present
from profiler_service.errors import (
    HostAwayError,
    UnknownHostError,
    UnsupportedOnHostError,
    WindowTooLargeError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import get_workload_kind
from profiler_service.kinds.products import backends_of
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import MAX_GROWTH_POINTS, SweepSpec, SweepState
from profiler_service.settings import Settings
from profiler_service.storage.store import Host, Store, Sweep
from profiler_service.workload import Workload

POLL_S = 0.05
HOST_POLL_S = 0.1
MAX_GRID_WINDOW_POINTS = 65_536
"""Most points in a window where every one must be looked at before a query is answered."""


def max_window_points(mode: Mode, settings: Settings) -> int:
    """Most points in a window that is measured in that mode to answer a query."""
    if mode == "race":
        return settings.max_window_points
    return min(settings.max_window_points, MAX_GRID_WINDOW_POINTS)


def check_affordable(
    workload: Workload, grid: Grid, host: Host, platform: Platform, *, max_operand_bytes: int
) -> None:
    """Returns where `host` can multiply operands as large as the grid's largest point has.

    Raises UnsupportedOnHostError, WindowTooLargeError. Allocates nothing.
    """
    dtype = dict(workload.params).get("dtype")
    if dtype is not None and dtype not in host.dtypes:
        raise UnsupportedOnHostError(
            f"host {host.name!r} ({platform.device_model}) doesn't multiply {dtype}",
            hint=f"choose dtype from: {', '.join(host.dtypes)}; or another host",
        )
    kind = get_workload_kind(workload.kind)
    backend, backends = str(dict(workload.params).get("backend")), backends_of(kind)
    if backend in backends and dtype not in host.backends.get(backend, ()):
        having = [name for name in backends if dtype in host.backends.get(name, ())]
        raise UnsupportedOnHostError(
            f"host {host.name!r} ({platform.device_model}) has no {backend} product of {dtype}",
            hint=f"choose backend from: {', '.join(having)}; or another dtype or host",
        )
    size_bytes = kind.operand_bytes(grid.last, dict(workload.params))
    limit_bytes = min(max_operand_bytes, platform.memory_bytes // 4)
    if size_bytes > limit_bytes:
        raise WindowTooLargeError(
            f"operands at {','.join(map(str, grid.last))} take {size_bytes / 2**20:,.0f} MiB;"
            f" on host {host.name!r} at most {limit_bytes / 2**20:,.0f} MiB are measured",
            hint="ask for smaller dims, less growth, a smaller batch or a narrower dtype",
        )


class SweepDesk:
    """Hands sweeps in, and waits for them."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        enqueue: Callable[[Sweep], None],
        closing: Closing,
    ) -> None:
        self._store = store
        self._closing = closing
        self._settings = settings
        self._enqueue = enqueue
        self._opened_at_s = time.monotonic()
        self._waiting: dict[str, list[asyncio.Future[Sweep]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends the polling. Call it when no request waits any longer."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def get_present_host(self, name: str, *, wait_s: float = 0) -> Host:
        """The host called `name`, whose worker is running.

        This machine's own host is waited for while it hasn't registered, or was gone before
        this service started: service and worker start together, and the worker takes longer.

        Raises UnknownHostError, HostAwayError.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            host = await asyncio.to_thread(self._find_host, name)
            if host is not None and is_present(host, presence_s=self._settings.presence_s):
                return host
            if host is None and name != self._settings.host:
                raise UnknownHostError(
                    f"there is no host {name!r}",
                    hint="ask for one that has registered",
                    see="/hosts",
                )
            now_s = time.monotonic()
            starting = now_s - self._opened_at_s < self._settings.presence_s
            may_come = name == self._settings.host and (host is None or starting)
            if not may_come or now_s >= deadline_s or self._closing.has_begun:
                raise HostAwayError(
                    f"host {name!r} has no running worker"
                    + ("" if host is None else f" (last heard of {host.last_seen_at:%F %T} UTC)"),
                    hint="start it there with `lhp worker`, or ask for another host",
                    see="/hosts",
                )
            await self._closing.wait(timeout_s=min(HOST_POLL_S, deadline_s - now_s))

    def _find_host(self, name: str) -> Host | None:
        try:
            return self._store.get_host(name)
        except UnknownHostError:
            return None

    async def get_present_host_on(self, platform_key: str) -> Host:
        """A host that is on that platform now, with a running worker. HostAwayError for none."""
        for host in await asyncio.to_thread(self._store.list_hosts):
            if host.platform_key == platform_key and is_present(
                host, presence_s=self._settings.presence_s
            ):
                return host
        raise HostAwayError(
            f"no host on platform {platform_key} has a running worker",
            hint="start one with `lhp worker`, or leave out `platform`",
            see="/hosts",
        )

    async def submit(
        self,
        workload: Workload,
        grid: Grid,
        host: Host,
        *,
        mode: Mode,
        max_points: int,
        budget_s: float | None = None,
    ) -> tuple[Sweep, bool]:
        """A sweep over `grid` on `host`, and whether it is new; equal requests share one.

        Raises WindowTooLargeError, UnsupportedOnHostError.
        """
        await self.check(workload, grid, host, mode=mode, max_points=max_points, budget_s=budget_s)
        spec = SweepSpec(
            workload=workload,
            mode=mode,
            grid=grid,
            seed=random.SystemRandom().getrandbits(31),
            budget_s=budget_s,
        )
        if mode in ("race", "survey"):
            guide = await asyncio.to_thread(find_guide, self._store, workload, grid, host)
            spec = replace(spec, guide=guide)
        return await asyncio.to_thread(self._create, spec, host.name)

    async def check(
        self,
        workload: Workload,
        grid: Grid,
        host: Host,
        *,
        mode: Mode,
        max_points: int,
        budget_s: float | None = None,
    ) -> None:
        """Returns where such a sweep may be submitted.

        Raises WindowTooLargeError, UnsupportedOnHostError.
        """
        if grid.size > max_points:
            raise WindowTooLargeError(
                f"{grid.size:,} points are asked for; at most {max_points:,} are measured at once",
                hint="ask for fewer: smaller dims, a smaller max_growth, or larger steps",
            )
        if mode in ("race", "survey") and max(grid.shape) > MAX_GROWTH_POINTS + 1:
            raise WindowTooLargeError(
                f"an axis of {max(grid.shape):,} points is too long to be raced over;"
                f" at most {MAX_GROWTH_POINTS + 1:,} are",
                hint="ask for fewer: a smaller range, or larger steps",
            )
        platform = await asyncio.to_thread(self._store.get_platform, host.platform_key)
        check_affordable(
            workload,
            grid,
            host,
            platform,
            max_operand_bytes=self._settings.max_operand_bytes,
        )
        if budget_s is None:
            await asyncio.to_thread(
                check_duration,
                self._store,
                workload,
                grid,
                host,
                mode=mode,
                max_sweep_s=self._settings.max_sweep_s,
            )

    def _create(self, spec: SweepSpec, host: str) -> tuple[Sweep, bool]:
        sweep, is_new = self._store.create_sweep(spec, host=host)
        # Not only new ones: a process may have died between creating and enqueueing.
        if sweep.state == SweepState.QUEUED:
            self._enqueue(sweep)
        return sweep, is_new

    async def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is now. Raises StoreError."""
        return await asyncio.to_thread(self._store.get_sweep, sweep_id)

    async def wait_final(self, sweep_id: str) -> Sweep:
        """The sweep once it has ended. All who wait share one poller. Raises StoreError."""
        ended: asyncio.Future[Sweep] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sweep_id, []).append(ended)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            return await ended
        finally:
            self._waiting[sweep_id].remove(ended)
            if not self._waiting[sweep_id]:
                del self._waiting[sweep_id]

    async def _poll(self) -> None:
        while self._waiting:
            ids = list(self._waiting)
            try:
                sweeps = await asyncio.to_thread(
                    lambda ids: [self._store.get_sweep(i) for i in ids], ids
                )
            except Exception as error:  # noqa: BLE001  handed on to everyone who waits
                for sweep_id in ids:
                    for ended in self._waiting.get(sweep_id, ()):
                        if not ended.done():
                            ended.set_exception(error)
            else:
                for sweep in sweeps:
                    for ended in self._waiting.get(sweep.id, ()):
                        if sweep.state.is_final and not ended.done():
                            ended.set_result(sweep)
            await asyncio.sleep(POLL_S)
