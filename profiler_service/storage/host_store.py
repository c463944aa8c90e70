"""The part of the store that keeps hosts, their leases and their platforms.

Others use it as part of `store.Store`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from profiler_service.access.caller import Caller
from profiler_service.access.join_keys import JoinKey, JoinTerms
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import ConflictError, InvalidRequestError, JoinKeyRefusedError
from profiler_service.storage import audit, facts, hosts, joining, leases, monitoring, roles, sweeps
from profiler_service.storage.platform_change_store import PlatformChangeStore
from profiler_service.storage.postgres import wait_for_notification
from profiler_service.storage.records import (
    Fact,
    FleetStatus,
    Host,
    HostStatus,
    Joined,
    Joining,
    Page,
)
from profiler_service.storage.statements import check_page
from profiler_service.workload import Dims


class HostStore(PlatformChangeStore):
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
        quarantine_changed: bool = False,
    ) -> Host:
        """The host `name`, now on `platform` and seen just now; registers both if new.

        `protocol` is how it takes time from now on, `backends` the dtypes that each backend of
        products multiplies; None stands for `dense` alone. A host that joined with a key keeps the
        platform that was approved, and is quarantined while it offers another one; with
        `quarantine_changed`, so does any other. Where the platform changes, that is kept as a
        `PlatformChange`. Raises InvalidRequestError for a name that a host can't have;
        HostRefusedError for a removed host.
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
                quarantine_changed=quarantine_changed,
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

    def change_host(
        self,
        name: str,
        *,
        new_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        status: HostStatus | None = None,
        split_to: str | None = None,
        by: Caller | None = None,
    ) -> Host:
        """The host after all of these changes; after an error, none of them is made.

        `labels` are all that it has from now on. Approving a host whose platform has changed
        accepts the new platform; with `split_to`, the new platform is a new host of that name,
        which is returned, and the host before is retired. What a caller changes, `by`, is in the
        audit trail.

        Raises UnknownHostError; InvalidRequestError for a name that a host can't have;
        ConflictError if another host has it, while a worker measures or sweeps wait under the old
        name, if a host shall drain that was never let in, or be split whose platform is the same.
        """
        with self._write() as connection:
            host = hosts.get_host(connection, name)
            if new_name is not None:
                host = hosts.rename_host(connection, name, new_name)
            if labels is not None:
                host = hosts.set_labels(connection, host.name, labels)
            if status is not None:
                host = hosts.set_status(connection, host.name, status)
            if split_to is not None:
                host = hosts.split_host(connection, host.name, split_to)
            if by is not None:
                changes: Mapping[str, object] = {
                    "name": new_name,
                    "labels": labels,
                    "status": status,
                    "split_to": split_to,
                }
                details = {key: str(value) for key, value in changes.items() if value is not None}
                audit.add_entry(connection, by, "host.change", name, details)
            return host

    def set_labels(self, name: str, labels: Mapping[str, str]) -> Host:
        """As `change_host`."""
        return self.change_host(name, labels=labels)

    def set_status(self, name: str, status: HostStatus) -> Host:
        """As `change_host`."""
        return self.change_host(name, status=status)

    def rename_host(self, name: str, new_name: str) -> Host:
        """As `change_host`."""
        return self.change_host(name, new_name=new_name)

    def remove_host(self, name: str, *, by: Caller | None = None) -> Host:
        """The host, which is retired: its open sweeps fail, and its connections are ended.

        What it measured stays. Raises UnknownHostError.
        """
        with self._write() as connection:
            host = hosts.remove_host(connection, name)
            if by is not None:
                audit.add_entry(connection, by, "host.remove", name)
        if host.role:
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

    def find_newest_noise(self, host_names: Collection[str]) -> list[Fact]:
        """The facts with a noise of the newest race on each of these hosts that has any."""
        with self._read() as connection:
            return facts.find_newest_noise(connection, host_names)

    def find_race_age(self, host: Host, workload_key: str, dims: Sequence[int]) -> float | None:
        """Seconds since the newest race from that point on the host as it is now; None without one.

        By the database's clock.
        """
        with self._read() as connection:
            return monitoring.find_race_age(connection, host, workload_key, dims)

    def check_shareable(self) -> None:
        """Returns if other machines can use the database. Raises ConflictError on SQLite."""
        if self.shared_pool is None:
            raise ConflictError(
                "this installation keeps its data in a SQLite file, which only this machine can"
                " use",
                hint="for several machines, use PostgreSQL: LHP_DATABASE_URL=postgresql://…",
            )

    def create_join_key(
        self, terms: JoinTerms, *, lifetime_s: float, by: Caller | None = None
    ) -> tuple[JoinKey, str]:
        """The new key and its text, which can't be read again.

        What a caller makes, `by`, is in the audit trail. Raises ConflictError on SQLite, which only
        one machine can use; InvalidRequestError for a name that a host can't have.
        """
        self.check_shareable()
        with self._write() as connection:
            silent = joining.retire_silent(connection)
            made = joining.create_join_key(connection, terms, lifetime_s=lifetime_s, by=by)
        self._drop_roles(silent)
        return made

    def list_join_keys(self, *, cursor: str | None = None, limit: int = 50) -> Page[JoinKey]:
        """Join keys, newest first. Raises InvalidRequestError for a wrong cursor."""
        check_page(cursor=cursor, limit=limit)
        with self._read() as connection:
            return joining.list_join_keys(connection, cursor=cursor, limit=limit)

    def revoke_join_key(self, key_id: str, *, by: Caller) -> JoinKey:
        """The key, which lets nobody in any more. Raises UnknownJoinKeyError."""
        with self._write() as connection:
            return joining.revoke_join_key(connection, key_id, by=by)

    def join(self, key: str, machine: Joining, *, by: Caller | None = None) -> Joined:
        """The machine as a host. If it may measure, with a new role's credentials in PostgreSQL.

        The sessions of a role that it had before are ended. What a caller does, `by`, is in the
        audit trail; a refusal, too, if the key is one of this installation: others are guesses.

        Raises JoinKeyRefusedError; ConflictError if the name belongs to another machine or a worker
        measures under it, and on SQLite; InvalidRequestError for a name that a host can't have.
        """
        self.check_shareable()
        joining.read_text(key)  # refuses most of what is no key without asking the database
        with self._read() as connection:
            known = joining.find_key(connection, key)
        try:
            with self._write() as connection:
                void_roles = joining.retire_silent(connection)
                joined = joining.join(connection, known.id, machine, by=by)
        except (JoinKeyRefusedError, ConflictError, InvalidRequestError) as refusal:
            if by is not None:
                subject = known.terms.name or machine.name
                details = {"key": known.id, "machine": machine.machine, "reason": str(refusal)}
                with self._write() as connection:
                    audit.add_entry(connection, by, "host.join.refused", subject, details)
            raise
        self._drop_roles([*void_roles, *filter(None, [joined.void_role])])
        return joined

    def _drop_roles(self, names: Iterable[str]) -> None:
        """Ends the sessions of roles that nobody may use any more, and drops them."""
        for name in names:
            with self._write() as connection:
                roles.drop_role(connection, name)

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
