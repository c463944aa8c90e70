"""What a host's state is, from what operators decided, its heartbeat and its sweeps.

    pending → approved → ready ⇄ busy → draining → retired

`away` stands for ready and busy while nothing is heard of the worker, and `quarantined` for all
before retired until an operator decides. Knows no HTTP and doesn't use the store.
"""

from __future__ import annotations

from profiler_service.analysis.canaries import HostComparison
from profiler_service.storage.store import CLOCK_SKEW_S, Host, HostStatus
from profiler_service.wire import HostInfo, HostState, PlatformChangeInfo


def is_present(host: Host, *, presence_s: float) -> bool:
    """Whether the host's worker was heard of within the last `presence_s` seconds.

    By the database's clock, when the host was read. A time long after that is no sign of life:
    older versions stored the time of the host's own clock.
    """
    return abs(host.silent_s) <= presence_s


def find_state(host: Host, *, presence_s: float, is_busy: bool) -> HostState:
    """The host's state; `is_busy` is whether it runs a sweep."""
    if host.status is not HostStatus.APPROVED:
        return HostState(host.status.value)
    if host.role is not None and host.last_seen_at == host.registered_at:
        return HostState.APPROVED  # its worker has said nothing since it joined
    if is_present(host, presence_s=presence_s):
        return HostState.BUSY if is_busy else HostState.READY
    return HostState.AWAY


def describe_wrong(
    host: Host, comparison: HostComparison | None = None, *, offered: str = ""
) -> str:
    """What an operator should know of the host, in words; empty if nothing is wrong.

    `comparison` is that with the other hosts of its platform, if there is one; `offered` says how
    the platform that it offers differs.
    """
    wrong = []
    if host.offered_platform_key is not None:
        wrong.append(
            f"its platform has changed from {host.platform_key} to {host.offered_platform_key}"
            + (f" ({offered})" if offered else "")
        )
    wrong += [f"{name}: {found}" for name, found in host.findings.items()]
    if host.clock_skew_s is not None and abs(host.clock_skew_s) > CLOCK_SKEW_S:
        direction = "ahead of" if host.clock_skew_s > 0 else "behind"
        wrong.append(f"its clock is {abs(host.clock_skew_s):g} s {direction} the database's")
    if comparison is not None and comparison.deviates is not None:
        others = "the other host" if comparison.num_others == 1 else "most other hosts"
        wrong.append(
            f"its canaries take {comparison.ratio:.2f} times as long as on {others} of its platform"
        )
    return "; ".join(wrong)


def host_info(
    host: Host,
    *,
    presence_s: float,
    is_busy: bool = False,
    comparison: HostComparison | None = None,
    change: PlatformChangeInfo | None = None,
    offered: str = "",
) -> HostInfo:
    """The host as a resource; `is_busy` is whether it runs a sweep.

    `comparison` and `offered`: see `describe_wrong`. `change` brought it to its platform.
    """
    return HostInfo(
        name=host.name,
        state=find_state(host, presence_s=presence_s, is_busy=is_busy),
        labels=dict(host.labels),
        ephemeral=host.is_ephemeral,
        wrong=describe_wrong(host, comparison, offered=offered),
        platform=host.platform_key,
        protocol=host.protocol_key,
        dtypes=list(host.dtypes),
        backends={name: list(dtypes) for name, dtypes in host.backends.items()},
        registered_at=host.registered_at,
        last_seen_at=host.last_seen_at,
        silent_s=round(host.silent_s, 1),
        clock_skew_s=host.clock_skew_s,
        present=is_present(host, presence_s=presence_s),
        platform_change=change,
    )
