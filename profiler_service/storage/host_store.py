"""The part of the store that keeps hosts, their leases and their platforms.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from profiler_service.access.caller import Caller
from profiler_service.access.join_keys import JoinKey, JoinTerms
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.storage import hosts, joining, leases, monitoring, roles, sweeps
from profiler_service.storage.open_database import OpenDatabase
from profiler_service.storage.postgres import wait_for_notification
from profiler_service.storage.records import (
    FleetStatus,
    Host,
    HostStatus,
    Joined,
    Joining,
    Page,
)
from profiler_service.storage.statements import check_page
from profiler_service.workload import Dims


class HostStore(OpenDatabase):
    """Hosts, leases and platforms, in SQLite or PostgreSQL. What it raises: see `store.Store`."""

    def take_lease(self, host: str) -> None:
        """Returns when this store's worker holds the host's lease, for `leases.LEASE_S`.

        Raises HostTakenError if another worker holds it.
        """
        with self._write() as connection:
            leases.take_lease(connection, host, self._get_worker())

    def renew_lease(self, host: str) -> None:
        """Makes the lease last anew. Raises HostTakenError if this worker lost it."""
        with self._write() as connection:
            leases.renew_lease(connection, host, self._get_worker())

    def release_lease(self, host: str) -> None:
        """Gives the lease back, if this store's worker holds it."""
        with self._write() as connection:
            leases.release_lease(connection, host, self._get_worker())

    def register_host(
        self,
        name: str,
        platform: Platform,
        *,
        protocol: TimingProtocol,
        dtypes: Sequence[str],
        backends: Mapping[str, Sequence[str]] | None = None,
    ) -> Host:
        """The host `name`, now on `platform` and seen just now; registers both if new.

        `protocol` is how it takes time from now on, `backends` the dtypes that each backend of
        products multiplies; None stands for `dense` alone. A host that joined with a key keeps the
        platform that was approved, and is quarantined while it offers another one. Raises
        InvalidRequestError for a name that a host can't have; HostRefusedError for a removed host.
        """
        with self._write() as connection:
            return hosts.register_host(
                connection,
                name,
                platform,
                protocol=protocol,
                dtypes=dtypes,
                backends=backends,
                worker=self._worker,
            )

    def touch_host(self, name: str) -> tuple[HostStatus, float]:
        """Records a heartbeat. The host's status, and how far this clock is ahead, seconds.

        A worker's heartbeat also renews its lease. Raises UnknownHostError; HostRefusedError if the
        host's worker may not go on.
        """
        with self._write() as connection:
            return hosts.touch_host(connection, name, worker=self._worker)

    def touch_host_at_work(self, name: str) -> tuple[HostStatus, bool]:
        """As `touch_host`; the status, and whether the host has a sweep to measure."""
        with self._write() as connection:
            status, _ = hosts.touch_host(connection, name, worker=self._worker)
            return status, sweeps.has_open(connection, name)

    def wait_for_sweep(self, host: str, timeout_s: float) -> None:
        """Returns when a sweep is created for the host, or after `timeout_s`; or sooner.

        Only on PostgreSQL. In a process that calls it again and again, it needs one connection.
        """
        with self._read() as connection:
            wait_for_notification(connection, sweeps.NEW_SWEEP, host, timeout_s)

    def set_labels(self, name: str, labels: Mapping[str, str]) -> Host:
        """The host, which has these labels and no others from now on. Raises UnknownHostError."""
        with self._write() as connection:
            return hosts.set_labels(connection, name, labels)

    def set_status(self, name: str, status: HostStatus) -> Host:
        """The host in that status. Raises UnknownHostError.

        Approving a host whose platform has changed accepts the new platform.
        """
        with self._write() as connection:
            return hosts.set_status(connection, name, status)

    def rename_host(self, name: str, new_name: str) -> Host:
        """The host under its new name, with everything that it has measured.

        Raises UnknownHostError; InvalidRequestError for a name that a host can't have;
        ConflictError if another host has it, or while a worker measures or sweeps wait under the
        old name.
        """
        with self._write() as connection:
            return hosts.rename_host(connection, name, new_name)

    def remove_host(self, name: str) -> Host:
        """The host, which is retired: its open sweeps fail, and its connections are ended.

        What it measured stays. Raises UnknownHostError.
        """
        with self._write() as connection:
            host = hosts.remove_host(connection, name)
        if host.role is not None:
            with self._write() as connection:
                roles.end_sessions(connection, host.role)
        return host

    def get_host(self, name: str) -> Host:
        """The host called `name`. Raises UnknownHostError."""
        with self._read() as connection:
            return hosts.get_host(connection, name)

    def list_hosts(self) -> list[Host]:
        """Every host, by name."""
        with self._read() as connection:
            return hosts.list_hosts(connection)

    def read_fleet(
        self,
        *,
        kinds: Collection[str],
        max_hosts: int,
        canaries: Collection[tuple[str, Dims]] = (),
    ) -> FleetStatus:
        """What monitoring wants to know of at most `max_hosts` hosts; reads few rows.

        `kinds` are the workload kinds whose redundancy is looked for, `canaries` keys of workloads
        with a point each.
        """
        with self._read() as connection:
            return monitoring.read_status(
                connection, kinds=kinds, max_hosts=max_hosts, canaries=canaries
            )

    def find_race_age(self, host: Host, workload_key: str, dims: Sequence[int]) -> float | None:
        """Seconds since the newest race from that point on the host as it is now; None without one.

        By the database's clock.
        """
        with self._read() as connection:
            return monitoring.find_race_age(connection, host, workload_key, dims)

    def create_join_key(self, terms: JoinTerms, *, lifetime_s: float) -> tuple[JoinKey, str]:
        """The new key and its text, which can't be read again.

        Raises ConflictError on SQLite, which only one machine can use; InvalidRequestError for a
        name that a host can't have.
        """
        with self._write() as connection:
            return joining.create_join_key(connection, terms, lifetime_s=lifetime_s)

    def list_join_keys(self, *, cursor: str | None = None, limit: int = 50) -> Page[JoinKey]:
        """Join keys, newest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return joining.list_join_keys(connection, cursor=cursor, limit=limit)

    def revoke_join_key(self, key_id: str, *, by: Caller) -> JoinKey:
        """The key, which lets nobody in any more. Raises UnknownJoinKeyError."""
        with self._write() as connection:
            return joining.revoke_join_key(connection, key_id, by=by)

    def join(self, key: str, machine: Joining) -> Joined:
        """The machine as a host, with the credentials of its new role in PostgreSQL.

        Raises JoinKeyRefusedError; ConflictError if the name belongs to another machine, and on
        SQLite; InvalidRequestError for a name that a host can't have.
        """
        with self._write() as connection:
            return joining.join(connection, key, machine)

    def find_joined_name(self) -> str | None:
        """The name of the host whose role this store connects as; None if it is no host's."""
        with self._read() as connection:
            return joining.find_joined_name(connection)

    def get_platform(self, key: str) -> Platform:
        """The platform with `key`. Raises UnknownPlatformError."""
        with self._read() as connection:
            return hosts.get_platform(connection, key)

    def list_platforms(self) -> list[Platform]:
        """Every platform ever registered, oldest first."""
        with self._read() as connection:
            return hosts.list_platforms(connection)
