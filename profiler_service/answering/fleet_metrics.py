"""What the database knows of all hosts, for Prometheus. Knows no HTTP; belongs to one event loop.

It is read when somebody asks, at most once in READ_EVERY_S. While the database is away, what was
read last stays, and `lhp_database_up` is 0.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from cachetools import LRUCache
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from profiler_service.analysis.canaries import HostComparison
from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.host_states import is_present
from profiler_service.errors import StoreError
from profiler_service.storage.store import FleetStatus

READ_EVERY_S = 5.0
ANSWER_S = 1.0
"""So long does a scrape wait for the database. What it says later is for the next one."""
MAX_HOSTS = 500
"""So many hosts are shown, each with at most about 60 lines."""
MAX_CANARY_CURVES = 10_000
"""One number each: those of MAX_HOSTS with the most canaries."""


class FleetMetrics:
    """Reads the state of all hosts, and renders it with what the process counts of itself."""

    def __init__(
        self,
        read: Callable[[], FleetStatus],
        *,
        is_database_up: Callable[[], bool],
        presence_s: float,
        load_curve: Callable[[str], LatencyCurve],
        compare_hosts: Callable[[], Mapping[str, HostComparison]],
    ) -> None:
        """`read`, `load_curve` and `compare_hosts` ask the store, and raise StoreError.

        `presence_s`: see `Settings.presence_s`.
        """
        self._read_status = read
        self._load_curve = load_curve
        self._compare_hosts = compare_hosts
        self._compared: Mapping[str, HostComparison] = {}
        self._latency_s: LRUCache[str, float] = LRUCache(MAX_CANARY_CURVES)
        """Of curves of canaries at their first point. A stored curve never changes."""
        self._is_database_up = is_database_up
        self._presence_s = presence_s
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="metrics")
        """Of its own: those of others may all wait for the database."""
        self._reading: Future[FleetStatus] | None = None
        self._read_at_s = float("-inf")
        self._status: FleetStatus | None = None

    def _read(self) -> FleetStatus:
        """The status; what its canaries say is known from now on. In a thread."""
        status = self._read_status()
        for curve_id in status.canaries.values():
            if curve_id not in self._latency_s:
                # A race's question is about its first point.
                self._latency_s[curve_id] = float(self._load_curve(curve_id).latency_s[0])
        self._compared = self._compare_hosts()
        return status

    async def close(self) -> None:
        """Returns when nothing reads the store any more."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def render(self, own: CollectorRegistry) -> bytes:
        """Everything in Prometheus' text format: what `own` has, and the state of all hosts."""
        is_up = await self._refresh()
        collector = _FleetCollector(
            self._status,
            is_up=is_up,
            presence_s=self._presence_s,
            latency_s=dict(self._latency_s),
            compared=self._compared,
        )
        registry = CollectorRegistry()
        registry.register(collector)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: generate_latest(own) + generate_latest(registry)
        )

    async def _refresh(self) -> bool:
        """Whether the database could be read as often as wanted."""
        if not self._is_database_up():
            return False
        if time.monotonic() - self._read_at_s < READ_EVERY_S:
            return True
        if self._reading is None:
            self._reading = self._threads.submit(self._read)
        reading = asyncio.wrap_future(self._reading)
        reading.add_done_callback(lambda each: each.cancelled() or each.exception())
        await asyncio.wait({reading}, timeout=ANSWER_S)
        if not reading.done():
            return False
        self._reading = None
        try:
            self._status = reading.result()
        except StoreError:
            return False
        self._read_at_s = time.monotonic()
        return True


class _FleetCollector(Collector):
    """The metrics of one status."""

    def __init__(
        self,
        status: FleetStatus | None,
        *,
        is_up: bool,
        presence_s: float,
        latency_s: Mapping[str, float],
        compared: Mapping[str, HostComparison],
    ) -> None:
        self._latency_s = latency_s
        self._compared = compared
        self._status = status
        self._is_up = is_up
        self._presence_s = presence_s

    def collect(self) -> Iterable[Metric]:
        """Each metric with its values."""
        yield GaugeMetricFamily(
            "lhp_database_up",
            "Whether the database answers. While it doesn't, hosts are as they were read last.",
            value=float(self._is_up),
        )
        if self._status is not None:
            yield from self._collect_hosts(self._status)

    def _collect_hosts(self, status: FleetStatus) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "lhp_host_up",
            "Whether the host's worker has lately given a sign of life.",
            labels=["host"],
        )
        age = GaugeMetricFamily(
            "lhp_host_heartbeat_age_seconds",
            "Time since the host's last sign of life, by the database's clock.",
            labels=["host"],
        )
        info = GaugeMetricFamily(
            "lhp_host_info",
            "Always 1: the platform that a host is, and what operators decided about it.",
            labels=["host", "platform", "status"],
        )
        depth = GaugeMetricFamily(
            "lhp_queue_depth", "Sweeps of the host that haven't ended.", labels=["host"]
        )
        ended = CounterMetricFamily(
            "lhp_sweeps",
            "Sweeps that ended, by their final state.",
            labels=["host", "mode", "state"],
        )
        discarded = CounterMetricFamily(
            "lhp_samples_discarded", "Samples discarded for what disturbed them.", labels=["host"]
        )
        redundancy = GaugeMetricFamily(
            "lhp_curve_redundancy_ratio",
            "Share of points that are no LHPs, of the host's newest grid of a workload kind.",
            labels=["host", "kind"],
        )
        for host in status.hosts:
            name = [host.name]
            up.add_metric(name, float(is_present(host, presence_s=self._presence_s)))
            age.add_metric(name, max(host.silent_s, 0.0))
            info.add_metric([host.name, host.platform_key, host.status.value], 1.0)
            depth.add_metric(name, status.num_open.get(host.name, 0))
            discarded.add_metric(name, status.num_discarded.get(host.name, 0))
        for labels, number in status.num_ended.items():
            ended.add_metric(labels, number)
        canary = GaugeMetricFamily(
            "lhp_canary_latency_seconds",
            "Newest latency of `linear` at a configured point.",
            labels=["host", "dims"],
        )
        for (host_name, dims), curve_id in status.canaries.items():
            latency_s = self._latency_s.get(curve_id, math.nan)
            if math.isfinite(latency_s):
                canary.add_metric([host_name, ",".join(map(str, dims))], latency_s)
        ratios = GaugeMetricFamily(
            "lhp_canary_ratio",
            "The host's latency at the canaries, divided by that of another host of its platform:"
            " the median over these.",
            labels=["host"],
        )
        deviates = GaugeMetricFamily(
            "lhp_host_deviates",
            "Whether the host differs from most others of its platform at the canaries.",
            labels=["host"],
        )
        for host in status.hosts:
            if (comparison := self._compared.get(host.name)) is not None:
                ratios.add_metric([host.name], comparison.ratio)
                deviates.add_metric([host.name], float(comparison.deviates is not None))
        for pair, ratio in status.redundancy.items():
            redundancy.add_metric(pair, ratio)
        yield from (up, age, info, depth, ended, discarded, redundancy, canary, ratios, deviates)
