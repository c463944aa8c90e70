"""Hosts and platforms, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.storage.store import Host, Store
from tests.storage.examples import PROTOCOL, create_platform


def test_registered_host_is_found_as_registered(store: Store) -> None:
    before = dt.datetime.now(dt.UTC)
    host = store.register_host(
        "east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "bfloat16"]
    )
    after = dt.datetime.now(dt.UTC)
    assert (host.name, host.platform_key) == ("east", create_platform().key)
    assert host.protocol_key == PROTOCOL.key
    assert host.dtypes == ("float32", "bfloat16")
    assert before <= host.registered_at == host.last_seen_at <= after
    assert host.registered_at.tzinfo is dt.UTC
    assert store.get_host("east") == host
    assert store.get_platform(create_platform().key) == create_platform()


def test_host_on_a_changed_platform_keeps_its_name_and_first_registration(
    store: Store, host: Host
) -> None:
    changed = create_platform(threads=2)
    flushed = replace(PROTOCOL, cache="flushed")
    again = store.register_host("east", changed, protocol=flushed, dtypes=["float32"])
    assert again.platform_key == changed.key != host.platform_key
    assert again.protocol_key == flushed.key != host.protocol_key
    assert again.dtypes == ("float32",)
    assert again.registered_at == host.registered_at
    assert again.last_seen_at > host.last_seen_at
    assert store.list_hosts() == [again]
    assert store.list_platforms() == [create_platform(), changed]


def test_a_host_s_changed_platform_is_told_in_the_log(
    store: Store, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """So a release that records more of a machine never sets its curves aside silently."""
    same = create_platform()
    store.register_host("east", same, protocol=PROTOCOL, dtypes=["float32"])
    assert not caplog.records
    changed = replace(same, threads=2, flags=(*same.flags, ("microcode", "0x1")))
    store.register_host("east", changed, protocol=PROTOCOL, dtypes=["float32"])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "the platform of host east has changed, so its earlier curves are stale:"
        " threads: 1 → 2; microcode: not recorded → 0x1"
    )


@pytest.mark.parametrize("name", ["", " ", "two\nlines", " a", "x" * 256])
def test_a_name_that_no_host_can_have_registers_nothing(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="the name of a host") as refusal:
        store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=[])
    assert "LHP_HOST" in refusal.value.hint
    assert store.list_hosts() == [] == store.list_platforms()


@pytest.mark.parametrize("name", ["rack[/gpu]", "a host/with odd characters", "größe"])
def test_a_host_may_be_called_anything_that_can_be_printed(store: Store, name: str) -> None:
    store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=[])
    assert store.get_host(name).name == name


def test_hosts_are_listed_by_name(store: Store) -> None:
    for name in ("west", "east", "north"):
        store.register_host(name, create_platform(), protocol=PROTOCOL, dtypes=[])
    assert [host.name for host in store.list_hosts()] == ["east", "north", "west"]
    assert store.list_platforms() == [create_platform()]


def test_heartbeat_moves_only_last_seen(store: Store, host: Host) -> None:
    store.touch_host("east")
    seen = store.get_host("east")
    assert seen.last_seen_at > host.last_seen_at
    assert replace(seen, last_seen_at=host.last_seen_at) == host


def test_a_host_that_gained_a_backend_is_news(store: Store) -> None:
    def register(**backends: list[str]) -> int:
        store.register_host(
            "east",
            create_platform(),
            protocol=PROTOCOL,
            dtypes=["float32"],
            backends=backends,
        )
        return store.generation()

    first = register(dense=["float32"])
    assert register(dense=["float32"]) == first
    assert register(dense=["float32"], packed=["float32"]) == first + 1
    assert store.get_host("east").backends == {"dense": ("float32",), "packed": ("float32",)}
