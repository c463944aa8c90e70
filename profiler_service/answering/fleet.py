"""Which hosts belong to the fleet, and which of them a question is about. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from profiler_service.analysis.samples import Platform
from profiler_service.answering.questions import Label, Where
from profiler_service.errors import InvalidRequestError, UnknownHostError
from profiler_service.plan.turns import OpenSweep
from profiler_service.storage.records import Host, HostStatus

MOST_LISTED: Final = 8
"""Most platforms that an error lists."""


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """The open sweeps of one host."""

    sweeps: Sequence[OpenSweep] = ()
    spec_keys: frozenset[str] = frozenset()
    """What they measure: `SweepSpec.key`."""

    @property
    def awaited_s(self) -> float:
        """Expected measuring time of those that questions wait for, seconds."""
        return sum(each.left_s() for each in self.sweeps if each.is_awaited)

    @property
    def total_s(self) -> float:
        """Expected measuring time of all, seconds."""
        return sum(each.left_s() for each in self.sweeps)


def read_loads(found: Mapping[str, Sequence[tuple[str, OpenSweep]]]) -> dict[str, HostLoad]:
    """The load of each host, by name, from its open sweeps with the keys of their specs."""
    return {
        name: HostLoad(
            sweeps=[sweep for _, sweep in its], spec_keys=frozenset(key for key, _ in its)
        )
        for name, its in found.items()
    }


def list_active(hosts: Iterable[Host]) -> list[Host]:
    """The hosts that belong to the fleet now: neither pending, nor quarantined, nor retired."""
    return [each for each in hosts if each.status in (HostStatus.APPROVED, HostStatus.DRAINING)]


def read_label(text: str) -> Label:
    """The label in `pool:train` or `pool=train`. Raises InvalidRequestError for another text."""
    for separator in ":=":
        name, found, value = text.partition(separator)
        if found and name.strip() and value.strip():
            return name.strip(), value.strip()
    raise InvalidRequestError(
        f"label={text[:80]!r} is no label", hint="write its name and its value: pool:train"
    )


def list_labelled(hosts: Iterable[Host], label: Label) -> list[Host]:
    """The active hosts with that label. Raises UnknownHostError if there is none."""
    active = list_active(hosts)
    found = [each for each in active if each.labels.get(label[0]) == label[1]]
    if not found:
        known = sorted(
            {f"{name}:{value}" for each in active for name, value in each.labels.items()}
        )
        raise UnknownHostError(
            f"no host has the label {label[0]}:{label[1]}",
            hint=f"labels are: {', '.join(known[:MOST_LISTED])}" if known else "no host has one",
            see="/hosts",
        )
    return found


def choose_platform(
    where: Where, hosts: Mapping[str, Host], platforms: Mapping[str, Platform], *, own: str
) -> Where:
    """The same, about one platform: without host and platform, the only one there is.

    Of the hosts with the label, if there is one. A service whose own host is the only one keeps to
    that host, whatever its platform. Raises InvalidRequestError if there are several platforms,
    UnknownHostError if no such host has the label.
    """
    if where.host is not None or (where.platform is not None and where.label is None):
        return where
    if where.label is None:
        among = list_active(hosts.values())
        if {each.name for each in among} <= {own}:
            return where
    else:
        among = list_labelled(hosts.values(), where.label)
        if where.platform is not None:
            among = [each for each in among if each.platform_key == where.platform]
    keys = {each.platform_key for each in among}
    if len(keys) == 1:
        return replace(where, platform=keys.pop())
    if not keys:
        raise UnknownHostError(
            f"no host with that label is on platform {where.platform}",
            hint="leave out `label` or `platform`",
            see="/hosts",
        )
    raise InvalidRequestError(
        f"there are {len(keys)} platforms, and an answer is about one: {_list(among, platforms)}",
        hint="name one with `platform`, `host` or `label`; platforms=all asks for one answer for"
        " all of them",
        see="/platforms",
    )


def _list(hosts: Iterable[Host], platforms: Mapping[str, Platform]) -> str:
    """Each platform once: its key, its device and its hosts."""
    names: dict[str, list[str]] = {}
    for each in sorted(hosts, key=lambda host: host.name):
        names.setdefault(each.platform_key, []).append(each.name)
    listed = [
        f"{key} ({platforms[key].device_model}: {', '.join(on_it[:MOST_LISTED])})"
        for key, on_it in list(names.items())[:MOST_LISTED]
    ]
    return "; ".join([*listed, *(["…"] if len(names) > MOST_LISTED else [])])


def choose_least_loaded(
    names: Collection[str], loads: Mapping[str, HostLoad], *, spec_key: str | None
) -> str:
    """The host that has such a sweep already; else the one that is free soonest for a question."""

    def rank(name: str) -> tuple[bool, float, float, str]:
        load = loads.get(name, HostLoad())
        return spec_key not in load.spec_keys, load.awaited_s, load.total_s, name

    return min(names, key=rank)
