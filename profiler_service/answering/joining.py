"""Turns what a machine says when it joins into domain objects, and its credentials into a URL.

Knows no HTTP and doesn't use the store.
"""

from __future__ import annotations

from profiler_service.analysis.samples import Platform
from profiler_service.errors import ConflictError, InvalidRequestError
from profiler_service.loopback import is_loopback
from profiler_service.settings import Settings
from profiler_service.storage.database import (
    PLAIN_PARAMETERS,
    describe,
    find_sqlite_path,
    parse_url,
)
from profiler_service.storage.store import Joined, Joining
from profiler_service.wire import JoinRequest, PlatformInfo


def read_platform(info: PlatformInfo) -> Platform:
    """The platform in a resource. Raises InvalidRequestError if its key is another one's."""
    platform = Platform(
        device=info.device,
        device_model=info.device_model,
        memory_bytes=info.memory_bytes,
        driver=info.driver,
        framework=info.framework,
        libraries=tuple(sorted(info.libraries.items())),
        threads=info.threads,
        cpus=info.cpus,
        flags=tuple(sorted(info.flags.items())),
    )
    if platform.key != info.key:
        raise InvalidRequestError(
            f"the platform has key {platform.key}, not {info.key}",
            hint="install the version of the service on the machine that joins",
        )
    return platform


def read_joining(asked: JoinRequest) -> Joining:
    """What the machine says of itself. Raises InvalidRequestError."""
    return Joining(
        name=asked.name,
        machine=asked.machine,
        node=asked.node,
        platform=read_platform(asked.platform),
        protocol_key=asked.protocol,
        dtypes=tuple(asked.dtypes),
        backends={name: tuple(dtypes) for name, dtypes in asked.backends.items()},
        findings=asked.findings,
    )


def database_url_of(joined: Joined, settings: Settings) -> str:
    """The URL with which the host uses the database; empty until it is let in.

    Of the service's own, it has what says where the database is, and no secret.
    """
    if not (joined.role and joined.host.status.is_admitted):
        return ""
    url = parse_url(settings.join_database or settings.database_url)
    url = url.set(
        drivername="postgresql",
        username=joined.role,
        password=joined.password,
        query={name: value for name, value in url.query.items() if name in PLAIN_PARAMETERS},
    )
    return url.render_as_string(hide_password=False)


def check_reachable(settings: Settings, address: str) -> None:
    """Returns if a machine at `address` may reach the database as the URL for hosts names it.

    Raises ConflictError if it is another machine, and the URL means this one.
    """
    url = parse_url(settings.join_database or settings.database_url)
    is_here = not url.host or is_loopback(url.host)
    if find_sqlite_path(url) is None and is_here and address and not is_loopback(address):
        raise ConflictError(
            f"{describe(url)} can't be reached from {address}",
            hint="set LHP_JOIN_DATABASE where the service runs, to PostgreSQL as other machines"
            " reach it: postgresql://HOST/DATABASE",
        )
